"""A sample is the same in any batch; guidance, its absence and given modalities do what they say."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CPU
from torch import Tensor, nn
from toy_backbones import Toy

from mmdisco_cli.assembly import Assembly, LoadedDiscriminator, assemble
from mmdisco_cli.diffusion.backbone import Base, Condition, Request, as_joint
from mmdisco_cli.diffusion.coupling import INDEX, coupled_grid
from mmdisco_cli.diffusion.guidance import logit
from mmdisco_cli.diffusion.noise import initial_noise
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.sampling.draw import draw, last_inside, resampled_modalities, total_steps
from mmdisco_cli.toys.gaussians.data import Gaussians
from mmdisco_cli.toys.gaussians.mixture import Mixture

SAMPLERS = ("ddim", "ddpm", "dpmpp_2m", "dpmpp_3s")


@pytest.fixture(scope="module")
def joint(tiny: Path) -> Assembly:
    return assemble(recipes.load(str(tiny)), CPU)


def config(**changed: Any) -> SampleConfig:
    return replace(SampleConfig(steps=6, guidance={"audio": 2.0, "video": 3.0}), **changed)


def largest_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return max(float((a[m] - b[m]).abs().max()) for m in a)


def row(state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    return {m: x[place : place + 1] for m, x in state.items()}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_is_the_same_in_any_batch(joint: Assembly, sampler: str) -> None:
    together = draw(joint, config(sampler=sampler), 5, [0, 1, 2, 3, 4])
    for place, batch in ((3, [3]), (2, [4, 2])):
        alone = draw(joint, config(sampler=sampler), 5, batch)
        at = batch.index(place)
        assert largest_difference(row(alone.latents, at), row(together.latents, place)) < 1e-4
        assert together.logit is not None
        assert alone.logit is not None
        assert float(alone.logit[at]) == pytest.approx(float(together.logit[place]), abs=1e-3)


def test_all_samples_are_guided_away_from_a_negative_prompt() -> None:
    """The toy's output is tanh(x + t) plus the length of its text, so guided samples are known in closed form."""
    texts: list[tuple[Sequence[str], Sequence[str] | None]] = []

    class Listening(Toy):
        def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Any) -> Condition:
            texts.append((prompts, negatives))
            return super().encode_prompt(prompts, negatives, plan)

    toy = as_joint(Listening())
    alone = Assembly({"audio": Base(toy, toy.plan(Request()))}, INDEX, CPU)
    found = {
        text: draw(alone, SampleConfig(steps=2, negative_prompt=text), 0, [0, 1], prompts=("a", "bc")).latents["audio"]
        for text in ("", "dull", "else")
    }
    assert texts == [(("a", "bc"), None), (("a", "bc"), ["dull"] * 2), (("a", "bc"), ["else"] * 2)]
    assert not torch.equal(found[""], found["dull"])
    assert torch.equal(found["dull"], found["else"])  # of one length, which is all that the toy reads


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_independent_is_guidance_of_weight_zero(joint: Assembly, sampler: str) -> None:
    independent = draw(joint, config(sampler=sampler), 0, [0, 7], independent=True)
    unweighted = draw(joint, config(sampler=sampler, guidance={"audio": 0.0, "video": 0.0}), 0, [0, 7])
    guided = draw(joint, config(sampler=sampler), 0, [0, 7])
    assert largest_difference(independent.latents, unweighted.latents) == 0
    assert largest_difference(independent.latents, guided.latents) > 1e-2
    assert independent.logit is not None
    assert unweighted.logit is not None
    assert torch.equal(independent.logit, unweighted.logit)


def test_seed_and_index_make_the_sample(joint: Assembly) -> None:
    first = draw(joint, config(), 0, [0, 1]).latents
    assert largest_difference(row(first, 0), row(first, 1)) > 1e-2
    assert largest_difference(first, draw(joint, config(), 1, [0, 1]).latents) > 1e-2


