"""`check_discriminator` passes honest discriminators and names the first broken promise of any other."""

import socket

import pytest
import torch
from torch import nn

from mmdisco_cli.discriminators import additive, aligned, energy, mlp
from mmdisco_cli.discriminators.options import AdditiveOptions, AlignedOptions, EnergyOptions, MLPOptions
from mmdisco_cli.paper import discriminator as paper
from mmdisco_cli.paper.options import PaperWaveformOptions
from mmdisco_cli.testing import check_discriminator

SHAPES = {"audio": (2, 5), "video": (3, 4)}


class Judge(nn.Module):
    """A small network of both modalities, their levels and conditions."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10 + 12 + 2 + 3, 16)
        self.last = nn.Linear(16, 1)
        nn.init.zeros_(self.last.weight)

    def features(self, x, log_snr, pooled):
        text = pooled["audio"] if pooled else torch.zeros_like(x["audio"][:, 0, :3])
        parts = [state.flatten(1) for state in x.values()] + [level[:, None].tanh() for level in log_snr.values()]
        return self.layer(torch.cat([*parts, text], 1)).tanh()

    def logit(self, h):
        return self.last(h)[:, 0]

    def forward(self, x, log_snr, pooled=None):
        return self.logit(self.features(x, log_snr, pooled))


@pytest.mark.parametrize("pooled", [{}, {"audio": 3}, {"audio": 3, "video": 0}])
def test_an_honest_discriminator_passes(pooled):
    assert check_discriminator(Judge, SHAPES, pooled) == ()


class Reading(Judge):
    """One whose gradient is what it makes of the base models' x_0."""

    reads_x0 = True

    def forward(self, x, log_snr, pooled, x0):
        features = self.features(x0, log_snr, pooled)
        products = [state.flatten(1).sum(1) * features.sum(1) for state in x.values()]
        return self.logit(features) + torch.stack(products).sum(0)


def test_one_that_reads_x0_passes():
    assert check_discriminator(Reading, SHAPES) == ()


LATENTS = {"audio": (4, 8), "video": (3, 4, 8, 8)}
SMALL = {"width": 16, "depth": 1, "heads": 2, "steps": 4}


@pytest.mark.parametrize(
    ("build", "options", "shapes", "notes"),
    [
        (energy.build, EnergyOptions(**SMALL), LATENTS, 0),
        (energy.build, EnergyOptions(**SMALL, reads_x0=True), LATENTS, 0),
        (aligned.build, AlignedOptions(**SMALL), LATENTS, 0),
        (additive.build, AdditiveOptions(**SMALL), LATENTS, 1),
        (mlp.build, MLPOptions(width=16, depth=2), {"x": (1,), "y": (1,), "z": (1,)}, 0),
        (paper.build, PaperWaveformOptions(channels=32, blocks=1, dilations=2),
         {"audio": (1, 64), "video": (3, 4, 8, 8)}, 1),
    ],
)  # fmt: skip
def test_those_of_mmdisco_pass(build, options, shapes, notes):
    found = check_discriminator(lambda: build(options, shapes, {}), shapes, tolerance=1e-3)
    assert len(found) == notes
    assert all("sum of functions of one modality each" in note for note in found)


class OnlyOnce(torch.autograd.Function):
    """A sine whose gradient is a constant to all that comes after."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.cos()


class Mixing(torch.autograd.Function):
    """Nothing forward; backward, each sample's gradient is the mean of all."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mean(0, keepdim=True).expand_as(gradient) * torch.arange(1, 1 + len(gradient))[:, None]


