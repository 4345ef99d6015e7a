"""Tuples of the same clips, re-paired ones and generated ones."""

import pytest
import torch

from mmdisco_cli.training.data import from_banks, mixed


def test_a_bank_keeps_the_clips_together() -> None:
    rows = torch.arange(50)
    draw = from_banks({"x": rows[:, None].half(), "y": -rows[:, None].half()})
    one, same = (draw(200, torch.Generator().manual_seed(0)).latents for _ in range(2))
    assert one["x"].dtype == torch.float32
    assert torch.equal(one["x"], -one["y"])
    assert torch.equal(one["x"], same["x"])
    assert len(one["x"].unique()) > 40


@pytest.mark.parametrize("batch", [4, 7])
def test_mixed_fakes_are_re_paired_real_ones_and_then_generated_ones(batch: int) -> None:
    rows = torch.arange(50.0)[:, None]
    draw = mixed(from_banks({"x": rows, "y": rows}), from_banks({"x": rows + 100, "y": rows + 100}))
    x, y = (values[:, 0] for values in draw(batch, torch.Generator().manual_seed(0)).latents.values())
    half = batch // 2
    assert len(x) == len(y) == batch
    assert bool((x[:half] < 50).all())
    assert sorted(x[:half].tolist()) == sorted(y[:half].tolist())
    assert bool((x[:half] != y[:half]).all())
    assert bool((x[half:] >= 100).all())
    assert torch.equal(x[half:], y[half:])