def test_independent_asks_the_discriminator_once(joint: Assembly) -> None:
    requested = []
    module = joint.discriminator.module if joint.discriminator else None
    assert module is not None
    hook = module.register_forward_hook(lambda *_: requested.append(1))
    draw(joint, config(), 0, [0], independent=True)
    hook.remove()
    assert len(requested) == 1


def test_without_a_discriminator_there_is_no_logit(tiny: Path) -> None:
    alone = assemble(recipes.load(str(tiny)), CPU, with_discriminator=False)
    assert draw(alone, config(), 0, [0], independent=True).logit is None


def test_the_logit_is_that_of_the_last_step_in_the_window(joint: Assembly) -> None:
    """One DDIM step from pure noise leads to alpha * x_0 + sigma * noise, where the model is evaluated next."""
    chosen = config(steps=2, window=(-1.0, 1.0))
    levels = {m: grid.at(1) for m, grid in coupled_grid(joint.bases, 2).items()}
    seen = {}
    for m, shape in joint.shapes.items():
        noise = initial_noise(0, 3, m, shape)[None]
        first = coupled_grid(joint.bases, 2)[m].at(0)
        base = next(b for b in joint.bases if m in b.modalities)
        x0 = base.backbone.predict({m: noise}, {m: first.t.expand(1)}, {}, base.plan)[m]
        seen[m] = levels[m].alpha * x0 + levels[m].sigma * noise
    assert joint.discriminator is not None
    with torch.no_grad():
        expected = logit(joint.discriminator.module, seen, levels)
    for independent in (True, False):
        found = draw(joint, chosen, 0, [3], independent=independent).logit
        assert found is not None
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("independent", [False, True])
def test_a_given_modality_ends_as_it_is_and_moves_the_other(joint: Assembly, sampler: str, independent: bool) -> None:
    given = {"video": torch.randn(2, *joint.shapes["video"], generator=torch.Generator().manual_seed(3))}
    chosen = config(sampler=sampler)
    found = draw(joint, chosen, 0, [0, 1], given=given, independent=independent).latents
    free = draw(joint, chosen, 0, [0, 1], independent=independent).latents
    assert torch.equal(found["video"], given["video"])
    moved = float((found["audio"] - free["audio"]).abs().max())
    assert moved == 0 if independent else moved > 1e-4


def test_the_logit_of_an_independent_sample_sees_what_is_given(joint: Assembly) -> None:
    """DDPM's own state of a given modality is not alpha * x_0 + sigma * epsilon, but that is what must be seen."""
    given = torch.randn(1, *joint.shapes["video"], generator=torch.Generator().manual_seed(3))
    assert joint.discriminator is not None
    seen: list[Tensor] = []
    hook = joint.discriminator.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]["video"]))
    draw(joint, config(sampler="ddpm"), 0, [0], given={"video": given}, independent=True)
    hook.remove()
    grid = coupled_grid(joint.bases, 6)
    step = last_inside(grid, config().window)
    assert step is not None
    level = grid["video"].at(step)  # variance-preserving: nothing is divided out
    noise = initial_noise(0, 0, "video", joint.shapes["video"])
    torch.testing.assert_close(seen, [level.alpha * given + level.sigma * noise])


def test_steps_are_counted_and_may_be_stopped(joint: Assembly) -> None:
    done: list[int] = []
    draw(joint, config(), 0, [0], on_step=done.append)
    assert done == [1, 2, 3, 4, 5, 6]

    def stop(step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(joint, config(), 0, [0], on_step=stop)


def test_the_last_step_inside_a_window_is_found() -> None:
    alpha = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.0])
    levels = Levels(alpha, alpha, (1 - alpha**2).sqrt())
    lam = log_snr(levels.alpha, levels.sigma).tolist()
    assert last_inside({"x": levels}, (-4.0, lam[2])) == 2
    assert last_inside({"x": levels}, (-4.0, 100.0)) == 3  # no model is evaluated at the last level
    assert last_inside({"x": levels}, (lam[1] + 0.01, lam[2] - 0.01)) is None


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_repeated_steps_do_not_depend_on_the_batch_either(joint: Assembly, sampler: str) -> None:
    repeated = config(sampler=sampler, joint_steps=2, joint_window=(-2.0, 2.0))
    together, alone = draw(joint, repeated, 5, [0, 1, 2]), draw(joint, repeated, 5, [2])
    assert largest_difference(row(together.latents, 2), alone.latents) < 1e-4
    once = draw(joint, config(sampler=sampler), 5, [2])
    assert largest_difference(once.latents, alone.latents) > 1e-2


