"""Interaction and accuracy: nothing for a sum of one-modality terms, all of it for a product, as the algebra says."""

import math

import pytest
import torch
from small_models import write_recipe

from mmdisco_cli.assembly import assemble
from mmdisco_cli.diffusion.backbone import unwrap
from mmdisco_cli.discriminators.interaction import interaction, mismatched_tuples
from mmdisco_cli.evaluation.cost import parameters, sampling_cost
from mmdisco_cli.evaluation.discriminator_levels import (
    LEVELS,
    LevelFigures,
    estimated,
    figures_of,
    in_chunks,
    measure_levels,
    summary,
)
from mmdisco_cli.measures.bootstrap import mean_of
from mmdisco_cli.recipes import recipe as recipes

CPU = torch.device("cpu")


def latents(n, seed=0, **shapes):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(n, *shape, generator=generator) for m, shape in shapes.items()}


def value_of(level, name):
    return float(level.figures[name].value)


def pairing(logit, real):
    found = figures_of(logit, real)
    return float(found["interaction"].value), float(found["accuracy"].value)


@pytest.fixture(params=["energy", "energy-x0", "aligned", "additive"])
def assembly(request, models, tmp_path):
    path = write_recipe(models, tmp_path, discriminator=request.param)
    return assemble(recipes.load(str(path)), CPU)


def test_only_an_additive_discriminator_has_no_interaction(assembly):
    found = measure_levels(assembly, latents(12, **assembly.shapes), seed=0)
    assert [one.u for one in found] == list(LEVELS)
    assert found[0].log_snr["audio"] > found[-1].log_snr["audio"]
    for one in found:
        if assembly.discriminator.about["name"] == "additive":
            assert value_of(one, "interaction") < 1e-9
        else:
            assert 1e-6 < value_of(one, "interaction") <= 1.2
    again = measure_levels(assembly, latents(12, **assembly.shapes), seed=0)
    assert [value_of(one, "interaction") for one in again] == [value_of(one, "interaction") for one in found]


def test_interaction_of_a_product_is_one_and_of_a_sum_zero():
    real = latents(4000, audio=(1,), video=(1,))

    def mixed(share):
        def logit(x):
            a, v = x["audio"][:, 0].double(), x["video"][:, 0].double()
            return share * a * v + (1 - share) * (a + v)

        return logit

    assert pairing(mixed(0.0), real)[0] == pytest.approx(0, abs=1e-20)
    assert pairing(mixed(1.0), real)[0] == pytest.approx(1, abs=0.1)
    # Var(a v) = 1 and Var(a + v) = 2, uncorrelated: s^2 / (s^2 + 2 (1 - s)^2)
    assert pairing(mixed(0.5), real)[0] == pytest.approx(1 / 3, abs=0.05)


def test_accuracy_is_a_half_for_a_constant_and_one_for_one_that_knows():
    x = torch.linspace(-1, 1, 64)[:, None]
    real = {"audio": x, "video": x}
    assert pairing(lambda pair: torch.zeros(64), real) == (0.0, 0.5)
    assert pairing(lambda pair: 0.01 - (pair["audio"] - pair["video"])[:, 0].abs(), real)[1] == 1.0


def test_logits_do_not_depend_on_chunks(assembly, monkeypatch):
    clean = latents(10, **assembly.shapes)
    levels = {m: base.backbone.levels_at(torch.tensor([0.4]), base.plan)[m].at(0)
              for base in assembly.bases for m in base.modalities}  # fmt: skip
    logit = in_chunks(assembly.discriminator.module, assembly.bases, levels)
    whole = logit(clean)
    monkeypatch.setattr("mmdisco_cli.evaluation.discriminator_levels.CHUNK", 3)
    torch.testing.assert_close(logit(clean), whole, rtol=1e-5, atol=1e-5)


def test_too_few_clips_are_refused(assembly):
    with pytest.raises(ValueError, match="at least 4"):
        measure_levels(assembly, latents(3, **assembly.shapes), seed=0)


def test_summary_is_over_the_levels_at_which_guidance_acts():
    found = [
        LevelFigures(0.1, {"a": 3.0, "v": 3.0}, {"accuracy": mean_of([1.0, 0.8])}),
        LevelFigures(0.5, {"a": 0.0, "v": 0.0}, {"accuracy": mean_of([0.2, 0.4])}),
    ]
    assert summary(found, "accuracy", (-1.0, 1.0), 0).value == pytest.approx(0.3)
    assert summary(found, "accuracy", (-9.0, -8.0), 0).value == pytest.approx(0.6)


