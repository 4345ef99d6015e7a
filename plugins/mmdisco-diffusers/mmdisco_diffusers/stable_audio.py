"""Stable Audio Open: a transformer over latents of 47.5 s, of which the beginning is kept."""

from collections.abc import Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import StableAudioOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import Notes, seconds_of
from mmdisco_diffusers.tokens import TextLimit, tokens_of

ROLES = Roles(("transformer",), ("vae",), ("text_encoder", "projection_model"))
_SIZES = (("transformer", "sample_size"), ("vae", "audio_channels"))


class StableAudio:
    """A `Family`: latents (B, 64, 1024), 21.5 a second, all of them unless `full` is false."""

    roles, pooled, limits = ROLES, "tokens", (TextLimit(),)

    def __init__(self, parts: Parts, options: StableAudioOptions) -> None:
        self.parts, self.options = parts, options

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("transformer")
        prediction = prediction_of(self.parts)
        pooled = int(self.parts.config("projection_model")["conditioning_dim"])
        return ModalityInfo("audio", prediction, int(config["in_channels"]), self.rate, pooled, 7.0)

    @cached_property
    def rate(self) -> int:
        """Return the sample rate in Hz."""
        return int(self.parts.config("vae")["sampling_rate"])

    @cached_property
    def hop(self) -> int:
        """Return the samples of one latent."""
        return int(torch.tensor(self.parts.config("vae")["downsampling_ratios"]).prod())

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length: all latents are made, and the audio is cut."""
        length, channels = (int(self.parts.config(part)[key]) for part, key in _SIZES)
        longest, notes = length * self.hop / self.rate, Notes("audio")
        requested = seconds_of(request, longest)
        seconds = min(requested, longest)
        notes.snap("seconds", requested, seconds, "the most that this model makes")
        samples = round(seconds * self.rate)
        if not self.options.full:
            length = -(-samples // self.hop)
            notes.add("made no longer than requested, unlike in this model's training")
        elif seconds < longest:
            notes.add(f"{longest:.2f} s are made whatever the length, and the first {seconds:g} s kept")
        latent = (self.info.latent_channels, length)
        return ModalityPlan(latent, (channels, samples), self.rate, samples / self.rate, tuple(notes.lines))

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return T5's hidden states, then the start and end in seconds; the default negative has zeros for the text."""
        times = self._times(plan.seconds, device)
        positive = self._row(self._tokens(prompt, device), times)
        if negative is None:
            return positive, {**positive, "tokens": torch.zeros_like(positive["tokens"])}
        return positive, self._row(self._tokens(negative, device), times)

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        model = self.parts.get("transformer")
        size = model.config.attention_head_dim // 2
        # One more than the latents: the duration goes before them as a token of its own.
        cosine, sine = get_1d_rotary_pos_embed(size, x.shape[2] + 1, use_real=True, repeat_interleave_real=False)
        out: Tensor = model(
            x,
            t,
            encoder_hidden_states=condition["tokens"],
            global_hidden_states=condition["times"],
            rotary_embedding=(cosine.to(x.device), sine.to(x.device)),
            return_dict=False,
        )[0]
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of audio, padded with silence to the full length."""
        whole = plan.latent_shape[1] * self.hop
        latent: Tensor = self.parts.get("vae").encode(F.pad(media, (0, whole - media.shape[2]))).latent_dist.mode()
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the beginning of the decoded audio."""
        audio: Tensor = self.parts.get("vae").decode(latent).sample
        return audio[..., : plan.media_shape[1]]

    def _tokens(self, text: str, device: torch.device) -> Tensor:
        tokens = tokens_of(self.parts, text, self.limits[0], device)
        mask = tokens.attention_mask[..., None]
        hidden = self.parts.get("text_encoder")(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        projected = self.parts.get("projection_model")(text_hidden_states=hidden).text_hidden_states
        found: Tensor = projected.masked_fill(mask == 0, 0)
        return found

    def _times(self, seconds: float, device: torch.device) -> tuple[Tensor, Tensor]:
        values = [torch.tensor([value], device=device) for value in (0.0, seconds)]
        out = self.parts.get("projection_model")(start_seconds=values[0], end_seconds=values[1])
        return out.seconds_start_hidden_states, out.seconds_end_hidden_states

    def _row(self, tokens: Tensor, times: tuple[Tensor, Tensor]) -> Row:
        return {"tokens": torch.cat([tokens, *times], 1)[0], "times": torch.cat(times, 2)[0]}


def build(label: str, options: StableAudioOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["StableAudioPipeline"], ROLES)
    return DiffusersBackbone(StableAudio(parts, options), options)
