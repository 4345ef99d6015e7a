"""The exact base model keeps the contract, and says the same in every parametrisation."""

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.denoise import predict_bases
from mmdisco_cli.testing import check_backbone
from mmdisco_cli.toys.gaussians.backbone import TIMES, build
from mmdisco_cli.toys.gaussians.mixture import latin_mixture
from mmdisco_cli.toys.gaussians.options import GaussianMixtureOptions


@pytest.mark.parametrize("schedule", sorted(TIMES))
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v", "flow"])
def test_contract_and_exactness(schedule, prediction):
    backbone = build("x", GaussianMixtureOptions(schedule=schedule, prediction=prediction), Request())
    check_backbone(backbone)
    joint = as_joint(backbone)
    base = Base(joint, joint.plan(Request()))
    levels = joint.levels_at(torch.linspace(0.1, 0.9, 7), base.plan)
    x = torch.linspace(-1.5, 1.5, 7)[:, None]
    found = predict_bases([base], {"x": x}, levels)
    alpha, sigma = levels["x"].alpha[:, None], levels["x"].sigma[:, None]
    x0, epsilon = latin_mixture(2, 4, 0.15).marginal(0).denoise(x, alpha, sigma)
    torch.testing.assert_close(found.x0["x"], x0, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found.epsilon["x"], epsilon, atol=2e-4, rtol=1e-4)


def test_the_fingerprint_names_the_options():
    options = [GaussianMixtureOptions(), GaussianMixtureOptions(spread=0.2), GaussianMixtureOptions(schedule="flow")]
    assert len({build("x", o, Request()).fingerprint for o in options}) == 3
