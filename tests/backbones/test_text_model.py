"""The built-in base model under captions: its encoder, its condition, and files that hold only what they add."""

from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from mmdisco_cli.backbones.additions import without_base
from mmdisco_cli.backbones.denoiser import TokenDenoiser
from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.text import WORDS, TextBank, TextEncoder, token_ids, words_of
from mmdisco_cli.backbones.token import build, codec_fingerprint
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.testing import check_backbone
from mmdisco_cli.weights_file import save_weights

REQUEST = Request(seconds=0.4)
SOUND = TokenOptions(codec="sound", latent_channels=3, patch=(4,), width=16, depth=2, heads=2)
ONE, OTHER = "a large glass ball and a small wooden ball", "a small glass ball and a large wooden ball"


def encoder(size=6):
    torch.manual_seed(0)
    made = TextEncoder(size)
    for parameter in made.blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def embedded(made, *texts):
    with torch.no_grad():
        return made(torch.stack([token_ids(text) for text in texts]))


def scrambled(backbone):
    """Give every weight that may be trained, and none that may not, another value of half precision."""
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.module.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    for tensor in backbone.module.state_dict().values():
        tensor.copy_(tensor.half().float())
    return backbone


def about(backbone, **more):
    options = {key: value for key, value in asdict(backbone.options).items() if key != "weights"}
    request = asdict(backbone.request)
    return {"kind": "backbone", "modality": backbone.modality, "options": options, "request": request, **more}


@pytest.fixture
def base(tmp_path):
    """Return the file of a model without captions."""
    torch.manual_seed(0)
    made = scrambled(build("audio", SOUND, REQUEST))
    save_weights(tmp_path / "base.safetensors", made.module.state_dict(), about(made))
    return tmp_path / "base.safetensors"


def written(base, path):
    """Return a model with captions on top of `base` as it was trained, and the options that name its file."""
    trained = scrambled(build("audio", TokenOptions(base=str(base), text=6), REQUEST))
    tensors, named = without_base(str(base), trained.module.state_dict())
    save_weights(path, tensors, about(trained, base=named))
    return trained, TokenOptions(weights=str(path))


def test_words_are_read_in_any_case_without_punctuation_and_no_further_than_the_encoder_sees():
    assert words_of("Two balls: one LARGE, of glass.") == ["two", "balls", "one", "large", "of", "glass"]
    assert torch.equal(token_ids("A Ball!"), token_ids("a ball"))
    assert token_ids("ball " * 99).shape == token_ids("").shape == (WORDS, 2)
    assert not token_ids("").any()
    assert token_ids("été \ud800 球").ne(0).any(1).sum() == 2
    assert torch.equal(token_ids("w " * WORDS + "x"), token_ids("w " * WORDS))


def test_the_order_of_words_counts():
    one, other, empty = embedded(encoder(), ONE, OTHER, "")
    assert sorted(words_of(ONE)) == sorted(words_of(OTHER))
    assert float((one - other).norm()) > 0.01
    assert float((one - empty).norm()) > 0.01


def test_dropped_rows_see_the_empty_text():
    bank = TextBank((ONE, OTHER), 0.5)
    ids = bank.of(torch.arange(400) % 2, torch.Generator().manual_seed(0))
    dropped = ~ids.flatten(1).any(1)
    assert 150 < int(dropped.sum()) < 250
    assert all(torch.equal(ids[k], token_ids((ONE, OTHER)[k % 2])) for k in range(400) if not dropped[k])
    assert TextBank((ONE,), 0.0).of(torch.zeros(50, dtype=torch.long), torch.Generator()).flatten(1).any(1).all()


def test_contract_with_captions(base):
    check_backbone(scrambled(build("audio", TokenOptions(base=str(base), text=6), REQUEST)), REQUEST)


