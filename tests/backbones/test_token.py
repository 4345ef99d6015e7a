"""The built-in base model: the contract, its file, and options that do not fit."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.token import build, codec_fingerprint
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.schedules import log_snr
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.testing import check_backbone
from mmdisco_cli.weights_file import save_weights

REQUEST = Request(seconds=0.4, frames=4, fps=10.0, height=32, width=32)
SOUND = TokenOptions(codec="sound", latent_channels=3, patch=(4,), width=16, depth=1, heads=2)
FRAMES = TokenOptions(codec="frames", latent_channels=2, patch=(2, 1, 2), width=16, depth=1, heads=2)


def randomised(modality, options):
    torch.manual_seed(0)
    backbone = build(modality, options, REQUEST)
    for parameter in backbone.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    backbone.module.eval()
    return backbone


def write(backbone, path, **changes):
    about = {
        "kind": "backbone",
        "modality": backbone.modality,
        "options": asdict(backbone.options),
        "request": asdict(backbone.request),
    }
    save_weights(path, backbone.module.state_dict(), about | changes)
    return replace(backbone.options, weights=str(path))


@pytest.mark.parametrize(("modality", "options"), [("audio", SOUND), ("video", FRAMES)])
def test_contract(modality, options):
    check_backbone(randomised(modality, options), REQUEST)


@pytest.mark.parametrize(("modality", "options"), [("audio", SOUND), ("video", FRAMES)])
def test_a_file_holds_everything(tmp_path, modality, options):
    trained = randomised(modality, options)
    trained.codec.mean.fill_(0.25)
    written = write(trained, tmp_path / "w.safetensors")
    # The sizes in the recipe do not matter once the file says them.
    loaded = build(modality, TokenOptions(weights=written.weights), Request())
    assert loaded.plan(REQUEST) == trained.plan(REQUEST)
    x = torch.randn(2, *trained.plan(REQUEST).latent_shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.8])
    expected = trained.predict(x, t, None, trained.plan(REQUEST))
    torch.testing.assert_close(loaded.predict(x, t, None, loaded.plan(REQUEST)), expected, atol=5e-3, rtol=5e-3)
    assert float(loaded.codec.mean[0]) == 0.25
    assert not any(p.requires_grad for p in loaded.module.parameters())
    assert not any(part.training for part in loaded.module.children())


def test_the_fingerprint_is_that_of_the_file(tmp_path):
    trained = randomised("audio", SOUND)
    one = build("audio", write(trained, tmp_path / "a.safetensors"), REQUEST)
    same = build("audio", write(trained, tmp_path / "b.safetensors"), REQUEST)
    trained.denoiser.position.data += 0.1
    other = build("audio", write(trained, tmp_path / "c.safetensors"), REQUEST)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_weights_of_another_modality(tmp_path):
    options = write(randomised("audio", SOUND), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="was trained on audio, not on speech"):
        build("speech", options, REQUEST)


@pytest.mark.parametrize(
    "changes", [{"options": {"patch": [4], "depht": 1}}, {"options": {}}, {"request": {"size": 3}}, {"request": None}]
)
def test_a_description_that_does_not_fit(tmp_path, changes):
    options = write(randomised("audio", SOUND), tmp_path / "w.safetensors", **changes)
    with pytest.raises(DataError, match=r"w\.safetensors: its description does not fit"):
        build("audio", options, REQUEST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (replace(SOUND, patch=(3,)), r"backbones\.audio\.patch: patches of \[3\] do not tile .* of \[20\]"),
        (replace(SOUND, patch=(40,)), r"backbones\.audio\.patch"),
        (replace(SOUND, patch=(2, 2)), r"backbones\.audio\.patch"),
        (replace(FRAMES, patch=(1, 2)), r"backbones\.audio\.patch: patches of \[1, 2\] .* of \[4, 2, 2\]"),
        (replace(SOUND, heads=3), r"backbones\.audio\.heads: 3 heads do not divide a width of 16"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        build("audio", options, REQUEST)
    assert "\n" not in str(caught.value)


def test_the_native_time_is_the_progress_of_the_cosine_schedule():
    backbone = randomised("audio", SOUND)
    plan, u = backbone.plan(REQUEST), torch.tensor([0.1, 0.5, 0.9])
    levels = backbone.levels_at(u, plan)
    expected = torch.log(1 / torch.tan(math.pi * u / 2))
    torch.testing.assert_close(log_snr(levels.alpha, levels.sigma), expected, atol=1e-5, rtol=1e-5)
    x = torch.randn(3, 3, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        direct = backbone.denoiser(x, expected)
    torch.testing.assert_close(backbone.predict(x, levels.t, None, plan), direct, atol=1e-4, rtol=1e-4)


def test_it_says_what_it_cannot_follow():
    notes = randomised("video", FRAMES).plan(replace(REQUEST, frames=9, width=64)).notes
    assert [note.split(",")[0] for note in notes] == ["video: frames 9 becomes 4", "video: width 64 becomes 32"]
    assert randomised("video", FRAMES).plan(Request(frames=4)).notes == ()
    timeless = randomised("video", FRAMES)
    timeless.request = replace(REQUEST, seconds=None)
    assert timeless.plan(replace(REQUEST, seconds=2.0)).notes == ()  # it has no length that could be another


def test_the_codec_has_a_name_of_its_own():
    backbone = randomised("audio", SOUND)
    before = codec_fingerprint(backbone)
    backbone.denoiser.position.data += 1
    assert codec_fingerprint(backbone) == before
    backbone.codec.std.fill_(2.0)
    assert codec_fingerprint(backbone) != before


@pytest.mark.parametrize(("modality", "options"), [("audio", SOUND), ("video", FRAMES)])
def test_a_clip_is_encoded_and_decoded_alone_and_so_to_the_same_bits_in_any_batch(modality, options):
    backbone = randomised(modality, options)
    plan = backbone.plan(REQUEST)
    media = 0.1 * torch.randn(3, *plan.media_shape, generator=torch.Generator().manual_seed(0))
    passed = []
    for network in (backbone.codec.encoder, backbone.codec.decoder):
        network.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    latent = backbone.encode(media, plan)
    shown = backbone.decode(latent, plan)
    assert passed == [REQUEST.frames if modality == "video" else 1] * 6  # of frames, a clip's together
    assert (latent.shape, shown.shape) == ((3, *plan.latent_shape), (3, *plan.media_shape))
    for rows in (slice(0, 1), slice(1, 3)):
        assert torch.equal(backbone.encode(media[rows], plan), latent[rows])
        assert torch.equal(backbone.decode(latent[rows], plan), shown[rows])


def test_a_codec_that_was_released_is_read_again_and_one_without_a_file_stays(tmp_path):
    trained = randomised("video", FRAMES)
    backbone = build("video", write(trained, tmp_path / "w.safetensors"), REQUEST)
    plan = backbone.plan(REQUEST)
    media = 0.1 * torch.randn(2, *plan.media_shape, generator=torch.Generator().manual_seed(0))
    before = backbone.encode(media, plan)
    for model in (backbone, trained):
        model.release(("codec", "text"))
    assert next(backbone.codec.parameters()).is_meta
    assert torch.equal(backbone.encode(media, plan), before)
    assert not next(trained.codec.parameters()).is_meta
