"""Networks with weights made by rule, beside what public implementations gave for the same: peers.json says which.

What they gave was found by running them once on tensors made alike; none of them is needed now.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from by_rule import drawn, fill_by_rule, signal, weights

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.errors import ExitCode
from mmdisco_cli.extractors import desync, imagebind
from mmdisco_cli.extractors.audioclip import AudioHead, first_seconds, framed
from mmdisco_cli.extractors.compat import mm_diffusion
from mmdisco_cli.extractors.desync import segments
from mmdisco_cli.extractors.extract import open_extractor
from mmdisco_cli.extractors.fvd import from_tensorflow
from mmdisco_cli.extractors.i3d import I3D
from mmdisco_cli.extractors.imagebind import ImageBind, Tower, towers
from mmdisco_cli.extractors.synchformer import Size, Synchformer, parts
from mmdisco_cli.extractors.tf_checkpoint import read_shapes
from mmdisco_cli.extractors.vggish import PRESETS, VGGish, patches_of
from mmdisco_cli.measures.frechet import frechet

ASSETS = Path(__file__).parent.parent / "assets"
PEERS = json.loads((Path(__file__).parent / "peers.json").read_text())


def sound_head():
    """Return AudioCLIP's sound head by rule, its wavelets around what they are when training begins."""
    network = fill_by_rule(AudioHead())
    frequencies = len(network.fbsp.m)
    orders, widths, places = (torch.from_numpy(drawn(f"fbsp.{x}", frequencies)).float() for x in ("m", "fb", "fc"))
    network.fbsp.m.copy_(2 * orders.abs())
    network.fbsp.fb.copy_(1 + widths.abs())
    network.fbsp.fc.copy_(torch.arange(frequencies) + places)
    network.window.copy_(AudioHead().window)
    return network


def test_i3d_is_the_public_implementation():
    found = fill_by_rule(I3D(1e-5))(signal("clip", (1, 3, 9, 224, 224), 0.5))
    assert found[0, ::25].tolist() == pytest.approx(PEERS["i3d"]["every_25th"], abs=1e-4)
    # Batch norms of the original add more, and that shows.
    other = fill_by_rule(I3D())(signal("clip", (1, 3, 9, 224, 224), 0.5))
    assert float((other - found).abs().max()) > 1e-3


def test_every_tensor_of_the_tensorflow_checkpoint_has_its_place():
    # The index of google-deepmind/kinetics-i3d, data/checkpoints/rgb_scratch, Apache-2.0: names and shapes.
    shapes = read_shapes((Path(__file__).parent / "checkpoint" / "rgb_scratch.index").read_bytes())
    assert len(shapes) == 230
    tensors = {name: np.full(shape, 2.0, np.float32) for name, shape in shapes.items()}
    tensors["RGB/inception_i3d/Mixed_3b/Branch_1/Conv3d_0b_3x3/conv_3d/w"][2, 0, 1, 5, 7] = 3.0
    network = I3D().requires_grad_(False)
    network.load_state_dict(from_tensorflow(tensors))
    weight = network.Mixed_3b.b1b.conv3d.weight
    assert (float(weight[7, 5, 2, 0, 1]), float(weight.sum())) == (3.0, 2.0 * weight.numel() + 1.0)
    assert (float(network.Conv3d_1a_7x7.bn.weight[0]), float(network.logits.conv3d.bias[3])) == (1.0, 2.0)


def test_vggish_is_the_public_implementation():
    patches = patches_of(signal("sound of 2.5 s", (40000,), 0.1), PRESETS["torchvggish"])
    found = fill_by_rule(VGGish())(patches)
    assert found.shape == (2, 128)
    assert found[1, ::8].tolist() == pytest.approx(PEERS["vggish"]["every_8th"], abs=1e-3)


@pytest.mark.parametrize(("preset", "scale", "near"), [("mm-diffusion", 1, 1e-2), ("audioclip", 32768, 5e-4)])
def test_audioclip_is_the_public_implementation(preset, scale, near):
    found = sound_head()(scale * signal("sound", (1, 1, 70560), 0.2)[:, 0])[0, ::64]
    theirs = torch.tensor(PEERS["audioclip"]["every_64th"][preset])
    # Sound that is a 32768th of what the network knows drowns in float32's rounding, theirs as ours.
    assert float((found - theirs).abs().max() / theirs.std()) < near


def test_audioclip_hears_1_6_seconds_in_whole_frames():
    window = AudioHead().window
    assert first_seconds(torch.ones(100)).sum() == 100
    assert first_seconds(torch.ones(80000)).shape == (70560,)
    frames = framed(torch.ones(1, 70560), window)
    # 123 hops are 1 sample short: one zero is added, at the end.
    assert frames.shape == (1, 124, 2048)
    assert torch.equal(frames[0, 5, 197 : 197 + 1654], window)
    assert float(frames[0, :, :197].abs().max()) == 0


