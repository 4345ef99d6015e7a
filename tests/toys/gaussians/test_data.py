"""Points are fixed by their index alone."""

import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.toys.gaussians.data import BLOCK, build
from mmdisco_cli.toys.gaussians.options import GaussiansOptions


def test_a_point_depends_on_its_index_alone():
    points = build(GaussiansOptions(modalities=3), Request())
    indices = [3 * BLOCK + 1, 5, BLOCK, 5]
    together = points.media(indices, ("x", "y", "z"))
    assert {m: value.shape for m, value in together.items()} == dict.fromkeys("xyz", (4, 1))
    for row, index in enumerate(indices):
        alone = build(GaussiansOptions(modalities=3), Request()).media([index], ("z", "x"))
        assert alone.keys() == {"x", "z"}
        assert all(torch.equal(alone[m][0], together[m][row]) for m in alone)


def test_sequences_differ_by_part_and_seed():
    points = build(GaussiansOptions(), Request())
    held_out = points.split("heldout")
    other = build(GaussiansOptions(seed=1), Request())
    first, second, third = (d.media(range(8), ("x",))["x"] for d in (points, held_out, other))
    assert not torch.isclose(first, second).any()
    assert not torch.isclose(first, third).any()
    assert len({points.fingerprint, held_out.fingerprint, other.fingerprint}) == 3
    assert points.length is None


def test_points_follow_the_mixture():
    points = build(GaussiansOptions(), Request())
    media = points.media(range(10_000), points.modalities)
    drawn = torch.cat([media["x"], media["y"]], dim=1)
    assert points.mixture.on_modes(drawn) > 0.995
    nearest = torch.cdist(drawn, points.mixture.means).argmin(1).bincount(minlength=4)
    assert ((nearest - 2500).abs() < 250).all()