def test_its_predictions_follow_the_text_and_their_rows_their_own(base):
    model = scrambled(build("audio", TokenOptions(base=str(base), text=6), REQUEST))
    plan = model.plan(REQUEST)
    x, t = torch.randn(1, *plan.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    both = model.encode_prompt([ONE, OTHER], None, plan)
    alone = model.encode_prompt([OTHER], ["a metal ball"], plan)
    assert torch.equal(both.positive[1:], alone.positive)
    assert torch.equal(both.positive, both.pooled)
    assert torch.equal(both.negative, both.pooled_negative)
    assert torch.equal(both.negative[:1], model.encode_prompt([""], None, plan).positive)
    assert torch.equal(alone.negative, model.encode_prompt(["a metal ball"], None, plan).positive)
    predicted = [model.predict(x, t, both.positive[k : k + 1], plan) for k in range(2)]
    assert float((predicted[0] - predicted[1]).abs().max()) > 1e-3
    torch.testing.assert_close(model.predict(x, t, None, plan), model.predict(x, t, both.negative[:1], plan))
    assert model.info.pooled_dim == 6
    assert model.takes_prompts


def test_a_discriminator_need_not_see_the_text(base, tmp_path):
    _, options = written(base, tmp_path / "own.safetensors")
    shown, hidden = (build("audio", replace(options, pooled=pooled), REQUEST) for pooled in (True, False))
    plan = hidden.plan(REQUEST)
    assert (shown.info.pooled_dim, hidden.info.pooled_dim) == (6, 0)
    condition = hidden.encode_prompt([ONE], None, plan)
    assert condition.pooled is None
    assert condition.pooled_negative is None
    assert torch.equal(condition.positive, shown.encode_prompt([ONE], None, plan).positive)
    assert hidden.fingerprint == shown.fingerprint


def test_a_model_without_captions_is_what_it_was():
    denoiser = TokenDenoiser((3, 8), (4,), 16, 1, 2)
    assert not any("text" in name for name in denoiser.state_dict())
    model = build("audio", SOUND, REQUEST)
    condition = model.encode_prompt(["x"], None, model.plan(REQUEST))
    assert condition.positive is None
    assert not model.takes_prompts


def test_a_denoiser_of_captions_needs_them():
    denoiser = TokenDenoiser((3, 8), (4,), 16, 1, 2, text=4)
    with pytest.raises(ValueError, match="needs their embeddings"):
        denoiser(torch.zeros(1, 3, 8), torch.zeros(1))


def test_before_training_it_predicts_what_its_base_does(base):
    plain, begun = build("audio", TokenOptions(weights=str(base)), REQUEST), None
    begun = build("audio", TokenOptions(base=str(base), text=6), REQUEST)
    plan = plain.plan(REQUEST)
    x, t = torch.randn(2, *plan.latent_shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.7])
    condition = begun.encode_prompt([ONE, ""], None, plan).positive
    torch.testing.assert_close(begun.predict(x, t, condition, plan), plain.predict(x, t, None, plan))
    assert codec_fingerprint(begun) == codec_fingerprint(plain)
    assert begun.fingerprint == "untrained"


def test_a_file_holds_only_what_its_base_does_not_and_together_they_are_the_model(base, tmp_path):
    trained, options = written(base, tmp_path / "own.safetensors")
    stored, whole = load_file(tmp_path / "own.safetensors"), load_file(base)
    assert not any(name.startswith("codec.") for name in stored)
    assert {name for name in stored if name in whole}
    assert not any(torch.equal(stored[name], whole[name]) for name in stored if name in whole)
    frozen = {name for name, p in trained.module.named_parameters() if not p.requires_grad}
    assert frozen
    assert not frozen & stored.keys()
    loaded = build("audio", options, Request())
    ours, theirs = loaded.module.state_dict(), trained.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any(p.requires_grad for p in loaded.module.parameters())


def test_the_base_may_lie_beside_the_file(base, tmp_path):
    trained, _ = written(base, tmp_path / "own.safetensors")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("base.safetensors", "own.safetensors"):
        (tmp_path / name).rename(moved / name)
    loaded = build("audio", TokenOptions(weights=str(moved / "own.safetensors")), REQUEST)
    assert torch.equal(loaded.denoiser.position, trained.denoiser.position)


def test_another_base_is_refused_by_its_content(base, tmp_path):
    _, options = written(base, tmp_path / "own.safetensors")
    other = scrambled(build("audio", TokenOptions(weights=str(base)), REQUEST))
    other.denoiser.position.data += 1
    save_weights(base, other.module.state_dict(), about(other))
    with pytest.raises(DataError, match=r"own\.safetensors: is based on .*base\.safetensors [0-9a-f]+, but .* is "):
        build("audio", options, REQUEST)


def test_a_base_that_is_gone_is_named(base, tmp_path):
    _, options = written(base, tmp_path / "own.safetensors")
    base.unlink()
    with pytest.raises(DataError, match=r"no weights '.*base\.safetensors'"):
        build("audio", options, REQUEST)


def test_a_base_is_complete_itself_and_of_the_same_modality(base, tmp_path):
    written(base, tmp_path / "own.safetensors")
    with pytest.raises(UsageError, match=r"backbones\.audio\.base: .* itself goes on from other weights"):
        build("audio", TokenOptions(base=str(tmp_path / "own.safetensors"), text=6), REQUEST)
    with pytest.raises(DataError, match="was trained on audio, not on speech"):
        build("speech", TokenOptions(base=str(base), text=6), REQUEST)


def test_a_base_with_captions_keeps_its_size_of_them(tmp_path):
    model = scrambled(build("audio", replace(SOUND, text=6), REQUEST))
    path = tmp_path / "texts.safetensors"
    save_weights(path, model.module.state_dict(), about(model))
    begun = build("audio", TokenOptions(base=str(path), text=6), REQUEST)
    assert torch.equal(begun.denoiser.text.start, model.denoiser.text.start)
    with pytest.raises(DataError, match="has captions of size 6, not 5"):
        build("audio", TokenOptions(base=str(path), text=5), REQUEST)
