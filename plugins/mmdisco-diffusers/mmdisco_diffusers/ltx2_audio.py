"""The audio side of LTX-2: log-mel spectrograms, their VAE, and the vocoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import resample

from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_diffusers.mel import MelFormat, log_mel, mel_format
from mmdisco_diffusers.parts import Parts

SQUEEZE = 4
"""Mel frames, and bands, of one latent cell of audio."""


@dataclass(frozen=True)
class LTX2Audio:
    """The parts `audio_vae` and `vocoder`; latents are (B, 8, T, 16), 25 cells a second."""

    parts: Parts

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration of the VAE."""
        return self.parts.config("audio_vae")

    @property
    def rate(self) -> int:
        """Return the sample rate of the vocoder's audio in Hz."""
        return int(self.parts.config("vocoder")["output_sampling_rate"])

    def plan(self, seconds: float) -> ModalityPlan:
        """Return the shapes for a length in seconds: whole cells, the audio to the sample."""
        config, rate = self.config, self.rate
        cells = max(round(seconds * config["sample_rate"] / config["mel_hop_length"] / SQUEEZE), 1)
        samples = round(seconds * rate)
        latent = (int(config["latent_channels"]), cells, int(config["mel_bins"]) // SQUEEZE)
        media = (int(self.parts.config("vocoder")["out_channels"]), samples)
        return ModalityPlan(latent, media, rate, samples / rate)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of audio (B, channels, samples)."""
        form, vae = self._form(), self.parts.get("audio_vae")
        frames = self._mel_frames(plan.latent_shape[1])
        waves = resample(media, self.rate, form.sample_rate).flatten(0, 1)
        # Cut or padded to whole frames, and at least to the length of one transform.
        waves = F.pad(waves, (0, max(frames * form.hop, form.transform) - waves.shape[1]))
        mel = log_mel(waves, form)[:, :frames].unflatten(0, media.shape[:2])
        mean, std = _statistics(vae, plan)
        latent: Tensor = (vae.encode(mel).latent_dist.mode() - mean) / std
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the audio (B, channels, samples) of latents."""
        mean, std = _statistics(self.parts.get("audio_vae"), plan)
        mel = self.parts.get("audio_vae").decode(latent * std + mean).sample
        audio: Tensor = self.parts.get("vocoder")(mel)
        return F.pad(audio, (0, plan.media_shape[1] - audio.shape[2]))

    def _mel_frames(self, cells: int) -> int:
        # In a causal codec the first cell is one frame.
        return cells * SQUEEZE - (SQUEEZE - 1 if self.config["causality_axis"] is not None else 0)

    def _form(self) -> MelFormat:
        config = self.config
        return mel_format(int(config["sample_rate"]), int(config["mel_hop_length"]), int(config["mel_bins"]))


def _statistics(vae: Any, plan: ModalityPlan) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel and band."""
    channels, _, bands = plan.latent_shape
    return vae.latents_mean.view(1, channels, 1, bands), vae.latents_std.view(1, channels, 1, bands)
