import pytest
import torch
from toy_backbones import Toy, ToyPair, base_of

from mmdisco_cli.diffusion.backbone import Base, Request
from mmdisco_cli.diffusion.coupling import coupled_grid, coupled_levels, progress_at, uncoupled_levels
from mmdisco_cli.diffusion.schedules import SCHEDULES, Levels, log_snr, make_schedule


def _lam(levels: Levels) -> torch.Tensor:
    return log_snr(levels.alpha, levels.sigma)


def _bases(audio: str, video: str) -> list[Base]:
    return [base_of(Toy(m, schedule=make_schedule(name))) for m, name in (("audio", audio), ("video", video))]


def test_index_coupling_keeps_every_native_grid() -> None:
    grid = coupled_grid(_bases("vp-linear", "flow"), 7)
    for m, name in (("audio", "vp-linear"), ("video", "flow")):
        assert all(torch.equal(*pair) for pair in zip(grid[m], make_schedule(name).grid(7), strict=True))


@pytest.mark.parametrize("reference", SCHEDULES)
@pytest.mark.parametrize("other", ["cosine", "flow"])
def test_logsnr_coupling_shares_the_log_snr(reference: str, other: str) -> None:
    bases = _bases(reference, other)
    grid = coupled_grid(bases, 9, "logsnr")
    torch.testing.assert_close(_lam(grid["audio"]), _lam(grid["video"]), rtol=1e-4, atol=1e-4)
    assert (grid["video"].alpha[-1], grid["video"].sigma[-1]) == (1, 0)
    levels = coupled_levels(bases, torch.rand(50), "logsnr")
    torch.testing.assert_close(_lam(levels["audio"]), _lam(levels["video"]), rtol=1e-4, atol=1e-4)


def test_logsnr_coupling_finds_whole_native_times() -> None:
    grid = coupled_grid(_bases("cosine", "vp-scaled-linear"), 20, "logsnr")["video"]
    assert torch.equal(grid.t, grid.t.round())
    trained = make_schedule("vp-scaled-linear").levels_at(grid.t[:-1] / 999)
    torch.testing.assert_close(trained.alpha, grid.alpha[:-1])
    assert (grid.alpha[-1], grid.sigma[-1]) == (1, 0)


def test_progress_outside_a_schedule_is_its_nearest_end() -> None:
    edm = make_schedule("edm")  # log-SNR from -4.38 to 6.21
    u = progress_at(edm.levels_at, torch.tensor([-20.0, 0.0, 20.0]))
    assert u[[0, 2]].tolist() == [1, 0]
    torch.testing.assert_close(edm.levels_at(u).sigma[1], torch.tensor(1.0))


def test_training_pairs_share_u_or_are_free() -> None:
    bases, u = _bases("cosine", "flow"), torch.rand(6)
    levels = coupled_levels(bases, u)
    assert torch.equal(levels["audio"].t, u)
    torch.testing.assert_close(levels["video"].t, 1000 * u)
    free = uncoupled_levels(bases, [u, torch.zeros(6)])
    assert torch.equal(free["audio"].t, u)
    assert not free["video"].sigma.any()


def test_a_joint_model_moves_as_one() -> None:
    pair = ToyPair()
    bases = [base_of(Toy("text")), Base(pair, pair.plan(Request()))]
    grid = coupled_grid(bases, 5, "logsnr")
    assert list(grid) == ["text", "audio", "video"]
    torch.testing.assert_close(grid["audio"].t, grid["video"].t)


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown coupling 'snr'"):
        coupled_grid(_bases("cosine", "flow"), 3, "snr")  # type: ignore[arg-type]
