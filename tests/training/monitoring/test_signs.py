"""Signs of failing in curves: each in one made to show it, and none in recorded ones of trainings that went well."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mmdisco_cli.training.monitoring.collapse import collapse
from mmdisco_cli.training.monitoring.lasting import CHANCE, Rows, pooled
from mmdisco_cli.training.monitoring.signs import (
    DISC,
    GAIN,
    LOSS,
    X0_ERROR,
    Measure,
    instability,
    overfitting,
    signs,
)

HEALTHY: dict[str, Any] = json.loads((Path(__file__).parent / "healthy.json").read_text())
OVERFITTED: dict[str, Any] = json.loads((Path(__file__).parent / "overfitted.json").read_text())
"""The training of gaussians on 24 points, 900 steps of as many."""
STEPS, WARMUP, EVERY = 2000, 100, 50


def rows_of(columns: dict[str, list[float]]) -> list[dict[str, float]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def curve(**columns: Any) -> list[dict[str, float]]:
    """Return rows of training up to the end; what is not given is that of a training that goes well."""
    plain = {"loss": 2.0, "disc": 1.2, "accuracy": 0.65, "denoise": 0.7, "gain": 0.2, "grad_norm": 1.0}
    found = []
    for step in range(EVERY, STEPS + 1, EVERY):
        given = {name: value(step) if callable(value) else value for name, value in columns.items()}
        found.append({"step": step, **plain, **given})
    return found


def measured(name: str, *values: float) -> list[dict[str, float]]:
    return [{"step": 500 * (k + 1), name: value} for k, value in enumerate(values)]


@pytest.mark.parametrize("name", HEALTHY)
def test_trainings_that_went_well_show_no_sign_at_any_step(name: str) -> None:
    one = HEALTHY[name]
    rows, heldout = rows_of(one["training"]), rows_of(one["heldout"])
    measure = next(known for known in (X0_ERROR, GAIN, DISC, LOSS) if known.name in one["training"])
    assert len(rows) >= 30
    for row in rows:
        until = [r for r in rows if r["step"] <= row["step"]]
        known = [r for r in heldout if r["step"] <= row["step"]]
        assert signs(until, known, measure, one["steps"], one["warmup"]) == []


def test_the_recorded_curves_are_of_three_kinds_of_data() -> None:
    assert {"gaussians", "digits", "digits-pairs", "bounce", "bounce-text"} <= HEALTHY.keys()
    assert all(HEALTHY[name]["heldout"]["gain"] for name in ("gaussians", "bounce"))
    assert HEALTHY["digits-pairs"]["heldout"]["disc"]


def test_a_training_on_a_few_clips_is_said_to_overfit() -> None:
    rows, heldout = rows_of(OVERFITTED["training"]), rows_of(OVERFITTED["heldout"])
    (found,) = signs(rows, heldout, GAIN, OVERFITTED["steps"], OVERFITTED["warmup"])
    assert (found.name, found.since) == ("overfitting", 150)
    # Had it been measured only after that, there would have been nothing better to compare with.
    late = [row for row in heldout if row["step"] > 500]
    assert overfitting(rows, late, GAIN) is not None


def test_an_accuracy_stuck_at_chance_is_collapse() -> None:
    rows = curve(accuracy=lambda step: 0.5 + 0.004 * math.sin(step), disc=CHANCE, gain=0.0)
    found = collapse(rows, STEPS, WARMUP)
    assert found is not None
    assert found.since == WARMUP + EVERY
    assert "accuracy 0.500 is chance" in str(found)
    assert "\n" not in str(found)
    assert "train.learning_rate" in found.keys


def test_a_logit_that_hardly_leaves_0_is_collapse_whatever_its_accuracy() -> None:
    found = collapse(curve(accuracy=0.62, disc=CHANCE - 1e-5, gain=0.0), STEPS, WARMUP)
    assert found is not None
    assert found.since == WARMUP + EVERY
    assert "accuracy 0.620, but the logit is hardly other than 0, disc 1.386 of 1.386" in str(found)
    assert collapse(curve(accuracy=0.62, disc=CHANCE - 0.01, gain=0.0), STEPS, WARMUP) is None


def test_guidance_that_changes_nothing_is_collapse_where_only_denoising_is_trained() -> None:
    def alone(gain: Any) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k not in ("accuracy", "disc")} for row in curve(gain=gain)]

    found = collapse(alone(lambda step: 0.2 if step <= 1000 else 1e-4), STEPS, WARMUP)
    assert found is not None
    assert found.since == 1050
    assert "guidance changes nothing, gain 0.0001 at most" in str(found)
    assert collapse(alone(lambda step: 0.002), STEPS, WARMUP) is None
    assert signs(alone(0.2), [], GAIN, STEPS, WARMUP) == []


def test_chance_is_collapse_from_the_step_where_it_begins() -> None:
    rows = curve(accuracy=lambda step: 0.7 if step <= 1000 else 0.5, disc=lambda s: 1.1 if s <= 1000 else 1.386, gain=0)
    found = collapse(rows, STEPS, WARMUP)
    assert found is not None
    assert found.since == 1050


@pytest.mark.parametrize(
    "columns",
    [
        {"accuracy": 0.5, "disc": CHANCE, "gain": 0.05},  # guidance is of use, whatever the classification says
        {"accuracy": lambda step: 0.5 + 0.1 * step / STEPS, "disc": lambda step: 1.386 - 0.2 * step / STEPS, "gain": 0},
        {"accuracy": 0.54, "disc": 1.37, "gain": 0},  # little, but something
        {"accuracy": 0.999, "disc": 0.005, "gain": 0.0},  # sure, and still learning
    ],
)
def test_what_learns_is_no_collapse(columns: dict[str, Any]) -> None:
    assert collapse(curve(**columns), STEPS, WARMUP) is None


def test_chance_is_no_collapse_in_the_warm_up_nor_right_after_it() -> None:
    rows = curve(accuracy=0.5, disc=CHANCE, gain=0.0)
    assert collapse(rows, STEPS, STEPS) is None
    early = [row for row in rows if row["step"] <= WARMUP + STEPS / 4]
    assert collapse(early, STEPS, WARMUP) is None


def test_rows_of_a_few_tuples_are_looked_at_together() -> None:
    rows = [{"step": step, "gain": float(step), "stage": "x"} for step in range(1, 12)]
    assert pooled(rows, 64) == rows
    assert pooled(rows, 500) == rows
    assert [(row["step"], row["gain"]) for row in pooled(rows, 16)] == [(4, 2.5), (8, 6.5)]
    assert pooled(rows[:3], 16) == []


def test_the_guidance_of_a_few_tuples_may_do_harm_once() -> None:
    noisy = [{**row, "gain": -2.0 if row["step"] == 1000 else 0.2} for row in curve()]
    assert instability(noisy, STEPS, WARMUP) is not None
    assert instability(pooled(noisy, 16), STEPS, WARMUP) is None


def test_certainty_with_a_vanishing_gradient_is_collapse() -> None:
    late = 800
    rows = curve(
        accuracy=lambda step: 0.8 if step < late else 1.0,
        disc=lambda step: 0.9 if step < late else 1e-4,
        grad_norm=lambda step: 2.0 if step < late else 1e-3,
        gain=0.0,
    )
    found = collapse(rows, STEPS, WARMUP)
    assert found is not None
    assert found.since == late
    assert "saturated" in found.seen


@pytest.mark.parametrize(
    ("column", "value", "seen"),
    [
        ("loss", 1e14, "loss 1e+14 is 5e+13 times its running median"),
        ("loss", -1e3, "loss -1e+03 is 5e+02 times"),
        ("grad_norm", 40.0, "grad_norm 40 is 40 times"),
        ("disc", 30.0, "disc 30 is 22 times that of chance"),
        ("gain", -2.5, "multiplies the base models' error by 3.5"),
    ],
)
def test_a_jump_is_unstable_since_its_step(column: str, value: float, seen: str) -> None:
    usual = curve()[0][column]
    found = instability(curve(**{column: lambda step: value if step == 1200 else usual}), STEPS, WARMUP)
    assert found is not None
    assert found.since == 1200
    assert seen in found.seen


def test_what_was_never_stable_needs_no_median() -> None:
    found = instability([{"step": 50, "loss": 1e14, "disc": 1e14, "grad_norm": 1e9}], STEPS, WARMUP)
    assert found is not None
    assert found.since == 50


def test_a_gain_below_zero_for_long_is_unstable_and_a_moment_is_not() -> None:
    long = instability(curve(gain=lambda step: 0.1 if step < 1000 else -0.05), STEPS, WARMUP)
    assert long is not None
    assert long.since == 1000
    assert instability(curve(gain=lambda step: -0.05 if 900 < step < 1100 else 0.1), STEPS, WARMUP) is None
    assert instability(curve(gain=lambda step: -1e-4), STEPS, WARMUP) is None


@pytest.mark.parametrize(
    "columns",
    [
        {"loss": lambda step: 2e4 / step, "grad_norm": lambda step: 100 / step},  # falls by orders of magnitude
        {"loss": lambda step: 1e-6 if step % 100 else 1e-3},  # tiny ones differ by as many
        {"grad_norm": lambda step: 1.0 if step % 200 else 9.0},
    ],
)
def test_what_falls_or_varies_is_stable(columns: dict[str, Any]) -> None:
    assert instability(curve(**columns), STEPS, WARMUP) is None


@pytest.mark.parametrize(
    ("measure", "trained", "values"),
    [
        (GAIN, lambda step: step / STEPS, (0.1, 0.3, 0.25, 0.2)),
        (DISC, lambda step: 1.3 - step / STEPS, (1.3, 1.2, 1.25, 1.3)),
        (X0_ERROR, lambda step: 1 - step / STEPS / 2, (0.6, 0.5, 0.52, 0.55)),
    ],
)
def test_held_out_clips_that_get_worse_while_training_gets_better_are_overfitting(
    measure: Measure, trained: Any, values: tuple[float, ...]
) -> None:
    rows = curve(**{measure.name: trained})
    found = overfitting(rows, measured(measure.name, *values), measure)
    assert found is not None
    assert found.since == 1000
    assert "best.safetensors holds step 1000" in found.keys


@pytest.mark.parametrize(
    ("values", "trained"),
    [
        ((0.1, 0.2, 0.3, 0.31), lambda step: step / STEPS),
        ((0.1, 0.3, 0.29, 0.295), lambda step: step / STEPS),  # within the noise
        ((0.1, 0.3, 0.2, 0.29), lambda step: step / STEPS),  # once, then back
        ((0.1, 0.3, 0.25, 0.2), lambda step: 1 - step / STEPS),  # training gets worse too: something else
        ((0.3, 0.2), lambda step: step / STEPS),  # too few to say
        ((), lambda step: step / STEPS),
    ],
)
def test_held_out_clips_that_keep_up_are_no_overfitting(values: tuple[float, ...], trained: Any) -> None:
    assert overfitting(curve(gain=trained), measured("gain", *values), GAIN) is None


@pytest.mark.parametrize(
    ("measure", "trained", "values"),
    [
        (GAIN, lambda step: min(0.6, step / 500), (-0.018, -0.01, -0.015)),
        (GAIN, 0.4, (0.19, 0.18, 0.195)),
        (DISC, 0.5, (1.38, 1.37, 1.38)),
    ],
)
def test_held_out_clips_that_never_gain_half_as_much_are_overfitting(
    measure: Measure, trained: Any, values: tuple[float, ...]
) -> None:
    found = overfitting(curve(**{measure.name: trained}), measured(measure.name, *values), measure)
    assert found is not None
    assert found.since == 500
    assert f"stays at {values[-1]:.4g} while that of training is" in found.seen


@pytest.mark.parametrize(
    ("measure", "trained", "values"),
    [
        (GAIN, 0.4, (0.22, 0.21, 0.22)),  # a gap, but more than half of it holds
        (GAIN, 0.4, (0.02, 0.08, 0.15)),  # averaged weights are behind, and catch up
        (GAIN, 0.4, (0.1, 0.1)),  # too few to say
        (GAIN, 0.02, (0.005, 0.004, 0.005)),  # hardly anything is learnt at all
        (DISC, 1.3, (1.38, 1.37, 1.38)),
        (X0_ERROR, 0.1, (0.9, 0.9, 0.9)),  # nobody knows its value where nothing is learnt
    ],
)
def test_held_out_clips_that_get_their_share_are_no_overfitting(
    measure: Measure, trained: Any, values: tuple[float, ...]
) -> None:
    assert overfitting(curve(**{measure.name: trained}), measured(measure.name, *values), measure) is None


def test_curves_of_other_kinds_and_none_at_all_are_looked_at_too() -> None:
    plain: Rows = [{"step": 50 * k, "loss": 0.5, "grad_norm": 1.0} for k in range(1, 30)]
    assert signs(plain, [], GAIN, 2000, 100) == signs([], [], GAIN, 2000, 100) == []
