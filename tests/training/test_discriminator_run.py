"""What a discriminator is shown: paired levels, some modality now and then almost clean, tuples of the same clips."""

import math

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.schedules import log_snr
from mmdisco_cli.recipes.schema import LevelDistributionConfig, TrainConfig
from mmdisco_cli.toys.gaussians.backbone import build
from mmdisco_cli.toys.gaussians.options import GaussianMixtureOptions
from mmdisco_cli.training.discriminator_run import Pairing, discriminator_loss, from_banks

SCHEDULES = {"x": "cosine", "y": "flow"}
CONFIG = TrainConfig(time_law=LevelDistributionConfig("logsnr-normal", -0.5, 1.0))


def bases():
    joints = [as_joint(build(m, GaussianMixtureOptions(schedule=s), Request())) for m, s in SCHEDULES.items()]
    return [Base(joint, joint.plan(Request())) for joint in joints]


def log_snrs(pairing, batch, seed=0):
    levels = pairing.draw(CONFIG, batch, torch.Generator().manual_seed(seed))
    return {m: log_snr(level.alpha, level.sigma) for m, level in levels.items()}


def test_index_coupling_pairs_at_one_progress():
    lam = log_snrs(Pairing(bases(), "index", 0.0), 256)
    # u from alpha / sigma = cot(pi u / 2), then the flow model's log((1 - u) / u).
    u = torch.atan(torch.exp(-lam["x"].double())) * 2 / math.pi
    torch.testing.assert_close(lam["y"].double(), torch.log((1 - u) / u), atol=1e-3, rtol=1e-3)


def test_log_snr_coupling_pairs_at_one_level():
    lam = log_snrs(Pairing(bases(), "logsnr", 0.0), 256)
    torch.testing.assert_close(lam["x"], lam["y"], atol=1e-3, rtol=1e-3)


def test_the_time_law_is_that_of_the_first_model():
    lam = log_snrs(Pairing(bases(), "index", 0.0), 4096)["x"]
    assert float(lam.mean()) == pytest.approx(-0.5, abs=0.03)
    assert float(lam.std()) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_a_share_of_the_rows_holds_one_modality_almost_clean(fraction):
    count = 4000
    lam = log_snrs(Pairing(bases(), "logsnr", fraction), count)
    apart = (lam["x"] - lam["y"]).abs() > 1e-2
    spread = 4 * math.sqrt(count * fraction * (1 - fraction))
    assert abs(int(apart.sum()) - fraction * count) <= spread + 0.01 * count
    held = {m: apart & ((level - 3.0).abs() < 1e-3) for m, level in lam.items()}
    assert torch.equal(held["x"] ^ held["y"], apart)
    assert abs(int(held["x"].sum()) - int(held["y"].sum())) < 5 * math.sqrt(fraction * count)


def test_a_lone_model_is_never_held():
    lam = log_snrs(Pairing(bases()[:1], "index", 1.0), 64)
    assert not ((lam["x"] - 3.0).abs() < 1e-3).any()


def test_a_bank_keeps_the_clips_together():
    rows = torch.arange(50)
    draw = from_banks({"x": rows[:, None].half(), "y": -rows[:, None].half()})
    one, same = (draw(200, torch.Generator().manual_seed(0)) for _ in range(2))
    assert one["x"].dtype == torch.float32
    assert torch.equal(one["x"], -one["y"])
    assert torch.equal(one["x"], same["x"])
    assert len(one["x"].unique()) > 40


class Probe(torch.nn.Module):
    """Remember the states it is shown; its logit is their product, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight, self.shown = torch.nn.Parameter(torch.tensor(0.5)), []

    def forward(self, x, log_snr, pooled=None):
        self.shown.append({m: v.detach() for m, v in x.items()})
        return self.weight * (x["x"] * x["y"])[:, 0]


def test_fakes_are_the_given_ones_or_else_re_paired_real_ones():
    def real(batch, generator):
        value = torch.randn(batch, 1, generator=generator)
        return {"x": value, "y": value}

    def fake(batch, generator):
        return {"x": torch.full((batch, 1), 50.0), "y": torch.full((batch, 1), -50.0)}

    probe, pairing = Probe(), Pairing(bases(), "index", 0.0)
    for source in (fake, None):
        loss = discriminator_loss(probe, pairing, real, source, (-4.5, 4.0), CONFIG, 512, torch.device("cpu"))
        value, figures = loss(torch.Generator().manual_seed(0))
        value.backward()
        assert {"disc", "accuracy", "denoise", "gain"} <= figures.keys()
    assert float(probe.weight.grad.abs()) > 0
    seen, given, _, re_paired = probe.shown

    def correlation(state):
        return float(torch.corrcoef(torch.cat([state["x"], state["y"]], dim=1).T)[0, 1])

    assert correlation(seen) > 0.1
    assert float(given["x"].mean()) > 5
    assert float(given["y"].mean()) < -5
    assert abs(correlation(re_paired)) < 0.15
