"""The generator keeps the contract of base models, and finds the latents of its images again."""

import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.testing import check_backbone
from mmdisco_example import SlopeOptions
from mmdisco_example.generator import build


def test_the_slope_keeps_the_contract():
    check_backbone(build("image", SlopeOptions(), Request()), Request())


def test_latents_are_found_again():
    slope = build("photo", SlopeOptions(side=5), Request())
    plan, z = slope.plan(Request()), torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(slope.encode(slope.decode(z, plan), plan), z, atol=1e-3, rtol=1e-3)
