"""A batch: the distribution of the noise levels, how those of modalities pair, re-pairing, and the noise itself."""

import math

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.coupling import Coupling
from mmdisco_cli.diffusion.schedules import Levels, log_snr, make_schedule
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import LevelDistributionConfig
from mmdisco_cli.toys.gaussians.backbone import build
from mmdisco_cli.toys.gaussians.options import GaussianMixtureOptions
from mmdisco_cli.training.batch import Batch, LevelSampler, draw_progress, mismatched, noised, shares_of

ALPHA = 0.8
UNIFORM, NORMAL = LevelDistributionConfig(), LevelDistributionConfig("logsnr-normal", -0.5, 1.0)
SCHEDULES = {"x": "cosine", "y": "flow"}


def drawn(distribution, batch, seed=0, schedule="cosine"):
    levels_at = make_schedule(schedule).levels_at
    u = draw_progress(distribution, levels_at, batch, torch.Generator().manual_seed(seed))
    levels = levels_at(u)
    return u, log_snr(levels.alpha, levels.sigma).double()


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_every_stratum_of_a_uniform_batch_has_one_draw(batch):
    u, _ = drawn(UNIFORM, batch)
    assert u.shape == (batch,)
    assert sorted((u * batch).floor().int().tolist()) == list(range(batch))


def test_the_place_in_the_batch_says_nothing():
    u = torch.stack([drawn(UNIFORM, 8, seed)[0] for seed in range(400)])
    torch.testing.assert_close(u.mean(0), torch.full((8,), 0.5), atol=0.06, rtol=0)


def test_a_generator_fixes_the_draw():
    distribution = LevelDistributionConfig("logsnr-normal", -0.5, 1.3)
    assert torch.equal(drawn(distribution, 16, 3)[0], drawn(distribution, 16, 3)[0])
    assert not torch.equal(drawn(distribution, 16, 3)[0], drawn(distribution, 16, 4)[0])


@pytest.mark.parametrize("schedule", ["cosine", "vp-linear", "flow"])
@pytest.mark.parametrize(("mean", "std"), [(-0.5, 1.3), (1.0, 0.5)])
def test_the_log_snr_is_normal(schedule, mean, std):
    u, lam = drawn(LevelDistributionConfig("logsnr-normal", mean, std), 20_000, schedule=schedule)
    assert float(u.min()) >= 0
    assert float(u.max()) <= 1
    # A discrete schedule knows 1000 levels only, which is what the tolerance allows for.
    assert float(lam.mean()) == pytest.approx(mean, abs=0.02)
    assert float(lam.std()) == pytest.approx(std, abs=0.02)
    for share in (0.05, 0.25, 0.75, 0.95):
        expected = mean + std * torch.special.ndtri(torch.tensor(share)).item()
        assert float(lam.quantile(share)) == pytest.approx(expected, abs=0.03)


def test_the_normal_distribution_is_stratified_too():
    distribution, batch = LevelDistributionConfig("logsnr-normal", -0.5, 1.3), 64
    _, lam = drawn(distribution, batch)
    strata = (torch.special.ndtr((lam - distribution.mean) / distribution.std) * batch).sort().values
    offset = strata - torch.arange(batch)
    # Interpolation may push a draw just over the edge of its stratum.
    assert float(offset.min()) > -0.01
    assert float(offset.max()) < 1.01


def test_outside_the_schedule_is_its_end():
    u, _ = drawn(LevelDistributionConfig("logsnr-normal", 200.0, 0.1), 4)
    torch.testing.assert_close(u, torch.zeros(4), atol=1e-6, rtol=0)
    u, _ = drawn(LevelDistributionConfig("logsnr-normal", -200.0, 0.1), 4)
    torch.testing.assert_close(u, torch.ones(4), atol=1e-6, rtol=0)


def bases():
    joints = [as_joint(build(m, GaussianMixtureOptions(schedule=s), Request())) for m, s in SCHEDULES.items()]
    return [Base(joint, joint.plan(Request())) for joint in joints]


def log_snrs(bases, coupling, given_fraction, batch, seed=0, shares=(), shift=0.0):
    sampler = LevelSampler(bases, Coupling(coupling), NORMAL, given_fraction, shares, shift)
    levels = sampler.draw(batch, torch.Generator().manual_seed(seed))
    return {m: log_snr(level.alpha, level.sigma) for m, level in levels.items()}


def test_index_coupling_pairs_at_one_progress():
    lam = log_snrs(bases(), "index", 0.0, 256)
    # u from alpha / sigma = cot(pi u / 2), then the flow model's log((1 - u) / u).
    u = torch.atan(torch.exp(-lam["x"].double())) * 2 / math.pi
    torch.testing.assert_close(lam["y"].double(), torch.log((1 - u) / u), atol=1e-3, rtol=1e-3)


def test_log_snr_coupling_pairs_at_one_level():
    lam = log_snrs(bases(), "logsnr", 0.0, 256)
    torch.testing.assert_close(lam["x"], lam["y"], atol=1e-3, rtol=1e-3)


