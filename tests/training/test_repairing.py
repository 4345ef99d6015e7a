"""Re-pairings of what was read once: which there are, and that they are those of tuples re-paired and read again."""

import itertools

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Condition
from mmdisco_cli.diffusion.denoise import Prediction
from mmdisco_cli.diffusion.guidance import logit
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.discriminators.factors import build
from mmdisco_cli.discriminators.options import FactorsOptions
from mmdisco_cli.discriminators.repairing import MOST, ReadOnce, shifts
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.batch import NoisyBatch, groups_of, mismatched
from mmdisco_cli.training.losses import disc_loss, joint_losses

WINDOW = (-20.0, 20.0)


def network(shapes):
    torch.manual_seed(0)
    module = build(FactorsOptions(factors=4, width=8, depth=1, heads=2, tokens=2), shapes, {"b": 3})
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def batch_of(shapes, each, groups, seed=1):
    """Return a batch whose levels, other ones in each modality, repeat `groups` times."""
    draw = torch.Generator().manual_seed(seed)
    count = each * groups
    x = {m: torch.randn(count, *shape, generator=draw) for m, shape in shapes.items()}
    levels = {}
    for m in shapes:
        angle = (torch.rand(each, generator=draw) * 1.3 + 0.1).repeat(groups)
        levels[m] = Levels(angle.cos(), angle.sin(), angle)
    return NoisyBatch(x, {m: torch.zeros_like(v) for m, v in x.items()}, levels)


@pytest.mark.parametrize(("groups", "modalities"), [(2, 2), (3, 3), (16, 2), (5, 3), (16, 3), (6, 4)])
def test_no_two_parts_of_a_tuple_stay_together(groups, modalities):
    found = shifts(groups, modalities)
    assert 1 <= len(found) <= MOST
    assert len(set(found)) == len(found)
    assert all(len(set(shift)) == modalities for shift in found)
    assert all(0 <= s < groups for shift in found for s in shift)
    # All there are, up to the limit.
    every = [s for s in itertools.product(range(groups), repeat=modalities) if s[0] == 0 and len(set(s)) == modalities]
    assert len(found) == min(len(every), MOST)


@pytest.mark.parametrize("shapes", [{"a": (3,), "b": (1, 4)}, {"a": (3,), "b": (1, 4), "c": (2, 2, 2)}])
@pytest.mark.parametrize(("each", "groups"), [(1, 4), (3, 4), (2, 5)])
def test_the_loss_is_that_of_tuples_that_are_read_again(shapes, each, groups):
    module, real = network(shapes), batch_of(shapes, each, groups)
    loss, figures = joint_losses(
        module, lambda _: Prediction({}, {}), real, None, WINDOW, TrainConfig(lambda_denoise=0), groups
    )
    again = []
    for shift in shifts(groups, len(shapes)):
        rows = {
            m: (torch.arange(each * groups) - s * each) % (each * groups) for m, s in zip(shapes, shift, strict=True)
        }
        for m, level in real.levels.items():
            assert torch.equal(level.alpha[rows[m]], level.alpha)
        again.append(logit(module, {m: x[rows[m]] for m, x in real.states.items()}, real.levels))
    expected = disc_loss(logit(module, real.states, real.levels), torch.stack(again))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert figures["disc"] == pytest.approx(float(expected.detach()), rel=1e-5)


def test_both_losses_reach_every_weight_that_needs_no_text():
    shapes = {"a": (3,), "b": (1, 4)}
    module, real = network(shapes), batch_of(shapes, 2, 4)
    alone = Prediction({m: torch.zeros_like(x) for m, x in real.states.items()}, dict(real.states))
    loss, figures = joint_losses(module, lambda _: alone, real, None, WINDOW, TrainConfig(), 4)
    loss.backward()
    assert "gain" in figures
    assert [n for n, p in module.named_parameters() if p.grad is None and "prompt" not in n] == []


def test_with_texts_only_what_the_source_repairs_is_a_fake():
    shapes = {"a": (3,), "b": (1, 4)}
    module, real = network(shapes), batch_of(shapes, 2, 2)
    text = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
    real = NoisyBatch(real.states, real.noise, real.levels, {"b": Condition(text, None, text)})
    config = TrainConfig(lambda_denoise=0, tuples_per_level=4, batch_size=4)
    loss, _ = joint_losses(module, lambda _: Prediction({}, {}), real, None, WINDOW, config, 2)
    once = ReadOnce(module)
    own = logit(once, real.states, real.levels, real.pooled)
    fake = logit(module, mismatched(real.states), real.levels, real.pooled)
    assert float(loss.detach()) == pytest.approx(float(disc_loss(own, fake).detach()), rel=1e-6)


def test_groups_are_no_more_than_tuples_and_what_texts_allow():
    config = TrainConfig(batch_size=32, tuples_per_level=16)
    assert groups_of(object(), config, 2, 32) == 16
    assert groups_of(object(), config, 2, 8) == 8
    assert groups_of(object(), TrainConfig(), 3, 32) == 3
    source = type("Captioned", (), {"sets": 2})()
    assert groups_of(source, config, 2, 32) == 2


def test_other_discriminators_take_larger_groups_too():
    row = torch.arange(12.0)
    wrong = mismatched({"a": row, "b": row, "c": row}, 6)
    assert torch.equal(wrong["b"], row.roll(2))
    assert torch.equal(wrong["c"], row.roll(4))


def test_what_does_not_divide_the_batch_is_refused():
    with pytest.raises(UsageError, match=r"train\.tuples_per_level: 5 does not divide train\.batch_size=32"):
        recipes.load("gaussians", ["train.batch_size=32", "train.tuples_per_level=5"])
