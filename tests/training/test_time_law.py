"""The law of the noise levels: its moments, its shape, and that a batch covers all of it."""

import pytest
import torch

from mmdisco_cli.diffusion.schedules import log_snr, make_schedule
from mmdisco_cli.recipes.schema import LevelDistributionConfig
from mmdisco_cli.training.time_law import draw_progress

UNIFORM = LevelDistributionConfig()


def drawn(law, batch, seed=0, schedule="cosine"):
    levels_at = make_schedule(schedule).levels_at
    u = draw_progress(law, levels_at, batch, torch.Generator().manual_seed(seed))
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
    law = LevelDistributionConfig("logsnr-normal", -0.5, 1.3)
    assert torch.equal(drawn(law, 16, 3)[0], drawn(law, 16, 3)[0])
    assert not torch.equal(drawn(law, 16, 3)[0], drawn(law, 16, 4)[0])


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


def test_the_normal_law_is_stratified_too():
    law, batch = LevelDistributionConfig("logsnr-normal", -0.5, 1.3), 64
    _, lam = drawn(law, batch)
    strata = (torch.special.ndtr((lam - law.mean) / law.std) * batch).sort().values
    offset = strata - torch.arange(batch)
    # Interpolation may push a draw just over the edge of its stratum.
    assert float(offset.min()) > -0.01
    assert float(offset.max()) < 1.01


def test_beyond_the_schedule_is_its_end():
    u, _ = drawn(LevelDistributionConfig("logsnr-normal", 200.0, 0.1), 4)
    torch.testing.assert_close(u, torch.zeros(4), atol=1e-6, rtol=0)
    u, _ = drawn(LevelDistributionConfig("logsnr-normal", -200.0, 0.1), 4)
    torch.testing.assert_close(u, torch.ones(4), atol=1e-6, rtol=0)