class Straight(torch.autograd.Function):
    """Whatever weights did, a gradient of ones."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.ones_like(gradient)


def hidden(module):
    module.scale = torch.rand(())  # another one each time it is built
    return module.scale


def lying_elsewhere(module):
    module.scale = torch.ones(1)
    return module.scale


def ask_the_network():
    try:
        socket.getaddrinfo("example.invalid", 80)
    except OSError:
        return 0
    return 0


def spoilt(**members):
    return type("Dishonest", (Judge,), members)


def forward(change):
    """Return a judge whose logit is changed: by its own logit, itself, the states, levels and conditions."""
    return spoilt(forward=lambda self, x, u, p=None: change(Judge.forward(self, x, u, p), self, x, u, p))


def through(function):
    """Return a judge whose features pass through a function of autograd."""
    return spoilt(features=lambda self, x, u, p: function.apply(Judge.features(self, x, u, p)))


def state(function):
    """Return a judge whose audio passes through a function of autograd."""
    return spoilt(
        features=lambda self, x, u, p: Judge.features(
            self, {**x, "audio": function.apply(x["audio"].flatten(1)).view_as(x["audio"])}, u, p
        )
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dict, "build gives dict, not a torch.nn.Module"),
        (forward(lambda y, *_: y[:, None]), r"logit of 2 samples has the shape \(2, 1\), not \(B,\)"),
        (forward(lambda y, *_: y.mean()), r"logit of 2 samples has the shape \(\), not"),
        (forward(lambda y, *_: (y,)), "its logit is tuple, not a tensor"),
        (forward(lambda y, *_: y.long()), "its logit is torch.int64, not of floats"),
        (forward(lambda y, *_: y / 0), "its logit is not finite"),
        (forward(lambda y, *_: y.detach()), "no gradient by the states"),
        (spoilt(features=lambda s, x, u, p: Judge.features(s, {**x, "video": 0 * x["video"]}, u, p)),
         "gradient by video is 0 everywhere"),
        (spoilt(features=lambda s, x, u, p: Judge.features(s, {**x, "audio": x["audio"].detach()}, u, p)),
         "gradient by audio: there is none"),
        (forward(lambda y, s, x, *_: y + x["audio"].detach().zero_().sum()), "the caller's audio were written to"),
        (forward(lambda y, s, x, u, p: y + u["audio"].mul_(2)), "the caller's log-SNR of audio were written to"),
        (forward(lambda y, s, x, u, p: y + p["audio"].detach().zero_().sum()), "condition of audio were written to"),
        (forward(lambda y, *_: y + torch.rand(())), "generator was drawn from, or seeded"),
        (forward(lambda y, *_: y + torch.rand((), generator=torch.Generator().manual_seed(next(COUNT)))),
         "logit: two answers to one question"),
        (forward(lambda y, *_: y - y.mean()), "logit: sample 0 has another one alone"),
        (forward(lambda y, s, x, *_: y + x["audio"].std()), "sample 0 has another one alone"),
        (state(Mixing), "gradient by audio: sample 0 has another one alone"),
        (forward(lambda y, s, x, u, p: y * (30 * u["audio"]).exp().clamp(max=3e38) * 1e30), "not finite"),
        (spoilt(features=lambda s, x, u, p: Judge.features(s, x, u, p) * (9 * u["audio"]).exp()[:, None]),
         "not finite"),
        (through(OnlyOnce), "the gradient of its gradient fails"),
        (state(Straight), "gradient by audio: the denoising loss, which takes its gradient, reaches no weight"),
        (forward(lambda y, s, *_: y if s.last.weight.requires_grad else 2 * y), "logit: another one with frozen"),
        (spoilt(forward=lambda s, x, u, p=None: Judge.forward(s, x, u, p) + s.scale,
                __init__=lambda s: (Judge.__init__(s), hidden(s))[0]),
         "it depends on more than parameters and buffers, which a file keeps"),
        (spoilt(forward=lambda s, x, u, p=None: Judge.forward(s, x, u, p) * s.scale,
                __init__=lambda s: (Judge.__init__(s), lying_elsewhere(s))[0]), "on the device meta, as --dry-run"),
        (forward(lambda y, *_: y if float(y.detach().abs().sum()) >= 0 else -y), "on the device meta, as --dry-run"),
        (forward(lambda y, *_: y + ask_the_network()), "started: .*example.invalid"),
        (forward(lambda y, *_: torch.set_num_threads(torch.get_num_threads() + 1) or y), "it changes torch's threads"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(make, message):
    with pytest.raises(AssertionError, match=message):
        check_discriminator(make, SHAPES, {"audio": 3})


COUNT = iter(range(10**6))


def test_a_sum_of_functions_of_one_modality_each_is_remarked_on():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict({"audio": nn.Linear(10, 8), "video": nn.Linear(12, 8)})

        def forward(self, x, log_snr, pooled=None):
            return sum(layer(x[m].flatten(1)).tanh().sum(1) for m, layer in self.layers.items())

    (note,) = check_discriminator(Sum, SHAPES)
    assert "sum of functions of one modality each" in note


class Apart(nn.Module):
    """One that reads each modality alone, and compares what it read."""

    def __init__(self):
        super().__init__()
        self.readers = nn.ModuleDict({"audio": nn.Linear(11, 4), "video": nn.Linear(13, 4)})

    def read(self, x, log_snr, pooled=None):
        levels = {m: log_snr[m].tanh()[:, None] for m in x}
        return {m: self.readers[m](torch.cat([s.flatten(1), levels[m]], 1)).tanh() for m, s in x.items()}

    def compare(self, read):
        return (read["audio"] * read["video"]).sum(-1)

    def forward(self, x, log_snr, pooled=None):
        return self.compare(self.read(x, log_snr, pooled))


class ComparedOtherwise(Apart):
    def forward(self, x, log_snr, pooled=None):
        return 2 * super().forward(x, log_snr, pooled)


class ReadTogether(Apart):
    def read(self, x, log_snr, pooled=None):
        return {m: r * len(x) for m, r in super().read(x, log_snr, pooled).items()}


def test_one_that_reads_each_modality_alone_passes():
    assert check_discriminator(Apart, SHAPES) == ()


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (ComparedOtherwise, "compare.read.x.. is another one"),
        (ReadTogether, "its features change when it is read beside others"),
    ],
)
def test_reading_apart_is_reading_together(broken, promise):
    with pytest.raises(AssertionError, match=promise):
        check_discriminator(broken, SHAPES)
