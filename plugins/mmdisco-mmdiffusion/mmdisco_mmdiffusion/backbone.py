"""MM-Diffusion after the contract of `mmdisco_cli.diffusion.backbone.JointBackbone`: audio and video at once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, cast

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import BackboneInfo, Condition, ModalityInfo, Payload, Plan, Request, State
from mmdisco_cli.diffusion.operations import count_operations
from mmdisco_cli.diffusion.schedules import Levels, Schedule, Spacing, betas_linear, discrete_vp
from mmdisco_mmdiffusion.drawing import drawn_shifts, enlargement_noise, fixed_shifts
from mmdisco_mmdiffusion.enlargement import enlarge, reduce
from mmdisco_mmdiffusion.enlarger import FACTOR, Enlarger
from mmdisco_mmdiffusion.loading import load_enlarger, load_unet
from mmdisco_mmdiffusion.options import MMDiffusionOptions
from mmdisco_mmdiffusion.shapes import FPS, SAMPLE_RATE, planned
from mmdisco_mmdiffusion.unet import CoupledUNet

MODALITIES = ("audio", "video")
SAMPLE_MB, ENLARGED_MB = 750, 2000
"""Measured peaks beside the weights: of a sample in the U-Net, and of the frames that are enlarged together."""


@dataclass(frozen=True)
class MMDiffusionBackbone:
    """A coupled U-Net on pixels and waveform, and what enlarges its frames; `keys` (B,) are those of a batch."""

    unet: CoupledUNet
    enlarger: Enlarger | None
    options: MMDiffusionOptions
    info: BackboneInfo
    keys: Tensor | None = None

    @property
    def module(self) -> nn.Module:
        """All networks."""
        parts: dict[str, nn.Module] = {"unet": self.unet}
        return nn.ModuleDict(parts | ({"enlarger": self.enlarger} if self.enlarger is not None else {}))

    @property
    def memory(self) -> tuple[str, ...]:
        """Say what weights and a sample take, in float32."""
        lines = [f"{_megabytes(self.unet)} MB of weights, and about {SAMPLE_MB} MB a sample of the released size"]
        if self.enlarger is not None:
            lines.append(f"{_megabytes(self.enlarger)} MB of weights to enlarge with, and about {ENLARGED_MB} MB")
        return tuple(lines)

    def operations(self, plan: Plan) -> int:
        """Return the floating-point operations of predicting one sample, without its enlargement."""
        video, audio = (plan.modalities[m].latent_shape for m in ("video", "audio"))
        windows = len(self.unet.windows)

        def inputs() -> tuple[Tensor, ...]:
            time, shifts = torch.zeros(1, dtype=torch.long), torch.zeros(1, windows, dtype=torch.long)
            return torch.empty(1, *video), torch.empty(1, *audio), time, shifts

        return count_operations(self.unet, inputs)

    @property
    def schedule(self) -> Schedule:
        """The 1,000 linear betas that both networks were trained with."""
        return discrete_vp(betas_linear(), spacing=cast(Spacing, self.options.spacing))

    def to(self, device: torch.device) -> None:
        """Move all networks."""
        self.module.to(device)

    def keyed(self, keys: Tensor) -> Self:
        """Return the same networks, drawing shifts and noise from the samples' keys (B,)."""
        return replace(self, keys=keys)

    def plan(self, request: Request) -> Plan:
        """Return the shapes that fit both networks, near what is requested."""
        return planned(request, self.unet.config, self.enlarger.config if self.enlarger else None)

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        """Return one grid for both modalities."""
        return dict.fromkeys(MODALITIES, self.schedule.grid(steps))

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        """Return the same levels for both modalities."""
        return dict.fromkeys(MODALITIES, self.schedule.levels_at(u))

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        """Return the empty conditions: the model takes no prompt."""
        return {m: Condition() for m in MODALITIES}

    @torch.no_grad()
    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        """Return epsilon of both for x (B, ...) at native times t (B,), the same for both.

        Raises:
            ValueError: the modalities are at different times, which the network has only one input for.
        """
        video, audio, time = x["video"], x["audio"], t["video"]
        if not torch.equal(time, t["audio"]):
            raise ValueError("MM-Diffusion denoises audio and video at one time, but theirs differ")
        shifts = self._shifts(time, video.shape[2]).to(video.device)
        epsilon = self.unet(video, audio, time, shifts)
        return {"video": epsilon[0], "audio": epsilon[1]}

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        """Return audio as it is, and frames at the size of the U-Net."""
        latents = dict(media)
        if "video" in media and self.enlarger is not None:
            latents["video"] = reduce(media["video"])
        return latents

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        """Return audio and frames within [-1, 1], the frames enlarged where there is a network for it."""
        media = dict(latent)
        if "video" in media and self.enlarger is not None:
            video = media["video"]
            height, width = (FACTOR * size for size in video.shape[-2:])
            noise = enlargement_noise(self._rows(len(video)), (video.shape[1], height, width)).to(video)
            media["video"] = enlarge(self.enlarger, video, noise, self.options.sr_steps)
        return {m: x.clamp(-1, 1) for m, x in media.items()}

    def _shifts(self, t: Tensor, frames: int) -> Tensor:
        limits = [max(frames - window, 0) for window in self.unet.windows]
        if self.options.shift is not None:
            return fixed_shifts(len(t), self.options.shift, limits)
        return drawn_shifts(self._rows(len(t)), t.tolist(), limits)

    def _rows(self, count: int) -> list[int]:
        """Return the key of each row of a batch: those of the samples again and again, or 0 for all."""
        keys = [0] if self.keys is None else [int(key) for key in self.keys]
        if count % len(keys):
            raise ValueError(f"{count} rows are not a multiple of the {len(keys)} samples that the model was keyed for")
        return keys * (count // len(keys))


def build(label: str, options: MMDiffusionOptions, request: Request) -> MMDiffusionBackbone:
    """Build the backbone of a recipe.

    Raises:
        DataError: weights cannot be found or read, or are another model's.
    """
    unet, fingerprint = load_unet(options.weights)
    enlarger, large = load_enlarger(options.sr_weights) if options.sr_weights else (None, "")
    return MMDiffusionBackbone(unet, enlarger, options, describe(unet, fingerprint, large, options))


def describe(unet: CoupledUNet, weights: str, enlarger: str, options: MMDiffusionOptions) -> BackboneInfo:
    """Return the description of a model from the fingerprints of its networks' weights."""
    if options.shift is not None:
        weights = hashlib.sha256(f"{weights}:shift {options.shift}".encode()).hexdigest()[:16]
    audio = ModalityInfo("audio", "epsilon", unet.config.audio_channels, float(SAMPLE_RATE))
    video = ModalityInfo("video", "epsilon", unet.config.video_channels, float(FPS))
    large = f", enlarged by {enlarger} in {options.sr_steps} steps" if enlarger else ""
    return BackboneInfo((audio, video), weights, f"{options.spacing}{large}")


def _megabytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters()) // 10**6
