"""Backbone `latent-gaussian`: any generator of a standard normal latent z, as of a VAE, a GAN or a flow.

With z ~ N(0, I) and a variance-preserving schedule, z_u = alpha z + sigma epsilon is standard normal at every level,
and its denoiser is known exactly: epsilon(z_u, u) = sigma z_u. The model need not be a diffusion model to be joined
with others: it gives `decode`, z to media, and for training beside others `encode`, media to z.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mmdisco_cli.backbones.additions import require_own
from mmdisco_cli.backbones.image_generators import image_generator
from mmdisco_cli.backbones.options import LatentGaussianOptions
from mmdisco_cli.diffusion.backbone import UNTRAINED, Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Levels, cosine
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.tensors.batches import one_by_one
from mmdisco_cli.tensors.naming import weights_fingerprint
from mmdisco_cli.weights_file import find_weights, load_weights, read_about


class Generator(Protocol):
    """What the author of a generator writes; `latent_shape` is that of z without batch, `kind` is that of its media.

    `rate` is that of the media in Hz, None without a time axis.
    """

    latent_shape: tuple[int, ...]
    kind: str
    rate: float | None

    @property
    def module(self) -> nn.Module:
        """Return all weights."""

    @property
    def media_shape(self) -> tuple[int, ...]:
        """Return the shape of its media, without batch."""

    def encode(self, media: Tensor) -> Tensor:
        """Return z (B, *latent_shape) of media, over real media about standard normal; the same for the same media."""

    def decode(self, z: Tensor) -> Tensor:
        """Return the media (B, *media_shape) of z (B, *latent_shape)."""


@runtime_checkable
class TrainableGenerator(Protocol):
    """A generator that `mmdisco train` can train, by one loss over all of its weights."""

    @property
    def module(self) -> nn.Module:
        """Return all weights."""

    def loss(self, media: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """Return the loss () of real media (B, *media_shape), and figures to log; draws on the CPU from `generator`."""


class LatentGaussian:
    """A generator as a `diffusion.backbone.Backbone`; `options` and `request` are those that describe it in a file."""

    def __init__(
        self, modality: str, generator: Generator, fingerprint: str = UNTRAINED, options: Any = None,
        request: Request | None = None,
    ) -> None:  # fmt: skip
        self.modality, self.generator, self.fingerprint = modality, generator, fingerprint
        self.options, self.request, self.schedule = options, request or Request(), cosine()

    @property
    def module(self) -> nn.Module:
        """Return all weights."""
        return self.generator.module

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        made = self.generator
        return ModalityInfo(self.modality, "epsilon", made.latent_shape[0], made.rate, kind=made.kind)

    @property
    def codec(self) -> str:
        """Return a fingerprint of what `encode` computes."""
        return weights_fingerprint(self.module)

    def to(self, device: torch.device) -> None:
        """Move the weights."""
        self.module.to(device)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the one shape that the generator makes."""
        shape, rate = self.generator.media_shape, self.generator.rate
        return ModalityPlan(self.generator.latent_shape, shape, rate, shape[1] / rate if rate else 0.0)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the cosine schedule's grid."""
        return self.schedule.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the cosine schedule's levels."""
        return self.schedule.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the empty condition: a plain generator takes no prompt."""
        return Condition()

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return epsilon = sigma x for x (B, ...) at native times t (B,), which are the progress u itself."""
        return per_sample(self.schedule.levels_at(t).sigma, x) * x

    @torch.no_grad()
    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return z of media, one at a time, so that it is the same in any batch."""
        return one_by_one(self.generator.encode, media)

    @torch.no_grad()
    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media of z, one at a time, so that they are the same in any batch."""
        return one_by_one(self.generator.decode, latent)


def build(modality: str, options: LatentGaussianOptions, request: Request) -> LatentGaussian:
    """Build a recipe's image generator: from the file named by `options.weights`, else untrained.

    Raises:
        UsageError: the options fit neither one another nor the request.
        DataError: the weights cannot be found or read, or were trained for another modality.
    """
    if options.weights is None:
        return _untrained(modality, options, request)
    path = find_weights(options.weights)
    backbone = _described(path, modality)
    load_weights(path, backbone.module)
    backbone.module.eval().requires_grad_(False)
    backbone.fingerprint = sha256_of(path)[:SHORT]
    return backbone


def _untrained(modality: str, options: LatentGaussianOptions, request: Request) -> LatentGaussian:
    if options.width % 4:
        raise UsageError(f"backbones.{modality}.width: {options.width} is not a multiple of 4")
    o = options
    made: Generator = image_generator(o.generator, request, o.colours, o.latent_channels, o.width)
    return LatentGaussian(modality, made, options=o, request=request)


def _described(path: Path, modality: str) -> LatentGaussian:
    """Return the untrained model that a weights file describes."""
    about = read_about(path, "backbone")
    require_own(path, about, modality, "latent-gaussian")
    try:
        return _untrained(modality, LatentGaussianOptions(**about["options"]), Request(**about["request"]))
    except (KeyError, TypeError, UsageError) as error:
        raise DataError(f"{path}: its description does not fit this version of the model ({error})") from error