def test_figures_over_levels_are_of_the_same_clips_at_all_of_them():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0)).tolist()
    opposite = [
        LevelFigures(u, {"a": 0.0}, {"logit": mean_of([k * v for v in values])}) for u, k in ((0.1, 1), (0.2, -1))
    ]
    found = summary(opposite, "logit", (-1.0, 1.0), 0)
    # What one level has more of a clip the other has less of, so that nothing varies, however clips are drawn.
    assert found.low == pytest.approx(0, abs=1e-12) == found.high
    one = summary(opposite[:1], "logit", (-1.0, 1.0), 0)
    assert one.high - one.low > 0.3


def test_intervals_are_as_wide_as_sets_of_other_clips_differ():
    def logit(x):
        a, v = x["audio"][:, 0].double(), x["video"][:, 0].double()
        return 1 + a * v + 0.5 * a

    def drawn(seed):
        z = torch.randn(200, 1, generator=torch.Generator().manual_seed(1000 + seed))
        return {m: (z + x) / 2**0.5 for m, x in latents(200, seed, audio=(1,), video=(1,)).items()}

    sets = [figures_of(logit, drawn(seed)) for seed in range(200)]
    for name in ("interaction", "accuracy", "logit", "shuffled", "calibration"):
        found = [estimated([one[name]], 0) for one in sets[:40]]
        spread = torch.tensor([float(one[name].value) for one in sets]).std()
        width = sum(one.high - one.low for one in found) / len(found)
        # Rows of mismatched tuples share clips with their neighbours, so those of interaction are a little narrow.
        assert 0.7 < width / (2 * 1.96 * spread) < 1.3, name


def test_sums_by_row_give_the_interaction_of_the_definition():
    real = latents(50, audio=(1,), video=(1,), text=(1,))

    def logit(x):
        a, v, t = (x[m][:, 0].double() for m in ("audio", "video", "text"))
        return 1e4 + a * v + t * a + v + 0.3 * t

    x, y = mismatched_tuples(real)
    swapped = [(logit({**x, m: y[m]}), logit({**y, m: x[m]})) for m in real]
    squares = torch.stack([(logit(x) - here - there + logit(y)).square().mean() for here, there in swapped])
    every = torch.cat([logit(x), logit(y), *(one for pair in swapped for one in pair)])
    assert interaction(logit, x, y) == pytest.approx(float(squares.mean() / (4 * every.var())), rel=1e-9)
    assert interaction(lambda x: torch.full((50,), 0.1), x, y) == 0


def test_size_and_cost(models, tmp_path):
    recipe = recipes.load(str(write_recipe(models, tmp_path)))
    assembly = assemble(recipe, CPU)
    counted = parameters(assembly)
    assert counted["ratio"] == counted["discriminator"] / counted["bases"] > 0
    assert counted["bases"] == sum(
        p.numel() for base in assembly.bases for p in unwrap(base.backbone).module.parameters()
    )
    cost = sampling_cost(assembly, recipe.sample, seed=0)
    assert cost["batch_size"] == 4
    assert min(cost["guided_seconds"], cost["independent_seconds"], cost["ratio"]) > 0


def test_certainty_that_is_right_is_calibrated():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 1, generator=generator)
    x = z + torch.randn(4000, 1, generator=generator)
    y = z + torch.randn(4000, 1, generator=generator)
    # Two unit Gaussians around one unit Gaussian correlate by a half: the log-ratio is known.
    det = 1 - 0.25

    def ratio(pair):
        a, b = (pair[m][:, 0] / 2**0.5 for m in ("audio", "video"))
        return -0.5 * math.log(det) - 0.5 * ((a * a + b * b - a * b) / det - a * a - b * b)

    real = {"audio": x, "video": y}
    found = figures_of(ratio, real)
    assert float(found["logit"].value) > 0 > float(found["shuffled"].value)
    assert float(found["calibration"].value) < 0.03
    assert float(figures_of(lambda pair: 8 * ratio(pair), real)["calibration"].value) > 0.1
    assert float(figures_of(lambda pair: ratio(pair) + 2, real)["calibration"].value) > 0.1
