"""AudioLDM: a U-Net over mel latents, told the prompt's CLAP embedding as a class."""

from collections.abc import Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone, Roles, Row
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.mel_codec import MelCodec
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import MelOptions
from mmdisco_diffusers.parts import Parts

ROLES = Roles(("unet",), ("vae", "vocoder"), ("text_encoder",))


class AudioLDM:
    """A `Family`: latents (B, 8, T, 16), 25 cells a second."""

    roles, pooled = ROLES, "class"

    def __init__(self, parts: Parts, options: MelOptions) -> None:
        self.parts = parts
        self.codec = MelCodec(parts, options.normalise, int(parts.config("unet")["sample_size"]))

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        channels = int(self.parts.config("unet")["in_channels"])
        pooled = int(self.parts.config("text_encoder").get("projection_dim", 512))
        return ModalityInfo("audio", prediction_of(self.parts), channels, self.codec.rate, pooled, 2.5)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length."""
        return self.codec.plan(request, self.info.latent_channels)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return the unit vector that CLAP gives a text; the default negative is the empty one."""
        positive, other = self._embedded([prompt, negative or ""], device)
        return {"class": positive}, {"class": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        out: Tensor = self.parts.get("unet")(x, t, encoder_hidden_states=None, class_labels=condition["class"]).sample
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return latents of sound."""
        return self.codec.encode(media, plan)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return sound of latents."""
        return self.codec.decode(latent, plan)

    def _embedded(self, texts: list[str], device: torch.device) -> Tensor:
        tokenizer = self.parts.get("tokenizer")
        tokens = tokenizer(
            texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        ).to(device)
        found = self.parts.get("text_encoder")(tokens.input_ids, attention_mask=tokens.attention_mask)
        return F.normalize(found.text_embeds, dim=-1)


def build(label: str, options: MelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["AudioLDMPipeline"], ROLES)
    return DiffusersBackbone(AudioLDM(parts, options), options)
