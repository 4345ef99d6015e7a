"""Every option that shares out memory does what it says: who is where, how much goes through, and what is cut up."""

from types import SimpleNamespace

import pytest
import torch
from test_against_pipelines import request_of
from test_finding import build
from tiny import BUILDERS

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DeviceError, UsageError
from mmdisco_diffusers.memory import memory_lines
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.stage import Stage

ROLES = Roles(("unet",), ("vae",), ("encoder",))


class TinyParts:
    """Parts that note where they are sent."""

    def __init__(self):
        self.moves = []

    def has(self, name):
        return True

    def drop(self, names):
        self.moves += [(name, "dropped") for name in names]

    def get(self, name):
        def to(device):
            self.moves.append((name, str(device)))

        def stream(device, waiting, **how):
            assert how == {"offload_type": "block_level", "num_blocks_per_group": 1}
            self.moves.append((name, f"{device} by block from {waiting}"))

        return SimpleNamespace(to=to, enable_group_offload=stream)


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def moves(**options):
    parts = TinyParts()
    stage = Stage(parts, ROLES, ModelOptions(**options))
    stage.to(torch.device("cuda"))
    with stage.text():
        parts.moves.append("prompt")
    stage.settle()
    stage.settle()
    stage.through_codec(lambda x: x, torch.zeros(0, 3)) if stage.at("codec").type == "cpu" else None
    return parts.moves


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("encoder", "cuda"), "prompt", ("encoder", "cpu"), ("unet", "cuda")]),
        ({"text": "keep"}, [("encoder", "cuda"), "prompt", ("unet", "cuda")]),
        (
            {"text": "free"},
            [("encoder", "cuda"), "prompt", ("encoder", "cpu"), ("encoder", "dropped"), ("unet", "cuda")],
        ),
        ({"offload": "group"}, [("encoder", "cuda"), "prompt", ("encoder", "cpu"), ("unet", "cuda by block from cpu")]),
        ({"devices": {"denoiser": "cuda:1"}}, [("encoder", "cuda"), "prompt", ("encoder", "cpu"), ("unet", "cuda:1")]),
        ({"devices": {"text": "cpu"}}, [("encoder", "cpu"), "prompt", ("unet", "cuda")]),
        (
            {"devices": {"codec": "cpu"}, "text": "keep"},
            [("encoder", "cuda"), "prompt", ("unet", "cuda"), ("vae", "cpu")],
        ),
    ],
)
def test_parts_are_where_the_recipe_wants_them(options, expected, monkeypatch):
    gpus(monkeypatch, 2)
    assert moves(**options) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [("vae", "cuda")]), ({"offload": "codec"}, [("vae", "cuda"), ("vae", "cpu")])],
)
def test_the_codec_stays_or_visits(options, expected):
    parts = TinyParts()
    stage = Stage(parts, ROLES, ModelOptions(**options))
    stage.to(torch.device("cuda"))
    visit = stage._visiting(ROLES.codec, stage.at("codec"), stage.options.offload != "none")
    with pytest.raises(ZeroDivisionError), visit:
        _ = 1 / 0  # even where it fails
    assert parts.moves == expected


@pytest.mark.parametrize("family", [*BUILDERS, "ltx2"])
def test_a_denoiser_can_be_streamed_block_by_block(family, models, backbone):
    plain, streamed = backbone(family), build(family, models(family), offload="group")
    if family == "ltx2":
        plan = plain.plan(Request(frames=9, height=64, width=64))
        x = {m: torch.randn(1, *p.latent_shape) for m, p in plan.modalities.items()}
        t = {m: torch.tensor([500.0]) for m in x}
        found, expected = (m.predict(x, t, {}, plan) for m in (streamed, plain))
    else:
        plan = plain.plan(request_of(family))
        x, t = torch.randn(1, *plan.latent_shape), plain.levels_at(torch.tensor([0.5]), plan).t
        found, expected = ({"x": m.predict(x, t, None, plan)} for m in (streamed, plain))
    (name, *_) = streamed.stage.roles.denoiser
    hooked = [module for module in streamed.parts.get(name).modules() if hasattr(module, "_diffusers_hook")]
    assert len(hooked) > 1
    for m, value in expected.items():
        assert (found[m] - value).abs().max() <= 1e-5 * max(1, float(value.abs().max()))


def spied(monkeypatch, codec, name):
    calls, own = [], getattr(codec, name)

    def spy(x, *args, **kwargs):
        calls.append(tuple(x.shape))
        return own(x, *args, **kwargs)

    monkeypatch.setattr(codec, name, spy)
    return calls


