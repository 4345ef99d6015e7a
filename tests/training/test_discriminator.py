"""What a discriminator is trained on: fakes from a source of their own, or real tuples re-paired."""

import torch
from test_batch import NORMAL, bases

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.coupling import INDEX
from mmdisco_cli.recipes.schema import Recipe, SampleConfig, TrainConfig
from mmdisco_cli.training.batch import Batch
from mmdisco_cli.training.discriminator import discriminator_loss


class Probe(torch.nn.Module):
    """Remember the states it is given; its logit is their product, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = torch.nn.Parameter(torch.tensor(0.5)), []

    def forward(self, x, log_snr, pooled=None):
        self.calls.append({m: v.detach() for m, v in x.items()})
        return self.weight * (x["x"] * x["y"])[:, 0]


def test_fakes_are_the_given_ones_or_else_re_paired_real_ones():
    def real(batch, generator):
        value = torch.randn(batch, 1, generator=generator)
        return Batch({"x": value, "y": value})

    def fake(clean, generator):
        return Batch({"x": torch.full((len(clean), 1), 50.0), "y": torch.full((len(clean), 1), -50.0)})

    probe, assembly = Probe(), Assembly(dict(zip("xy", bases(), strict=True)), INDEX, torch.device("cpu"))
    train, sample = TrainConfig(noise_levels=NORMAL, given_fraction=0.0), SampleConfig(window=(-4.5, 4.0))
    recipe = Recipe("pairs", "", {}, train=train, sample=sample)
    for source in (fake, None):
        loss = discriminator_loss(probe, assembly, recipe, real, source, 512)
        value, figures = loss(torch.Generator().manual_seed(0))
        value.backward()
        assert {"disc", "accuracy", "denoise", "gain"} <= figures.keys()
    assert float(probe.weight.grad.abs()) > 0
    real_states, given, _, re_paired = probe.calls

    def correlation(state):
        return float(torch.corrcoef(torch.cat([state["x"], state["y"]], dim=1).T)[0, 1])

    assert correlation(real_states) > 0.1
    assert float(given["x"].mean()) > 5
    assert float(given["y"].mean()) < -5
    assert abs(correlation(re_paired)) < 0.15
