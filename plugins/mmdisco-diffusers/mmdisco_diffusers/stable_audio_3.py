"""Stable Audio 3: a flow-matching transformer of any length, on a grid uniform in log-SNR."""

import math
from collections.abc import Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.levels import prediction_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import seconds_of
from mmdisco_diffusers.tokens import TextLimit, tokens_of

ROLES = Roles(("transformer",), ("vae",), ("text_encoder", "duration_embedder"))
SECONDS, TOKENS = 10.0, 256
NOISY, CLEAN = -6.2, 2.0
"""Log of the ratio of alpha to sigma at both ends of the pipeline's grid."""


class StableAudio3:
    """A `Family`: latents (B, 256, T), 10.8 a second."""

    roles, pooled, limits = ROLES, "tokens", (TextLimit(lambda own: min(own, TOKENS)),)

    def __init__(self, parts: Parts, options: ModelOptions, request: Request) -> None:
        self.parts = parts

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality; distilled models need no CFG."""
        vae, pooled = self.parts.config("vae"), int(self.parts.config("transformer")["cond_token_dim"])
        return ModalityInfo("audio", prediction_of(self.parts), int(vae["latent_dim"]), self.rate, pooled, 1.0)

    @cached_property
    def rate(self) -> int:
        """Return the sample rate in Hz."""
        return int(self.parts.config("vae")["sampling_rate"])

    @cached_property
    def hop(self) -> int:
        """Return the samples of one latent."""
        vae = self.parts.config("vae")
        return int(vae["patch_size"] * math.prod(vae["encoder_strides"]))

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return even_log_snr(int(self.parts.config("scheduler").get("num_train_timesteps", 1)))

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length: whole latents, the audio cut to the sample."""
        samples = max(round(seconds_of(request, SECONDS) * self.rate), 1)
        latent = (self.info.latent_channels, math.ceil(samples / self.hop))
        channels = int(self.parts.config("vae")["audio_channels"])
        return ModalityPlan(latent, (channels, samples), self.rate, samples / self.rate)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return the text's hidden states, then the duration's; the default negative is the empty text."""
        duration = self.parts.get("duration_embedder")(torch.tensor([plan.seconds], device=device))[0]
        rows = [self._row(text, duration, device) for text in (prompt, negative or "")]
        return rows[0], rows[1]

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        out: Tensor = self.parts.get("transformer")(
            x,
            t,
            encoder_hidden_states=condition["tokens"],
            global_hidden_states=condition["duration"],
            encoder_attention_mask=condition["mask"],
            return_dict=False,
        )[0]
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of audio, padded with silence to whole latents."""
        whole = plan.latent_shape[1] * self.hop
        latent: Tensor = self.parts.get("vae").encode(F.pad(media, (0, whole - media.shape[2]))).latents
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the audio of latents."""
        audio: Tensor = self.parts.get("vae").decode(latent).sample
        return audio[..., : plan.media_shape[1]]

    def _row(self, text: str, duration: Tensor, device: torch.device) -> Row:
        tokens = tokens_of(self.parts, text, self.limits[0], device)
        hidden = self.parts.get("text_encoder")(tokens.input_ids, attention_mask=tokens.attention_mask)[0][0]
        mask = F.pad(tokens.attention_mask[0].long(), (0, 1), value=1)
        return {"tokens": torch.cat([hidden, duration[None].to(hidden.dtype)]), "mask": mask, "duration": duration}


def even_log_snr(times: int) -> Schedule:
    """Return a flow whose grid is uniform in log(alpha / sigma), but for its ends, pure noise and data.

    In single precision, as in the pipeline: the model's time embedding has frequencies of up to 10,000.
    """

    def at(u: Tensor) -> Tensor:
        return torch.sigmoid(-(CLEAN - u.float() * (CLEAN - NOISY)))

    def levels(s: Tensor) -> Levels:
        return Levels((s * times).float(), (1 - s).float(), s.float())

    def grid(steps: int) -> Levels:
        s = at(torch.linspace(1, 0, steps + 1))
        s[0], s[-1] = 1, 0
        return levels(s)

    return Schedule("flow", lambda u: levels(at(u)), grid)


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["StableAudio3Pipeline"], ROLES)
    return DiffusersBackbone(StableAudio3(parts, options, request), options)
