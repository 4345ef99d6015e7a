"""The paper's discriminators from Python, against the authors' loop written out plainly."""

import math
import subprocess
import sys

import pytest
import torch
from released_weights import distance, drawn, filled, ours, small, texts_of

from mmdisco_cli import paper
from mmdisco_cli.diffusion.guidance import clipped_logit
from mmdisco_cli.diffusion.schedules import betas_linear, betas_scaled_linear
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.paper.configs import RELEASED

SHAPES = {  # in the authors' order of axes
    "mmdiffusion_landscape": {"audio": (2, 1, 320), "video": (2, 4, 3, 8, 8)},
    "audioldm_animediff_vggsound": {"audio": (2, 8, 6, 8), "video": (2, 4, 4, 8, 8)},
    "auffusion_videocrafter2_vggsound": {"audio": (2, 4, 8, 6), "video": (2, 4, 4, 8, 8)},
}
BETAS = {
    "audioldm_animediff_vggsound": (betas_scaled_linear(0.0015, 0.0195), betas_scaled_linear()),
    "auffusion_videocrafter2_vggsound": (betas_scaled_linear(), betas_linear(0.00085, 0.012)),
}


def start(config):
    return {m: drawn(f"start {m}", shape) for m, shape in SHAPES[config].items()}


def gaussian(kept):
    """Return the epsilon of N(0.3, 0.5^2), each modality on its own cumulative products."""

    def epsilon(x, t):
        found = {}
        for m, state in x.items():
            a = kept[m][t[m]].view(-1, *[1] * (state.ndim - 1)).sqrt().float()
            s = (1 - a**2).sqrt()
            found[m] = s * (state - 0.3 * a) / (0.25 * a**2 + s**2)
        return found

    return epsilon


def the_authors_loop(network, config, epsilon, kept, x, steps, scales, cfg, joint_steps, generator):
    """Ancestral sampling as MMDisCo's code has it: audio first, CFG on the residual, forward again in between."""
    released = RELEASED[config]
    axes, gap = released.axes, 1000 // steps
    texts = [texts_of(released, 2, negative) for negative in (False, True)]
    for t in range((steps - 1) * gap + 1, 0, -gap):
        times = torch.full((2,), t)
        now = {m: float(kept[m][t]) for m in x}
        then = {m: float(kept[m][t - gap]) if t >= gap else 1.0 for m in x}
        for again in range(joint_steps):
            if again:
                for m in ("audio", "video"):
                    ratio, fresh = now[m] / then[m], torch.randn(x[m].shape, generator=generator)
                    x = {**x, m: math.sqrt(ratio) * x[m] + math.sqrt(1 - ratio) * fresh}
            base = epsilon(x, dict.fromkeys(x, times))
            parts = []
            for text in texts:
                leaf = {m: state.clone().requires_grad_() for m, state in x.items()}
                logit = network.at_times({m: ours(s, axes.get(m)) for m, s in leaf.items()}, times, text)
                parts.append(
                    dict(zip(leaf, torch.autograd.grad(clipped_logit(logit).sum(), tuple(leaf.values())), strict=True))
                )
            new = {}
            for m in ("audio", "video"):
                factor = -math.sqrt(1 - now[m])
                residual = factor * (parts[1][m] + cfg[m] * (parts[0][m] - parts[1][m]))
                eps = base[m] + scales[m] * residual
                x0 = (x[m] - math.sqrt(1 - now[m]) * eps) / math.sqrt(now[m])
                beta = 1 - now[m] / then[m]
                mean = math.sqrt(then[m]) * beta / (1 - now[m]) * x0
                mean += math.sqrt(now[m] / then[m]) * (1 - then[m]) / (1 - now[m]) * x[m]
                variance = max((1 - then[m]) / (1 - now[m]) * beta, 1e-20)
                new[m] = mean + math.sqrt(variance) * torch.randn(x[m].shape, generator=generator)
            x = new
    return x


@pytest.mark.parametrize("config", BETAS)
@pytest.mark.parametrize("joint_steps", [1, 2])
def test_a_guided_ancestral_run_is_the_authors(config, joint_steps):
    network, released = filled(small(config)), RELEASED[config]
    kept = {m: (1 - betas).cumprod(0) for m, betas in zip(("audio", "video"), BETAS[config], strict=True)}
    scales = released.weights
    expected = the_authors_loop(
        network, config, gaussian(kept), kept, start(config), 10, scales, released.cfg, joint_steps,
        torch.Generator().manual_seed(803),
    )  # fmt: skip

    def run(**changes):
        settings = {"weights": scales, "cfg": released.cfg, "joint_steps": joint_steps, "axes": released.axes}
        return paper.guided_sample(
            network, gaussian(kept), start(config), sampler="ddpm", steps=10, texts=texts_of(released, 2, False),
            negative_texts=texts_of(released, 2, True), generator=torch.Generator().manual_seed(803),
            **(settings | changes),
        )  # fmt: skip

    found, unguided = run(), run(weights={"audio": 0.0, "video": 0.0})
    for m in found:
        assert distance(found[m], expected[m]) < 1e-4
        assert distance(unguided[m], expected[m]) > 1e-3  # guidance did something to compare