def test_thresholding_keeps_the_last_states_bounded(joint: Assembly) -> None:
    strong = {"audio": 400.0, "video": 400.0}
    free, bounded = (draw(joint, config(threshold=q, guidance=strong), 0, [0]).latents for q in (0.0, 0.5))
    assert max(float(x.abs().max()) for x in free.values()) > 1
    assert max(float(x.abs().max()) for x in bounded.values()) <= 1


def test_a_modality_made_anew_leaves_the_others_and_has_noise_of_its_own(joint: Assembly) -> None:
    chosen = config(gibbs=("audio",), gibbs_steps=4)
    before = draw(joint, config(), 0, [0, 1]).latents
    after = draw(joint, chosen, 0, [0, 1]).latents
    assert torch.equal(after["video"], before["video"])
    assert float((after["audio"] - before["audio"]).abs().max()) > 1e-2
    same_noise = draw(joint, config(steps=4), 0, [0, 1], given={"video": before["video"]}).latents
    assert float((after["audio"] - same_noise["audio"]).abs().max()) > 1e-2
    assert largest_difference(row(after, 1), draw(joint, chosen, 0, [1]).latents) < 1e-4


def test_modalities_are_made_anew_in_the_order_given(joint: Assembly) -> None:
    once = draw(joint, config(gibbs=("audio",), gibbs_steps=4), 0, [0]).latents
    twice = draw(joint, config(gibbs=("audio", "video"), gibbs_steps=4), 0, [0]).latents
    assert torch.equal(twice["audio"], once["audio"])
    assert float((twice["video"] - once["video"]).abs().max()) > 1e-2


def test_what_is_given_or_alone_beside_it_is_not_made_anew(joint: Assembly) -> None:
    chosen = config(gibbs=("audio", "video"), gibbs_steps=4)
    assert resampled_modalities(chosen, ("audio", "video"), ("video",)) == ()
    assert resampled_modalities(chosen, ("audio", "video", "touch"), ("video",)) == ("audio",)
    assert total_steps(chosen, joint.shapes, ()) == 14
    given = {"video": torch.zeros(1, *joint.shapes["video"])}
    plain = draw(joint, config(), 0, [0], given=given).latents
    assert largest_difference(plain, draw(joint, chosen, 0, [0], given=given).latents) == 0
    done: list[int] = []
    draw(joint, chosen, 0, [0], on_step=done.append)
    assert done == [*range(1, 15)]


