"""Auffusion: a Stable Diffusion of mel spectrograms as images, low frequencies at the bottom, and a vocoder."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.clip_text import LIMIT, clip_tokens
from mmdisco_diffusers.finding import find_model
from mmdisco_diffusers.hifigan import read_hifigan
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.mel import log_mel, mel_format, to_peak
from mmdisco_diffusers.mel_codec import cells_of, to_length
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import AuffusionOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import Notes, seconds_of

ROLES = Roles(("unet",), ("vae", "vocoder"), ("text_encoder",))
FORM = mel_format(16000, 160, 256)
FRAMES = 1024
"""Mel frames of a training image: 10.24 s."""
LOW, HIGH = math.log(1e-5), math.log(200.0)
"""Log-magnitudes of black and white."""
PEAK = 0.95


class Auffusion:
    """A `Family`: latents (B, 4, T, 32), 12.5 a second."""

    roles, pooled, limits = ROLES, "tokens", (LIMIT,)

    def __init__(self, parts: Parts, options: AuffusionOptions) -> None:
        self.parts, self.options = parts, options
        self.factor = int(2 ** (len(parts.config("vae")["block_out_channels"]) - 1))
        self._silence: dict[int, Tensor] = {}

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("unet")
        channels, pooled = int(config["in_channels"]), int(config["cross_attention_dim"])
        return ModalityInfo("audio", prediction_of(self.parts), channels, FORM.sample_rate, pooled, 7.5)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return self._levels

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length, at most that of a training image."""
        rate, notes = FORM.sample_rate, Notes("audio")
        longest = FRAMES * FORM.hop / rate
        requested = seconds_of(request, longest)
        made = min(requested, longest) if self.options.padded else requested
        notes.snap("seconds", requested, made, "the most that this model was trained on")
        samples = max(round(made * rate), FORM.hop)
        latent = (self.info.latent_channels, cells_of(samples, FORM.hop, self.factor), FORM.mels // self.factor)
        return ModalityPlan(latent, (1, samples), rate, samples / rate, tuple(notes.lines))

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return CLIP's hidden states; the default negative is zeros."""
        positive = clip_tokens(self.parts, prompt, device)
        other = torch.zeros_like(positive) if negative is None else clip_tokens(self.parts, negative, device)
        return {"tokens": positive}, {"tokens": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output; audio shorter than in training is padded with noised silence."""
        length = x.shape[2]
        short = self.options.padded and length < FRAMES // self.factor
        whole = torch.cat([x, self._noised_silence(x, t)], 2) if short else x
        out: Tensor = self.parts.get("unet")(whole.transpose(2, 3), t, encoder_hidden_states=condition["tokens"]).sample
        return out.transpose(2, 3)[:, :, :length]

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of audio (B, 1, samples)."""
        audio = to_peak(media[:, 0], PEAK) if self.options.normalise else media[:, 0]
        whole = plan.latent_shape[1] * self.factor * FORM.hop
        return self._encoded(F.pad(audio, (0, max(whole - audio.shape[1], 0))))

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return audio (B, 1, samples)."""
        vae = self.parts.get("vae")
        image = vae.decode(latent.transpose(2, 3) / vae.config.scaling_factor).sample
        grey = (image / 2 + 0.5).clamp(0, 1).mean(1)  # (B, mels, frames), high frequencies first
        mel = grey.flip(1) * (HIGH - LOW) + LOW
        audio: Tensor = self.parts.get("vocoder")(mel.transpose(1, 2))
        return to_length(audio.reshape(len(latent), 1, -1), plan.media_shape[1])

    def _encoded(self, audio: Tensor) -> Tensor:
        mel = log_mel(audio, FORM).transpose(1, 2)
        grey = ((mel - LOW) / (HIGH - LOW)).clamp(0, 1).flip(1)
        vae = self.parts.get("vae")
        image = (grey * 2 - 1)[:, None].expand(-1, 3, -1, -1)
        latent: Tensor = vae.encode(image).latent_dist.mode() * vae.config.scaling_factor
        return latent.transpose(2, 3)

    def _noised_silence(self, x: Tensor, t: Tensor) -> Tensor:
        """Return silence at noise levels t (B,) for the rest of a training image.

        Its noise depends on the time only, so that a sample does not depend on its batch.
        """
        missing = FRAMES // self.factor - x.shape[2]
        if missing not in self._silence:
            self.parts.get("vae").to(x.device)
            self._silence[missing] = self._encoded(torch.zeros(1, missing * self.factor * FORM.hop, device=x.device))
        silence = self._silence[missing]
        levels = self._levels.levels_at(t / (self._times - 1))
        noise = torch.stack([self._noise(int(time), silence.shape[1:]) for time in t]).to(x.device)
        made: Tensor = per_sample(levels.alpha, x) * silence + per_sample(levels.sigma, x) * noise
        return made.to(x.dtype)

    @cached_property
    def _levels(self) -> Schedule:
        return schedule_of(self.parts)

    @property
    def _times(self) -> int:
        return int(self.parts.config("scheduler").get("num_train_timesteps", 1000))

    def _noise(self, time: int, shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(time))


def build(label: str, options: AuffusionOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    key = f"backbones.{label}"
    own = find_model(options.path, f"{key}.path", whole=True) / "vocoder"
    vocoder: Path = find_model(options.vocoder, f"{key}.vocoder", whole=True) if options.vocoder else own
    parts = open_parts(
        label,
        options,
        ["StableDiffusionPipeline"],
        ROLES,
        folders={"vocoder": vocoder},
        readers={"vocoder": read_hifigan},
    )
    return DiffusersBackbone(Auffusion(parts, options), options)