def test_imagebind_is_the_public_implementation():
    peer = PEERS["imagebind"]
    network = ImageBind(Tower(64, 2, 4), Tower(48, 2, 4), 32)
    network.load_state_dict(towers(weights(peer["shapes"])))
    frames, spectra = signal("pictures", (15, 3, 2, 224, 224)), signal("spectra", (3, 1, 128, 204))
    with torch.no_grad():
        assert network.vision(frames).mean(0)[:6].tolist() == pytest.approx(peer["vision"], abs=1e-5)
        assert float(network(frames, spectra)) == pytest.approx(peer["cosine"], abs=1e-5)


def test_imagebind_looks_where_its_authors_do():
    assert imagebind.starts(10.0, 5) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert imagebind.starts(1.6, 3) == [0.0, 0.0, 0.0]
    assert imagebind.moments(4.0)[:4] == pytest.approx([0.0, 1.999, 0.5, 2.499])
    wide = torch.arange(398.0).expand(2, 3, 224, 398)
    assert imagebind.cropped(wide)[:, 0, 0, 0, 0].tolist() == [0, 87, 174]
    assert imagebind.cropped(wide.transpose(2, 3))[:, 0, 1, 0, 0].tolist() == [0, 87, 174]


def small_synchformer():
    peer = PEERS["synchformer"]
    network = Synchformer(Size(48, 4, 2, 2, 8))
    network.load_state_dict(parts(weights(peer["shapes"])))
    return network.eval().requires_grad_(False)


def test_synchformer_is_the_public_implementation():
    peer, network = PEERS["synchformer"], small_synchformer()
    frames, spectra = signal("pictures", (14, 3, 16, 224, 224)), signal("spectra", (14, 128, 66))
    seen, heard = network.watching(frames), network.listening(spectra)
    assert seen[0, 0, :4].tolist() == pytest.approx(peer["seen"], abs=1e-4)
    assert heard[0, 0, :4].tolist() == pytest.approx(peer["heard"], abs=1e-4)
    assert network.compared(seen, heard).tolist() == pytest.approx(peer["logits"], abs=1e-4)


def test_segments_of_4_8_seconds_are_14():
    seen, heard = segments(torch.zeros(120, 3, 8, 8, dtype=torch.uint8), torch.zeros(76800))
    assert (seen.shape, heard.shape) == ((14, 3, 16, 8, 8), (14, 128, 66))
    stamped = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8)
    seen, _ = segments(stamped, torch.zeros(128000))
    assert ((seen[:, 0, :, 0, 0] + 1) * 127.5).round()[23].tolist() == list(range(184, 200))


def test_mm_diffusions_numerics_do_not_give_zero_for_a_set_and_itself():
    # evaluations/fvd/fvd.py of MM-Diffusion 7250222 gives 0.0049557 and 0.0010712 for these.
    def unit(name):
        x = signal(name, (200, 1024)) * torch.arange(1, 1025) ** -0.75 + 0.5 * torch.arange(1024.0).cos()
        return x / x.norm(dim=1, keepdim=True)

    a, b = unit("a"), unit("b") + 0.001
    assert mm_diffusion(a, b) == pytest.approx(0.0049557, rel=0.02)
    assert mm_diffusion(a, a) == pytest.approx(0.0010712, rel=0.1)
    assert frechet(a, a).value == 0.0


@pytest.fixture
def videos(in_empty_folder):
    Path("videos").mkdir()
    for path in sorted(ASSETS.glob("*.mp4"))[:3]:
        shutil.copy(path, Path("videos") / path.name)
    return in_empty_folder


def evaluated(capsys, *arguments):
    code = mmdisco(["eval", "--samples", "videos", "--metrics", "av_align", "--json", *arguments])
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if code == ExitCode.OK else None, printed.err


@pytest.mark.slow
def test_fad_of_mm_diffusion_has_its_factor_and_its_slip_under_names_of_their_own(videos, capsys):
    state = {f"audio.{name}": tensor for name, tensor in sound_head().state_dict().items()}
    torch.save({**state, "audio.fbsp.bias": torch.empty(0), "visual.conv1.weight": torch.zeros(1)}, "clip.pt")
    shutil.copytree("videos", "real")
    next(Path("real").iterdir()).unlink()
    code, found, err = evaluated(
        capsys, "--reference", "real", "--extractor", "audioclip=clip.pt", "--compat", "mm-diffusion"
    )
    assert code == ExitCode.OK, err
    metrics = found["metrics"]
    value = metrics["fad_audioclip"]["samples"]["value"]
    assert metrics["fad_audioclip_x1e4"]["samples"]["value"] == pytest.approx(1e4 * value)
    assert metrics["fad_audioclip_mm_diffusion"]["samples"]["value"] == pytest.approx(1e4 * value, rel=0.05)
    assert metrics["fad_audioclip_mm_diffusion"]["protocol"]["factor"] == 1e4
    assert metrics["fad_audioclip"]["samples"]["dimension"] == 1024
    assert metrics["fad_audioclip"]["protocol"]["weights"]["sha256"] in err