class ExactLogit(nn.Module):
    """log p - log q of noisy scalars, in closed form for the mixture of `gaussians`."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: None = None) -> Tensor:
        together = torch.cat([x[m] for m in x], 1)
        level = torch.stack([lam[m] for m in x], 1)
        alone = sum(
            _log_density(self.mixture.marginal(i), together[:, i : i + 1], level[:, i : i + 1]) for i in range(len(x))
        )
        return _log_density(self.mixture, together, level) - alone


def _log_density(mixture: Mixture, x: Tensor, lam: Tensor) -> Tensor:
    alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
    std = torch.hypot(alpha * mixture.std, sigma)[:, None]
    modes = torch.distributions.Normal(alpha[:, None] * mixture.means, std)
    return modes.log_prob(x[:, None]).sum(2).logsumexp(1) - math.log(len(mixture.means))


@pytest.mark.parametrize(("given_fraction", "joint"), [(0.25, True), (0.0, False)])
def test_one_resampled_under_the_exact_logit_has_the_joint_distribution(given_fraction: float, joint: bool) -> None:
    """It does not at the sampler's own level of the other one, whose gradient is not that of the conditional."""
    recipe = recipes.load("gaussians")
    bases = assemble(recipe, CPU, with_discriminator=False)
    assert recipe.data is not None
    mixture = Gaussians(recipe.data.options).mixture
    exact = LoadedDiscriminator(ExactLogit(mixture), {"given_fraction": given_fraction}, Path("exact"), "exact")
    chosen = SampleConfig(steps=40, window=(-9.0, 9.0), gibbs=("y",), gibbs_steps=40)
    latents = draw(replace(bases, discriminator=exact), chosen, 0, range(1000)).latents
    points = torch.cat([latents["x"], latents["y"]], 1)
    assert (mixture.on_modes(points) > 0.98) == joint
    on_each = [float((points[:, 1] - mean[1]).abs().lt(3.5 * mixture.std).float().mean()) for mean in mixture.means]
    assert on_each == pytest.approx([0.25] * 4, abs=0.06)


def test_what_is_resampled_has_weights_of_its_own() -> None:
    """Of weight 0 it is what the base model makes alone, of the same noise; the joint run before it stays as it is."""
    recipe = recipes.load("gaussians")
    bases = assemble(recipe, CPU, with_discriminator=False)
    assert recipe.data is not None
    logit = ExactLogit(Gaussians(recipe.data.options).mixture)
    loaded = LoadedDiscriminator(logit, {"given_fraction": 0.25}, Path("exact"), "exact")
    guided = replace(bases, discriminator=loaded)
    chosen = SampleConfig(steps=8, guidance={"x": 1.0, "y": 2.0}, gibbs=("y",), gibbs_steps=8)
    usual = draw(guided, chosen, 0, range(16)).latents
    alone = draw(guided, chosen, 0, range(16), independent=True).latents
    without = draw(guided, replace(chosen, gibbs_guidance={"y": 0.0}), 0, range(16)).latents
    assert torch.equal(without["x"], usual["x"])
    assert not torch.equal(without["x"], alone["x"])
    assert torch.equal(without["y"], alone["y"])
    assert not torch.equal(without["y"], usual["y"])
    same = draw(guided, replace(chosen, gibbs_guidance={"y": 2.0}), 0, range(16)).latents
    assert all(torch.equal(same[m], usual[m]) for m in usual)


def test_what_is_resampled_repeats_steps_of_its_own(joint: Assembly) -> None:
    """As often, and where, as if the whole recipe did, after a joint run that stays as it is."""
    plain = config(sampler="ddim", gibbs=("audio",), gibbs_steps=6)
    own = replace(plain, gibbs_joint_steps=3, gibbs_joint_window=(-3.0, 1.0))
    before, repeated = draw(joint, plain, 0, [0]).latents, draw(joint, own, 0, [0]).latents
    assert torch.equal(repeated["video"], before["video"])
    assert float((repeated["audio"] - before["audio"]).abs().max()) > 1e-2
    everywhere = replace(own, gibbs_joint_window=None)
    assert float((draw(joint, everywhere, 0, [0]).latents["audio"] - repeated["audio"]).abs().max()) > 1e-2
    once = replace(plain, joint_steps=3, joint_window=(-3.0, 1.0), gibbs_joint_steps=1)
    joint_run = draw(joint, replace(once, gibbs=()), 0, [0]).latents
    assert torch.equal(draw(joint, once, 0, [0]).latents["video"], joint_run["video"])
    same = replace(plain, joint_steps=3, gibbs_joint_steps=3, joint_window=(-3.0, 1.0))
    inherited = draw(joint, replace(same, gibbs_joint_steps=None), 0, [0]).latents
    assert largest_difference(draw(joint, same, 0, [0]).latents, inherited) == 0
