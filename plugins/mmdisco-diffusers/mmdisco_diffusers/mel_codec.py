"""The codec of mel models: sound, log-mel picture, VAE latent, and back through the vocoder."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_diffusers.mel import MelFormat, log_mel, mel_format, to_peak
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.request import seconds_of


@dataclass(frozen=True)
class MelCodec:
    """The parts `vae` and `vocoder` of a pipeline; latents are (B, C, T, F), F the bands."""

    parts: Parts
    normalise: bool
    default_frames: int

    @cached_property
    def form(self) -> MelFormat:
        """Return what the vocoder reads."""
        config = self.parts.config("vocoder")
        return mel_format(
            int(config["sampling_rate"]), math.prod(config["upsample_rates"]), int(config["model_in_dim"])
        )

    @cached_property
    def factor(self) -> int:
        """Return how many mel frames, and bands, make one latent cell."""
        return int(2 ** (len(self.parts.config("vae")["block_out_channels"]) - 1))

    @property
    def rate(self) -> int:
        """Return the sample rate in Hz."""
        return self.form.sample_rate

    def plan(self, request: Request, channels: int) -> ModalityPlan:
        """Return the shapes for a length: as many latent cells as the pipeline makes, the sound to the sample."""
        rate, hop = self.form.sample_rate, self.form.hop
        samples = max(round(seconds_of(request, self.default_frames * self.factor * hop / rate) * rate), hop)
        latent = (channels, cells_of(samples, hop, self.factor), self.form.mels // self.factor)
        return ModalityPlan(latent, (1, samples), rate, samples / rate)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of sound (B, 1, samples); what the last cell lacks is silence."""
        sound = to_peak(media[:, 0]) if self.normalise else media[:, 0]
        whole = plan.latent_shape[1] * self.factor * self.form.hop
        picture = log_mel(F.pad(sound, (0, max(whole - sound.shape[1], 0))), self.form)
        vae = self.parts.get("vae")
        latent: Tensor = vae.encode(picture[:, None]).latent_dist.mode() * vae.config.scaling_factor
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return sound (B, 1, samples)."""
        vae = self.parts.get("vae")
        picture = vae.decode(latent / vae.config.scaling_factor).sample[:, 0]
        sound: Tensor = self.parts.get("vocoder")(picture)
        return to_length(sound.reshape(len(latent), 1, -1), plan.media_shape[1])


def cells_of(samples: int, hop: int, factor: int) -> int:
    """Return how many latent cells hold the whole mel frames of samples, as the pipelines count them."""
    return math.ceil(samples // hop / factor)


def to_length(sound: Tensor, samples: int) -> Tensor:
    """Return sound (..., samples): cut, or with silence for what is left of a last mel frame."""
    return F.pad(sound, (0, samples - sound.shape[-1]))
