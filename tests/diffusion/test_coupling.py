import pytest
import torch
from toy_backbones import Toy, ToyPair, base_of

from mmdisco_cli.diffusion.backbone import Base, Request
from mmdisco_cli.diffusion.coupling import Coupling, coupled_grid, coupled_levels, progress_at, uncoupled_levels
from mmdisco_cli.diffusion.schedules import SCHEDULES, Levels, log_snr, make_schedule

LOGSNR = Coupling("logsnr")


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
    grid = coupled_grid(bases, 9, LOGSNR)
    torch.testing.assert_close(_lam(grid["audio"]), _lam(grid["video"]), rtol=1e-4, atol=1e-4)
    assert (grid["video"].alpha[-1], grid["video"].sigma[-1]) == (1, 0)
    levels = coupled_levels(bases, torch.rand(50), LOGSNR)
    torch.testing.assert_close(_lam(levels["audio"]), _lam(levels["video"]), rtol=1e-4, atol=1e-4)


def test_logsnr_coupling_finds_whole_native_times() -> None:
    grid = coupled_grid(_bases("cosine", "vp-scaled-linear"), 20, LOGSNR)["video"]
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
    grid = coupled_grid(bases, 5, LOGSNR)
    assert list(grid) == ["text", "audio", "video"]
    torch.testing.assert_close(grid["audio"].t, grid["video"].t)


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown coupling 'snr'"):
        Coupling("snr")  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [-2.0, 0.7])
@pytest.mark.parametrize("name", ["index", "logsnr"])
def test_a_shift_is_added_to_the_log_snr_and_leaves_the_ends(name: str, shift: float) -> None:
    bases = _bases("cosine", "cosine")
    grid = coupled_grid(bases, 12, Coupling(name, {"video": shift}))  # type: ignore[arg-type]
    own = coupled_grid(bases, 12)
    assert torch.equal(_lam(grid["audio"]), _lam(own["audio"]))
    moved = (_lam(grid["video"]) - _lam(own["video"]))[1:-1]
    torch.testing.assert_close(moved, torch.full_like(moved, shift), rtol=0, atol=2e-3)
    for end in (0, -1):
        torch.testing.assert_close(grid["video"].alpha[end], own["video"].alpha[end], rtol=0, atol=1e-6)
    u = torch.linspace(0.05, 0.95, 9)
    levels = coupled_levels(bases, u, Coupling(name, {"video": shift}))  # type: ignore[arg-type]
    pairs = torch.full((9,), shift)
    torch.testing.assert_close(_lam(levels["video"]) - _lam(levels["audio"]), pairs, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_a_shifted_grid_of_any_schedule_still_goes_from_noise_to_data(name: str, shift: float) -> None:
    lam = _lam(coupled_grid(_bases("cosine", name), 10, Coupling("index", {"video": shift}))["video"])
    own = _lam(coupled_grid(_bases("cosine", name), 10)["video"])
    assert bool((lam.diff() > 0).all())
    difference = (lam - own)[1:-1] * shift
    assert bool((difference >= 0).all())
    assert float(difference.max()) > 1
    assert float(lam[0]) <= float(own[0]) + 1e-4  # never less noise than there is at the start


def test_a_coupling_is_written_as_one_text() -> None:
    assert str(Coupling()) == "index"
    assert str(Coupling("logsnr", {"video": 0.0})) == "logsnr"
    assert str(Coupling("index", {"video": 1.5, "audio": -1.0})) == "index, audio -1, video +1.5"


def test_the_modalities_of_one_model_are_shifted_together() -> None:
    pair = ToyPair()
    bases = [base_of(Toy("text")), Base(pair, pair.plan(Request()))]
    grid = coupled_grid(bases, 5, Coupling("index", {"video": -1.0}))
    torch.testing.assert_close(grid["audio"].t, grid["video"].t)
    assert not torch.equal(grid["audio"].t, coupled_grid(bases, 5)["audio"].t)
