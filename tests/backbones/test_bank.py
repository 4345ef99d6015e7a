"""The backbone `bank`: its posterior mean by hand, its samples, and what it says of strings."""

import math

import pytest
import torch
from alone import sampled
from safetensors.torch import save_file

from mmdisco_cli.backbones.bank import build, codes_of
from mmdisco_cli.backbones.options import BankOptions
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.testing import check_backbone

NAMES = ("zero", "one", "two", "three")
WORDS = BankOptions(texts=NAMES)
IMAGES = torch.rand(5, 1, 4, 6, generator=torch.Generator().manual_seed(3)) * 2 - 1


def bank_of_images(folder, **options):
    save_file({"image": IMAGES}, folder / "images.safetensors")
    return build("image", BankOptions(path=str(folder / "images.safetensors"), **options), Request())


def by_hand(latents, x, alpha, sigma):
    """The posterior mean of one state, from densities item by item."""
    logs = [-float((x - alpha * item).double().square().sum()) / (2 * sigma**2) for item in latents]
    weights = [math.exp(value - max(logs)) for value in logs]
    return sum(w * item.double() for w, item in zip(weights, latents, strict=True)) / sum(weights)


def test_contract_of_media(tmp_path):
    check_backbone(bank_of_images(tmp_path), Request())


def test_contract_of_strings():
    check_backbone(build("word", WORDS, Request()), Request())


@pytest.mark.parametrize("u", [0.02, 0.3, 0.5, 0.8, 1.0])
def test_the_prediction_is_the_posterior_mean(tmp_path, u):
    bank = bank_of_images(tmp_path)
    plan = bank.plan(Request())
    x = torch.randn(3, *plan.latent_shape, generator=torch.Generator().manual_seed(0))
    x[0] = bank.latents[2] * 0.9
    found = bank.predict(x, torch.full((3,), u), None, plan)
    alpha, sigma = math.cos(math.pi * u / 2), math.sin(math.pi * u / 2)
    for k in range(3):
        torch.testing.assert_close(found[k].double(), by_hand(bank.latents, x[k], alpha, sigma), atol=1e-4, rtol=1e-4)


def test_latents_of_media_have_unit_variance_and_a_way_back(tmp_path):
    bank = bank_of_images(tmp_path)
    plan = bank.plan(Request())
    latents = bank.encode(IMAGES, plan)
    assert math.isclose(float(latents.square().mean()), 1, rel_tol=1e-5)
    torch.testing.assert_close(bank.decode(latents, plan), IMAGES)


def test_samples_are_the_items_each_as_often():
    bank = build("word", WORDS, Request())
    found = sampled(bank, 2000)
    said = bank.to_text(bank.decode(found, bank.plan(Request())), bank.plan(Request()))
    nearest = torch.cdist(found, bank.latents).min(1).values
    assert float(nearest.max()) < 1e-2
    counts = [said.count(name) for name in NAMES]
    # Four items of 500: five standard deviations of a binomial count.
    assert sum(counts) == 2000
    assert all(abs(count - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75) for count in counts)


@pytest.mark.parametrize("many", [4, 65, 300])
def test_codes_have_unit_mean_square_and_lie_far_apart(many):
    codes = codes_of([f"text {k}" for k in range(many)])
    torch.testing.assert_close(codes.square().mean(1), torch.ones(many))
    apart = torch.cdist(codes, codes) + 1e6 * torch.eye(many)
    assert float(apart.min()) > 1


def test_strings_become_media_and_media_strings():
    bank = build("word", WORDS, Request())
    plan = bank.plan(Request())
    media = bank.from_text(["three", " ONE "], plan)
    assert media.shape == (2, 5)
    assert bank.to_text(media, plan) == ["three", "one"]
    assert bank.to_text(bank.decode(bank.encode(media, plan), plan), plan) == ["three", "one"]
    near = bank.encode(media, plan) + 0.3
    assert bank.to_text(bank.decode(near, plan), plan) == ["three", "one"]


def test_a_string_that_is_not_in_the_bank_is_refused():
    bank = build("word", WORDS, Request())
    plan = bank.plan(Request())
    with pytest.raises(ValueError, match="'ten' is not one of the 4 strings: zero, one, two, three"):
        bank.from_text(["ten"], plan)


def test_strings_of_a_file(tmp_path):
    (tmp_path / "names.txt").write_text("ja\n\nnein \n", encoding="utf-8")
    assert build("answer", BankOptions(path=str(tmp_path / "names.txt")), Request()).texts == ("ja", "nein")


def test_the_fingerprint_names_the_items(tmp_path):
    same, other = (build("word", BankOptions(texts=texts), Request()).fingerprint for texts in (NAMES, NAMES[:3]))
    assert build("word", WORDS, Request()).fingerprint == same != other
    assert bank_of_images(tmp_path).fingerprint != bank_of_images(tmp_path, kind="vector").fingerprint


def test_audio_has_a_rate_and_a_length(tmp_path):
    save_file(
        {"x": torch.zeros(2, 1, 800).normal_(generator=torch.Generator().manual_seed(0))}, tmp_path / "a.safetensors"
    )
    bank = build("noise", BankOptions(path=str(tmp_path / "a.safetensors"), kind="audio", rate=1600.0), Request())
    assert (bank.info.kind, bank.plan(Request()).seconds, bank.info.rate) == ("audio", 0.5, 1600.0)
    check_backbone(bank, Request())


def test_a_file_of_strings_may_end_in_capitals_and_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "NAMES.TXT").write_bytes("\ufeffzero\r\n\r\none".encode())
    assert build("word", BankOptions(path=str(tmp_path / "NAMES.TXT")), Request()).texts == ("zero", "one")


@pytest.mark.filterwarnings("error")
def test_a_bank_of_nothing_but_the_empty_string_says_that():
    bank = build("word", BankOptions(texts=("",)), Request())
    plan = bank.plan(Request())
    assert bank.to_text(bank.decode(torch.randn(3, 1), plan), plan) == ["", "", ""]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, UsageError, "a bank needs either texts or path"),
        ({"texts": ("a",), "path": "x.txt"}, UsageError, "a bank needs either texts or path"),
        ({"texts": ("a", "b", "a")}, UsageError, "'a' is in the bank twice"),
        ({"path": "none.safetensors"}, DataError, "none.safetensors: no such file"),
        ({"path": "none.txt"}, DataError, "none.txt: cannot be read"),
        ({"path": "empty.txt"}, DataError, "holds no line of text"),
        ({"path": "two.safetensors"}, DataError, "holds a, b, and no tensor word"),
        ({"path": "flat.safetensors"}, DataError, "has to hold finite items"),
        ({"path": "nan.safetensors"}, DataError, "has to hold finite items"),
        ({"path": "torn.safetensors"}, DataError, "torn.safetensors"),
    ],
)
def test_what_is_no_bank_is_refused(in_empty_folder, options, error, text):
    (in_empty_folder / "empty.txt").write_text("\n")
    (in_empty_folder / "torn.safetensors").write_bytes(b"\x10")
    save_file({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, "two.safetensors")
    save_file({"word": torch.zeros(2)}, "flat.safetensors")
    save_file({"word": torch.tensor([[float("nan")], [0.0]])}, "nan.safetensors")
    with pytest.raises(error, match=text):
        build("word", BankOptions(**options), Request())
