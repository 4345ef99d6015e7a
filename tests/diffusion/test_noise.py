import pytest
import torch

from mmdisco_cli.diffusion.noise import StepNoise, initial_noise, initial_state, sample_noise
from mmdisco_cli.diffusion.schedules import make_schedule

SHAPES = {"audio": (2, 7), "video": (3, 2, 4, 4)}
FIRST = {"audio": make_schedule("cosine").grid(4).at(0), "video": make_schedule("edm").grid(4).at(0)}


def test_a_sample_starts_alike_in_any_batch() -> None:
    whole = initial_state(5, range(6), SHAPES, FIRST)
    for batch in ([0, 3], [4, 2, 5], [1]):
        part = initial_state(5, batch, SHAPES, FIRST)
        assert all(torch.equal(part[m], whole[m][batch]) for m in SHAPES)


def test_a_step_is_drawn_alike_in_any_batch_and_order() -> None:
    state = initial_state(5, range(4), SHAPES, FIRST)
    whole = [StepNoise(5, range(4))(step, state) for step in range(3)]
    shard = StepNoise(5, [1, 3])
    for step in (2, 0, 1):
        part = shard(step, {m: x[[1, 3]] for m, x in state.items()})
        assert all(torch.equal(part[m], whole[step][m][[1, 3]]) for m in SHAPES)


def test_every_part_of_the_key_matters() -> None:
    keys = [
        (0, 0, "a", "x"),
        (1, 0, "a", "x"),
        (0, 1, "a", "x"),
        (0, 0, "b", "x"),
        (0, 0, "a", "y"),
        (0, 1, "0:a", "x"),
    ]
    draws = {tuple(sample_noise(*key, (4,)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def test_the_noise_is_standard_normal() -> None:
    draws = torch.stack([initial_noise(0, i, "audio", (1000,)) for i in range(50)])
    assert draws.mean().item() == pytest.approx(0, abs=0.02)
    assert draws.std().item() == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(draws) - torch.eye(50)
    assert correlation.abs().max() < 0.2


def test_a_state_starts_with_the_variance_of_its_schedule() -> None:
    state = initial_state(0, [0], SHAPES, FIRST)
    torch.testing.assert_close(state["audio"][0], initial_noise(0, 0, "audio", (2, 7)))
    torch.testing.assert_close(state["video"][0], initial_noise(0, 0, "video", (3, 2, 4, 4)) * (80**2 + 1) ** 0.5)


def test_step_noise_takes_the_type_of_the_state() -> None:
    noise = StepNoise(0, [0])(0, {"audio": torch.zeros(1, 3, dtype=torch.float64)})
    assert noise["audio"].dtype == torch.float64
