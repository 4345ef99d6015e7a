"""The interaction against what it is by algebra: nothing for sums, the share of the product term for others."""

import pytest
import torch

from mmdisco_cli.discriminators.interaction import interaction, mismatched_tuples


def normal(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(200_000, generator=generator) for m in ("x", "y")}


def test_a_sum_has_none() -> None:
    assert interaction(lambda s: s["x"].sin() + s["y"] ** 2, normal(0), normal(1)) < 1e-12


def test_a_constant_has_none() -> None:
    assert interaction(lambda s: 0 * s["x"], normal(0), normal(1)) == 0


def test_a_product_is_all_interaction() -> None:
    """E[(xy - xy' - x'y + x'y')^2] = E[(x - x')^2 (y - y')^2] = 4 = 4 Var(xy)."""
    assert interaction(lambda s: s["x"] * s["y"], normal(0), normal(1)) == pytest.approx(1, rel=0.02)


def test_a_mixture_has_its_share_of_the_variance() -> None:
    """l = 2x + xy has Var 4 + 1, of which the product's 1 is interaction."""
    assert interaction(lambda s: s["x"] * (s["y"] + 2), normal(0), normal(1)) == pytest.approx(1 / 5, rel=0.02)


def test_pairs_that_belong_together_are_parted_first() -> None:
    """Over real pairs y = x the same product would score E[(x - x')^4] / (4 Var xx') > 1."""
    x = normal(0)["x"]
    real = {"x": x, "y": x}
    assert interaction(lambda s: s["x"] * s["y"], *mismatched_tuples(real)) == pytest.approx(1, rel=0.03)


def test_no_two_strangers_are_of_one_clip() -> None:
    clips = {m: torch.arange(12) for m in ("a", "b", "c")}
    own, other = mismatched_tuples(clips)
    for m in clips:
        for mixed in (own, other, {**own, m: other[m]}, {**other, m: own[m]}):
            assert all(len(set(row)) == len(clips) for row in zip(*(x.tolist() for x in mixed.values()), strict=True))
