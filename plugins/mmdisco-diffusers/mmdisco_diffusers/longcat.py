"""LongCat-AudioDiT: a flow-matching transformer for audio, whose time and velocity run from noise to data."""

import math
import re
from collections.abc import Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.finding import read_json
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import Notes, seconds_of
from mmdisco_diffusers.tokens import TextLimit, tokens_of

ROLES = Roles(("transformer",), ("vae",), ("text_encoder",))
SECONDS, LONGEST, TIMES = 10.0, 30.0, 1000
TOKENS, MOST_TOKENS = 512, 32768


class LongCat:
    """A `Family`: latents (B, 64, T), 11.7 a second."""

    roles, pooled = ROLES, "tokens"
    limits = (TextLimit(lambda own: own if 0 < own <= MOST_TOKENS else TOKENS, prepared=lambda text: _plain(text)),)

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("transformer")
        channels, pooled = int(config["latent_dim"]), int(config["dit_text_dim"])
        return ModalityInfo("audio", "flow_reversed", channels, self.rate, pooled, 4.0)

    @cached_property
    def rate(self) -> int:
        """Return the sample rate in Hz."""
        return int(self.parts.config("vae")["sample_rate"])

    @cached_property
    def hop(self) -> int:
        """Return the samples of one latent."""
        return int(self.parts.config("vae")["downsampling_ratio"])

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        # The pipeline saves no scheduler, and brings its own where a folder has none.
        own = read_json(self.parts.place("scheduler") / "scheduler_config.json") or {}
        return reversed_flow(float(own.get("shift", 1.0)))

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length: whole latents, the audio cut to the sample."""
        requested, notes = seconds_of(request, SECONDS), Notes("audio")
        seconds = min(requested, LONGEST)
        notes.snap("seconds", requested, seconds, "the most that this model makes")
        samples = max(round(seconds * self.rate), 1)
        latent = (self.info.latent_channels, math.ceil(samples / self.hop))
        channels = int(self.parts.config("vae")["in_channels"])
        return ModalityPlan(latent, (channels, samples), self.rate, samples / self.rate, tuple(notes.lines))

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return UMT5's hidden states; the default negative is zeros of the same shape."""
        positive = self._row(_plain(prompt), device)
        if negative is None:
            return positive, {**positive, "tokens": torch.zeros_like(positive["tokens"])}
        return positive, self._row(negative, device)

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output; texts of one length at a time, because the model does not mask padding."""
        out = torch.empty_like(x)
        lengths = condition["mask"].sum(1)
        for length in lengths.unique().tolist():
            chosen = lengths == length
            out[chosen] = self._output(x[chosen], t[chosen], condition["tokens"][chosen, : int(length)])
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of audio, padded with silence to whole latents."""
        whole = plan.latent_shape[1] * self.hop
        padded = F.pad(media, (0, whole - media.shape[2]))
        latent: Tensor = self.parts.get("vae").encode(padded, sample_posterior=False).latents
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the audio of latents."""
        audio: Tensor = self.parts.get("vae").decode(latent).sample
        return audio[..., : plan.media_shape[1]]

    def _output(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        states = x.transpose(1, 2)
        out: Tensor = self.parts.get("transformer")(
            hidden_states=states,
            encoder_hidden_states=tokens,
            encoder_attention_mask=_all(tokens),
            timestep=(t / TIMES).to(x.dtype),
            attention_mask=_all(states),
            latent_cond=torch.zeros_like(states),  # audio to continue from
        ).sample
        return out.transpose(1, 2)

    def _row(self, text: str, device: torch.device) -> Row:
        tokens = tokens_of(self.parts, text, self.limits[0], device, padded=False)
        found = self.parts.get("text_encoder")(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True
        )
        both = _normed(found.last_hidden_state) + _normed(found.hidden_states[0])
        return {"tokens": both[0], "mask": tokens.attention_mask[0].long()}


def reversed_flow(shift: float = 1.0) -> Schedule:
    """Return uniform steps, shifted, of a flow whose time is TIMES * alpha: 0 in noise, TIMES at the data."""

    def levels(even: Tensor) -> Levels:
        sigma = shift * even / (1 + (shift - 1) * even)
        return Levels(((1 - sigma) * TIMES).float(), (1 - sigma).float(), sigma.float())

    def grid(steps: int) -> Levels:
        # In single precision, as the pipeline has it.
        return levels(torch.cat([torch.linspace(1, 1 / steps, steps), torch.zeros(1)]))

    return Schedule("flow", lambda u: levels(u.double()), grid)


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["LongCatAudioDiTPipeline"], ROLES)
    return DiffusersBackbone(LongCat(parts), options)


def _plain(text: str) -> str:
    """Return a text in lower case, without quotes and with single spaces, as in this model's training."""
    return " ".join(re.sub(r'["\u201c\u201d\u2018\u2019]', " ", text.lower()).split())


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _all(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