def test_the_distribution_is_that_of_the_first_model():
    lam = log_snrs(bases(), "index", 0.0, 4096)["x"]
    assert float(lam.mean()) == pytest.approx(-0.5, abs=0.03)
    assert float(lam.std()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_a_share_of_the_rows_holds_one_modality_almost_clean(fraction):
    count = 4000
    lam = log_snrs(bases(), "logsnr", fraction, count)
    apart = (lam["x"] - lam["y"]).abs() > 1e-2
    spread = 4 * math.sqrt(count * fraction * (1 - fraction))
    assert abs(int(apart.sum()) - fraction * count) <= spread + 0.01 * count
    held = {m: apart & ((level - 3.0).abs() < 1e-3) for m, level in lam.items()}
    assert torch.equal(held["x"] ^ held["y"], apart)
    assert abs(int(held["x"].sum()) - int(held["y"].sum())) < 5 * math.sqrt(fraction * count)


@pytest.mark.parametrize(("named", "share"), [({"x": 3.0}, 0.75), ({"x": 0.5, "y": 1.5}, 0.25), ({"x": 0.0}, 0.0)])
def test_the_clean_modality_is_drawn_by_its_share(named, share):
    models, count = bases(), 4000
    lam = log_snrs(models, "logsnr", 0.6, count, shares=shares_of(models, named))
    apart = (lam["x"] - lam["y"]).abs() > 1e-2
    held = float(((lam["x"] - 3.0).abs() < 1e-3)[apart].float().mean())
    assert abs(held - share) <= 4 * math.sqrt(share * (1 - share) / (0.5 * count))


def test_the_first_modality_with_a_share_decides_for_its_model():
    assert shares_of(bases(), {}) == []
    assert shares_of(bases(), {"y": 5}) == [1.0, 5]


def test_shares_of_nothing_are_refused():
    with pytest.raises(UsageError, match=r"train\.given_shares: all are 0"):
        shares_of(bases(), {"x": 0.0, "y": 0.0})


def test_beside_a_clean_modality_levels_are_shifted():
    plain, lower = (log_snrs(bases(), "logsnr", 0.5, 4000, seed=3, shift=shift) for shift in (0.0, -1.5))
    held = {m: (level - 3.0).abs() < 1e-3 for m, level in plain.items()}
    joint = ~(held["x"] | held["y"])
    for m, level in plain.items():
        other = held["y" if m == "x" else "x"]
        torch.testing.assert_close(lower[m][joint], level[joint])
        torch.testing.assert_close(lower[m][other], level[other] - 1.5, atol=5e-3, rtol=0)
        assert torch.equal(lower[m][held[m]], level[held[m]])


def test_without_shares_levels_are_drawn_as_before_there_were_any():
    lam = log_snrs(bases(), "logsnr", 0.5, 64, seed=3)
    generator = torch.Generator().manual_seed(3)
    draw_progress(NORMAL, make_schedule("cosine").levels_at, 64, generator)
    held = torch.rand(64, generator=generator) < 0.5
    which = torch.randint(2, (64,), generator=generator)
    assert torch.equal((lam["x"] - 3.0).abs() < 1e-3, held & (which == 0))
    assert torch.equal((lam["y"] - 3.0).abs() < 1e-3, held & (which == 1))


def test_a_lone_model_is_never_held():
    lam = log_snrs(bases()[:1], "index", 1.0, 64)
    assert not ((lam["x"] - 3.0).abs() < 1e-3).any()


def test_noise_is_that_of_equation_one():
    generator = torch.Generator().manual_seed(0)
    clean = {m: torch.randn(50_000, 1, generator=generator, dtype=torch.float64) for m in ("x", "y")}
    alpha = torch.full((50_000,), ALPHA, dtype=torch.float64)
    level = dict.fromkeys(clean, Levels(1 - alpha, alpha, (1 - alpha.square()).sqrt()))
    batch = noised(Batch(clean), level, torch.Generator().manual_seed(3))
    again = noised(Batch(clean), level, torch.Generator().manual_seed(3))
    for m, x in clean.items():
        torch.testing.assert_close(batch.states[m], ALPHA * x + math.sqrt(1 - ALPHA**2) * batch.noise[m].double())
        assert torch.equal(again.states[m], batch.states[m])
        assert float(batch.noise[m].std()) == pytest.approx(1, abs=0.02)
    together = torch.corrcoef(torch.stack([batch.noise["x"][:, 0], batch.noise["y"][:, 0]]))
    assert abs(float(together[0, 1])) < 0.02


@pytest.mark.parametrize(("modalities", "batch"), [(2, 2), (2, 7), (3, 3), (3, 8)])
def test_no_modality_keeps_a_partner(modalities, batch):
    clean = Batch({name: torch.arange(batch)[:, None] for name in "xyz"[:modalities]})
    for seed in range(20):
        wrong = clean.shuffled(torch.Generator().manual_seed(seed)).latents
        rows = torch.cat(list(wrong.values()), dim=1)
        assert all(len(set(row)) == modalities for row in rows.tolist())
        # Every modality alone keeps its distribution: each clip is used once.
        assert all(sorted(column) == list(range(batch)) for column in rows.T.tolist())


def test_one_tuple_cannot_be_re_paired():
    with pytest.raises(ValueError, match="re-pairing 2 modalities needs as many tuples, got 1"):
        Batch({"x": torch.zeros(1, 1), "y": torch.zeros(1, 1)}).shuffled(torch.Generator())


@pytest.mark.parametrize(("modalities", "batch"), [(2, 2), (2, 8), (3, 3), (3, 9)])
def test_noisy_tuples_are_re_paired_within_their_own_level(modalities, batch):
    each = batch // modalities
    row = torch.arange(batch)
    level = row % each  # levels repeat once a modality
    wrong = mismatched(dict.fromkeys("xyz"[:modalities], row[:, None]))
    rows = torch.cat(list(wrong.values()), dim=1)
    assert all(len(set(found)) == modalities for found in rows.tolist())
    assert torch.equal(level[rows], level[:, None].expand(-1, modalities))
