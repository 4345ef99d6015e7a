"""The paper's discriminators against what the authors' modules gave, in every case that was recorded."""

import hashlib

import pytest
import torch
from released_weights import CONFIGS, distance, drawn, network, ours, texts_of, vectors

from mmdisco_cli.diffusion.guidance import ALL_LEVELS, Guidance, clipped_logit, guidance_gradient, guide
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.paper.configs import RELEASED

# Of the sorted lines "name [sizes]" of the released files' tensors.
DIGESTS = {
    "mmdiffusion_landscape": (12_682_241, "1d0f247f519a8c23"),
    "mmdiffusion_aist++": (12_682_241, "1d0f247f519a8c23"),
    "audioldm_animediff_vggsound": (33_261_313, "f373ab51277808ca"),
    "auffusion_videocrafter2_vggsound": (38_972_161, "4a5f33ac4bde9d4d"),
}
TOLERANCE = 1e-4


@pytest.mark.parametrize("config", DIGESTS)
def test_the_names_and_shapes_are_those_of_the_released_file(config):
    from mmdisco_cli.paper import build_discriminator

    with torch.device("meta"):
        state = build_discriminator(config).state_dict()
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
    found = (sum(t.numel() for t in state.values()), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16])
    assert found == DIGESTS[config]


def case(config, size):
    """Return states in our layout, their texts and the levels of their times."""
    released, known = RELEASED[config], vectors("guidance")
    key = f"{config}.std002.{size}"
    x = {m: drawn(f"input.{m}", known[f"{key}.{m}_shape"].tolist()) for m in ("audio", "video")}
    x = {m: ours(state, released.axes.get(m)) for m, state in x.items()}
    t = known[f"{key}.timesteps"]
    names = {"audio": released.options.audio_schedule, "video": released.options.video_schedule}
    levels = {m: make_schedule(name).levels_at(t.double() / 999) for m, name in names.items()}
    assert all(torch.equal(level.t, t.float()) for level in levels.values())
    return x, t, levels


def require_close(found, config, key, axes):
    for m, state in found.items():
        theirs, known = ours(state, axes.get(m)).flatten(), vectors("guidance")
        name = f"{config}.{key}pred_{m}"
        assert distance(theirs[:512], known[f"{name}.first"]) < TOLERANCE, name
        assert distance(theirs.norm(), known[f"{name}.norm"][0]) < TOLERANCE, name


CASES = [("std002", "small"), ("fanin", "small"), pytest.param("fanin", "full", marks=pytest.mark.slow)]


@pytest.mark.parametrize(("mode", "size"), CASES)
@pytest.mark.parametrize("config", CONFIGS)
def test_logits_and_guidance_are_the_released_ones(config, mode, size):
    released, module, known = RELEASED[config], network(config, mode), vectors("guidance")
    x, t, levels = case(config, size)
    texts = {"cond.": texts_of(released, len(t), False), "uncond.": texts_of(released, len(t), True)}
    for run in texts if released.texts else ("",):
        key = f"{mode}.{size}.{run}"
        logit = module.at_times(x, t, texts.get(run))
        assert distance(logit, known[f"{config}.{key}logit"]) < TOLERANCE
        assert distance(clipped_logit(logit), known[f"{config}.{key}logit_exp"]) < TOLERANCE
        found = residual(module, x, levels, texts.get(run))
        require_close(found, config, key, released.axes)
    if released.texts:
        found = residual(module, x, levels, texts["cond."], texts["uncond."], released.cfg)
        require_close(found, config, f"{mode}.{size}.cfg.", released.axes)


def residual(module, x, levels, texts, negative=None, cfg=None):
    """Return what guidance adds to the noise predictions."""
    guidance = Guidance(module, windows=dict.fromkeys(x, ALL_LEVELS), form="released", cfg=cfg or {})
    zero = {m: torch.zeros_like(state) for m, state in x.items()}
    return guide(guidance, x, zero, zero, levels, texts, negative=negative)[1]


@pytest.mark.parametrize("config", CONFIGS)
def test_in_our_own_convention_log_snr_finds_the_same_times(config):
    released, module = RELEASED[config], network(config, "fanin")
    x, t, levels = case(config, "small")
    lam = {m: torch.log(level.alpha / level.sigma) for m, level in levels.items()}
    assert torch.equal(module.times(lam["audio"]), t)
    texts = texts_of(released, 2, False)
    assert torch.equal(module(x, lam, texts), module.at_times(x, t, texts))


def test_every_trained_time_is_found_again():
    module = network("mmdiffusion_landscape", "fanin")
    level = make_schedule("vp-linear").levels_at(torch.arange(1000) / 999)
    assert torch.equal(module.times(torch.log(level.alpha / level.sigma)), torch.arange(1000))
    between = torch.tensor([-20.0, 0.0, 20.0])
    assert module.times(between)[[0, 2]].tolist() == [999, 0]


def test_both_halves_of_cfg_in_one_pass_are_the_two_apart():
    config = "audioldm_animediff_vggsound"
    released, module = RELEASED[config], network(config, "fanin")
    x, _, levels = case(config, "small")
    positive, negative = texts_of(released, 2, False), texts_of(released, 2, True)
    scales = {"audio": 2.5, "video": 7.5}
    together = guidance_gradient(Guidance(module, cfg=scales), x, levels, positive, negative)[1]
    apart = [guidance_gradient(Guidance(module), x, levels, texts)[1] for texts in (positive, negative)]
    for m, scale in scales.items():
        expected = apart[1][m] + scale * (apart[0][m] - apart[1][m])
        assert distance(together[m], expected) < 1e-4
        assert distance(together[m], apart[0][m]) > 1e-2


def test_the_released_form_saturates_and_ours_does_not():
    module = network("mmdiffusion_landscape", "fanin")
    x, _, levels = case("mmdiffusion_landscape", "small")

    class Sure(torch.nn.Module):
        """The same network, so sure of itself that the probability rounds to 1."""

        sigmas = staticmethod(module.sigmas)

        def forward(self, x, log_snr, pooled=None):
            return module(x, log_snr, pooled) + 20

        def at_times(self, x, t, pooled=None):
            return module.at_times(x, t, pooled) + 20

    released = guidance_gradient(Guidance(Sure(), form="released"), x, levels)[1]
    ours_ = guidance_gradient(Guidance(Sure()), x, levels)[1]
    plain = guidance_gradient(Guidance(module), x, levels)[1]
    for m in x:
        assert not released[m].any()
        torch.testing.assert_close(ours_[m], plain[m])


def test_the_released_form_scales_by_the_whole_time():
    """The solver's level lies between two trained ones; the authors scale by the sigma of the one before."""
    module = network("mmdiffusion_landscape", "fanin")
    x, _, _ = case("mmdiffusion_landscape", "small")
    at, between = (make_schedule("vp-linear").levels_at(torch.tensor(u / 999)) for u in (3, 4))
    level = Levels(at.t, between.alpha, between.sigma)
    found = residual(module, x, dict.fromkeys(x, level), None)
    exact = residual(module, x, dict.fromkeys(x, at), None)
    for m in x:
        torch.testing.assert_close(found[m], exact[m])
