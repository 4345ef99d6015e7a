"""Banks: shards that ranks share out, and tuples of the same clips, re-paired ones and generated ones."""

import math
from pathlib import Path

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


def test_the_shares_of_a_bank_are_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdisco_cli.data.bank.SHARD", 5)
    from mmdisco_cli.data.bank import latent_bank, make_shards

    class Numbers:
        length, fingerprint = None, "numbers"

        def media(self, indices, modalities):  # type: ignore[no-untyped-def]
            return {m: torch.tensor(list(indices), dtype=torch.float32)[:, None] for m in modalities}

    made: list[int] = []
    for rank in (0, 1, 2):
        make_shards(Numbers(), "x", 23, lambda x: made.append(len(x)) or x, "codec", tmp_path, share=(rank, 3))  # type: ignore[func-returns-value]
    assert sum(made) == 23
    assert len(list(tmp_path.rglob("*.safetensors"))) == math.ceil(23 / 5)
    bank = latent_bank(Numbers(), "x", 23, lambda x: pytest.fail("made again"), "codec", tmp_path)
    assert bank[:, 0].tolist() == list(range(23))
