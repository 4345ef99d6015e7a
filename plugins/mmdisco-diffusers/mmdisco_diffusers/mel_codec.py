"""The codec of mel models: audio, log-mel spectrogram, VAE latent, and back through the vocoder."""

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
        """Return the mel format of the vocoder."""
        config = self.parts.config("vocoder")
        return mel_format(
            int(config["sampling_rate"]), math.prod(config["upsample_rates"]), int(config["model_in_dim"])
        )

    @cached_property
    def factor(self) -> int:
        """Return the mel frames, and bands, of one latent cell."""
        return int(2 ** (len(self.parts.config("vae")["block_out_channels"]) - 1))

    @property
    def rate(self) -> int:
        """Return the sample rate in Hz."""
        return self.form.sample_rate

    def plan(self, request: Request, channels: int) -> ModalityPlan:
        """Return the shapes for a length: as many latent cells as the pipeline makes, the audio cut to the sample."""
        rate, hop = self.form.sample_rate, self.form.hop
        samples = max(round(seconds_of(request, self.default_frames * self.factor * hop / rate) * rate), hop)
        latent = (channels, cells_of(samples, hop, self.factor), self.form.mels // self.factor)
        return ModalityPlan(latent, (1, samples), rate, samples / rate)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of audio (B, 1, samples), padded with silence to whole cells."""
        audio = to_peak(media[:, 0]) if self.normalise else media[:, 0]
        whole = plan.latent_shape[1] * self.factor * self.form.hop
        spectrogram = log_mel(F.pad(audio, (0, max(whole - audio.shape[1], 0))), self.form)
        vae = self.parts.get("vae")
        latent: Tensor = vae.encode(spectrogram[:, None]).latent_dist.mode() * vae.config.scaling_factor
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return audio (B, 1, samples)."""
        vae = self.parts.get("vae")
        spectrogram = vae.decode(latent / vae.config.scaling_factor).sample[:, 0]
        audio: Tensor = self.parts.get("vocoder")(spectrogram)
        return to_length(audio.reshape(len(latent), 1, -1), plan.media_shape[1])


def cells_of(samples: int, hop: int, factor: int) -> int:
    """Return how many latent cells hold the whole mel frames of samples, as the pipelines count them."""
    return math.ceil(samples // hop / factor)


def to_length(audio: Tensor, samples: int) -> Tensor:
    """Return audio (..., samples): cut, or padded with silence."""
    return F.pad(audio, (0, samples - audio.shape[-1]))