def test_a_guided_run_of_dpm_solver_adds_the_residual_at_every_evaluation():
    config = "mmdiffusion_landscape"
    network, released = filled(small(config)), RELEASED[config]
    kept = dict.fromkeys(("audio", "video"), (1 - betas_linear()).cumprod(0))
    alone, times = gaussian(kept), []

    def joint(x, t):
        """The base and the residual as one epsilon: whole times, the authors' axes, Eq. (3)."""
        times.append(int(t["audio"][0]))
        leaf = {m: state.clone().requires_grad_() for m, state in x.items()}
        with torch.enable_grad():
            logit = network.at_times({m: ours(s, released.axes.get(m)) for m, s in leaf.items()}, t["audio"])
            gradient = torch.autograd.grad(clipped_logit(logit).sum(), tuple(leaf.values()))
        base, sigma = alone(x, t), math.sqrt(1 - float(kept["audio"][times[-1]]))
        return {m: base[m] - 50.0 * sigma * g for m, g in zip(leaf, gradient, strict=True)}

    settings = {"sampler": "dpmpp_3s", "steps": 20, "threshold": 0.995, "axes": released.axes}
    off, on = ({"weights": dict.fromkeys(("audio", "video"), w)} for w in (0.0, 50.0))
    expected = paper.guided_sample(network, joint, start(config), **settings, **off)
    found = paper.guided_sample(network, alone, start(config), **settings, **on)
    unguided = paper.guided_sample(network, alone, start(config), **settings, **off)
    assert times == [999, 949, 898, 843, 784, 721, 652, 576, 492, 399, 302, 211, 138, 85, 51, 30, 16, 8, 3, 1]
    for m in found:
        assert found[m].shape == SHAPES[config][m]
        assert distance(found[m], expected[m]) < 1e-4
        assert distance(unguided[m], expected[m]) > 1e-3


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_3s"])
def test_one_sample_alone_is_the_first_of_two_and_the_callers_tensors_stay(sampler):
    """The authors' own solver crashes on a batch of one, and their guidance sets requires_grad on its inputs."""
    network = filled(small("mmdiffusion_landscape"))
    kept = dict.fromkeys(("audio", "video"), (1 - betas_linear()).cumprod(0))
    noise = {m: torch.cat([x[:1], x[:1]]) for m, x in start("mmdiffusion_landscape").items()}
    before = {m: x.clone() for m, x in noise.items()}

    def run(x):
        how = {"sampler": sampler, "steps": 6, "weights": {"audio": 50.0, "video": 50.0}, "threshold": 0.995}
        generator = torch.Generator().manual_seed(1) if sampler == "ddpm" else None
        axes = RELEASED["mmdiffusion_landscape"].axes
        return paper.guided_sample(network, gaussian(kept), x, generator=generator, axes=axes, **how)

    both, alone = run(noise), run({m: x[:1] for m, x in noise.items()})
    for m, x in noise.items():
        assert torch.equal(x, before[m])
        assert not x.requires_grad
        assert both[m].shape == x.shape
        assert alone[m].shape == x[:1].shape
        if sampler == "dpmpp_3s":  # which draws no noise after the start
            assert distance(alone[m][0], both[m][0]) < 1e-4
    again = run(noise)
    assert all(torch.equal(again[m], both[m]) for m in noise)


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no released discriminator 'landscape'"):
        paper.build_discriminator("landscape")
    with pytest.raises(DataError, match=r"gone\.safetensors: not a readable"):
        paper.load_discriminator(tmp_path / "gone.safetensors")
    network = filled(small("mmdiffusion_landscape"))
    kept = dict.fromkeys(("audio", "video"), (1 - betas_linear()).cumprod(0))
    with pytest.raises(ValueError, match="ddpm needs fresh noise"):
        paper.guided_sample(network, gaussian(kept), start("audioldm_animediff_vggsound"))
    with pytest.raises(ValueError, match="expected noise of audio and video, got video"):
        paper.guided_sample(network, gaussian(kept), {"video": torch.ones(1, 3, 4, 8, 8)})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sampler": "foo"}, "sampler: unknown 'foo'"),
        ({"form": "x"}, "form: unknown 'x'"),
        ({"weights": {"vidoe": 8.0}}, "weights: unknown 'vidoe'"),
        ({"axes": {"sound": (0, 1, 2)}}, "axes: unknown 'sound'"),
        ({"texts": {"audio": torch.ones(1, 4)}, "cfg": {"audio": 2.5}}, "cfg beside texts takes negative_texts"),
    ],
)
def test_arguments_without_effect_are_refused(wrong, message):
    network = filled(small("audioldm_animediff_vggsound"))
    kept = dict.fromkeys(("audio", "video"), (1 - betas_linear()).cumprod(0))
    options = {"generator": torch.Generator(), "steps": 2, **wrong}
    with pytest.raises(ValueError, match=message):
        paper.guided_sample(network, gaussian(kept), start("audioldm_animediff_vggsound"), **options)


def test_configurations_and_options_need_no_torch():
    code = (
        "import sys, mmdisco_cli.paper, mmdisco_cli.paper.configs, mmdisco_cli.paper.options\n"
        "assert 'torch' not in sys.modules\n"
        "assert callable(mmdisco_cli.paper.guided_sample)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_the_package_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'sample'"):
        paper.sample  # noqa: B018