@pytest.mark.parametrize(("family", "chunk", "sizes"), [("wan", 2, [2, 1]), ("animatediff", 4, [4, 4, 4, 3])])
def test_no_more_than_a_chunk_is_decoded_together(family, chunk, sizes, models, monkeypatch):
    model = build(family, models(family), chunk=chunk)
    plan = model.plan(Request(frames=5, height=16, width=16))
    calls = spied(monkeypatch, model.parts.get("vae"), "decode")
    model.decode(torch.randn(3, *plan.latent_shape), plan)
    if family == "animatediff":  # its codec takes images: five of each of three videos, a video's batch at a time
        assert max(shape[0] for shape in calls) <= chunk
        assert sum(shape[0] for shape in calls) == 15
    else:
        assert [shape[0] for shape in calls] == sizes


def test_a_sliced_codec_decodes_one_sample_at_a_time(models, monkeypatch):
    for slicing, sizes in ((False, [3]), (True, [1, 1, 1])):
        model = build("wan", models("wan"), slicing=slicing)
        plan = model.plan(Request(frames=5, height=16, width=16))
        calls = spied(monkeypatch, model.parts.get("vae"), "_decode")
        model.decode(torch.randn(3, *plan.latent_shape), plan)
        assert [shape[0] for shape in calls] == sizes


def test_a_tiled_codec_decodes_in_tiles_that_fit_together(models, monkeypatch):
    whole, tiled = (build("animatediff", models("animatediff"), tiling=tiling) for tiling in (False, True))
    plan = whole.plan(Request(frames=1, height=128, width=128))
    vae = tiled.parts.get("vae")
    vae.tile_latent_min_size, vae.tile_sample_min_size = 16, 64
    tiles = spied(monkeypatch, vae.decoder, "forward")
    latent = torch.randn(1, *plan.latent_shape)
    found, expected = tiled.decode(latent, plan), whole.decode(latent, plan)
    assert len(tiles) > 4
    assert max(shape[-1] for shape in tiles) <= 16
    # Each tile is normalised by itself, so they agree in what is there, not in every level.
    correlation = torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]
    assert 0.9 < correlation < 1


def test_a_device_is_known_or_named():
    with pytest.raises(UsageError, match=r"devices: unknown 'codex' \(did you mean codec"):
        Stage(TinyParts(), ROLES, ModelOptions(devices={"codex": "cpu"}))
    with pytest.raises(UsageError, match=r"devices.text: unknown device 'gpu'"):
        Stage(TinyParts(), ROLES, ModelOptions(devices={"text": "gpu"}))


@pytest.mark.parametrize(("count", "found"), [(0, "no CUDA device at all"), (1, "only cuda:0 to cuda:0")])
def test_a_device_that_is_not_there_is_named_before_anything_runs(count, found, monkeypatch):
    gpus(monkeypatch, count)
    with pytest.raises(DeviceError, match=f"devices.denoiser: no device cuda:1 on this machine: torch finds {found}"):
        Stage(TinyParts(), ROLES, ModelOptions(devices={"denoiser": "cuda:1"}))


@pytest.mark.parametrize("family", [*BUILDERS, "ltx2"])
def test_what_a_codec_cannot_do_is_said_before_anything_is_loaded(family, models):
    for trick in ("tiling", "slicing"):
        if family in ("longcat", "stable-audio-3"):
            with pytest.raises(UsageError, match=f"^{trick}: a (LongCatAudioDiTVae|AutoencoderSAME) cannot do that$"):
                build(family, models(family), **{trick: True})
        else:
            model = build(family, models(family), **{trick: True})
            assert not any(model.parts.is_loaded(name) for name in model.stage.roles.all)
            model.stage._prepare_codec()
            assert getattr(model.parts.get("vae"), f"use_{trick}")


def test_the_memory_plan_names_each_device(models):
    parts = Parts(models("wan"))
    from mmdisco_diffusers.wan import ROLES as WAN

    sizes = {name: 4 * parts.count([name]) / 1e6 for name in ("transformer", "vae", "text_encoder")}
    lines = memory_lines(parts, WAN, ModelOptions(devices={"denoiser": "cuda:1", "text": "cpu"}, text="keep"))
    assert lines[0].endswith("in float32, stays on cuda:1")
    assert lines[2].endswith("stays on cpu")
    lines_of = {line.split(": ")[0]: line for line in lines[3:]}
    for device, part in (("cuda:1", "transformer"), ("the device", "vae"), ("cpu", "text_encoder")):
        assert lines_of[f"weights on {device}"].startswith(f"weights on {device}: {sizes[part]:.2f} MB, at most")