@pytest.mark.slow
def test_fvd_of_mm_diffusion_also_has_its_numerics(videos, capsys):
    torch.save(fill_by_rule(I3D()).state_dict(), "i3d.pt")
    shutil.copytree("videos", "real")
    next(Path("real").iterdir()).unlink()
    arguments = ("--reference", "real", "--extractor", "fvd:mm-diffusion=i3d.pt", "--compat", "mm-diffusion")
    code, found, err = evaluated(capsys, *arguments)
    assert code == ExitCode.OK, err
    metrics = found["metrics"]
    figure = metrics["fvd"]["samples"]
    assert figure.items() >= {"n": 3, "n_reference": 2, "dimension": 400}.items()
    assert metrics["fvd_mm_diffusion"]["samples"]["value"] == pytest.approx(figure["value"], rel=0.02)
    assert metrics["kvd"]["protocol"]["preset"] == "mm-diffusion"
    itself = metrics["fvd_mm_diffusion"]["protocol"]["of_itself"]
    assert f"fvd_mm_diffusion: the reference is at {itself:.3g} from itself" in err
    code, found, err = evaluated(capsys, *arguments, "--metrics", "fvd")
    assert code == ExitCode.OK, err
    assert found["metrics"].keys() == {"fvd"}
    code, _, err = evaluated(capsys, *arguments, "--metrics", "fvdd")
    assert code == ExitCode.USAGE
    assert "did you mean fvd" in err
    assert all(name in err for name in ("kvd", "fvd_mm_diffusion", "av_align"))


def test_compat_says_what_it_goes_with(videos, capsys):
    code, _, err = evaluated(capsys, "--compat", "mm-diffusion")
    assert (code, "name one" in err) == (ExitCode.USAGE, True)
    code, _, err = evaluated(capsys, "--reference", "videos", "--extractor", "effnet", "--compat", "mm-difusion")
    assert code == ExitCode.USAGE


def test_scores_of_clips_need_no_real_ones_and_reach_every_table(videos, capsys, monkeypatch):
    monkeypatch.setattr(imagebind, "ImageBind", partial(ImageBind, Tower(64, 2, 4), Tower(48, 2, 4), 32))
    torch.save(weights(PEERS["imagebind"]["shapes"]), "ib.pth")
    code, found, err = evaluated(capsys, "--extractor", "imagebind=ib.pth")
    assert code == ExitCode.OK, err
    figure = found["metrics"]["imagebind"]["samples"]
    assert (figure["n"], figure["undefined"]) == (3, 0)
    assert "imagebind: N 3 samples; ImageBind huge, frames and audio, ib.pth SHA-256 " in err
    assert -1 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    rows = Path("runs/eval/clips.csv").read_text().splitlines()
    assert rows[0].split(",")[-1] == "imagebind"
    each = [float(row.rsplit(",", 1)[1]) for row in rows[1:]]
    assert sum(each) / 3 == pytest.approx(figure["value"])
    assert 'value="samples.imagebind -1"' in Path("runs/eval/report.html").read_text()


def test_desync_refuses_what_is_shorter_than_4_8_seconds(videos, capsys, monkeypatch):
    monkeypatch.setattr(desync, "Synchformer", partial(Synchformer, Size(48, 4, 2, 2, 8)))
    torch.save(weights(PEERS["synchformer"]["shapes"]), "sync.pth")
    code, _, err = evaluated(capsys, "--extractor", "desync=sync.pth")
    assert code == ExitCode.DATA
    assert "4.80 s" in err
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(3, 50, 64, 64, generator=generator) * 2 - 1
    write_mp4("videos/long.mp4", video, 0.1 * torch.randn(1, 80000, generator=generator), 10, 16000)
    code, found, err = evaluated(capsys, "--extractor", "desync=sync.pth")
    assert code == ExitCode.OK, err
    figure = found["metrics"]["desync"]["samples"]
    assert (figure["n"], figure["undefined"]) == (1, 3)
    assert round(figure["value"] * 10, 5) in range(21)
    assert "skipped: videos/" in err


def test_weights_of_another_network_are_an_error_that_names_the_file(videos):
    torch.save(weights({"some.weight": (3, 3)}), "other.pth")
    for name in ("audioclip", "imagebind", "desync"):
        with pytest.raises(Exception, match=r"other\.pth: not weights of this network"):
            open_extractor(f"{name}=other.pth")
