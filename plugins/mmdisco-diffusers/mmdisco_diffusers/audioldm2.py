"""AudioLDM 2: a U-Net over mel latents, told T5's tokens and what a language model makes of CLAP's and T5's."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone, Roles, Row
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.mel_codec import MelCodec
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import MelOptions
from mmdisco_diffusers.parts import Parts

ROLES = Roles(("unet",), ("vae", "vocoder"), ("text_encoder", "text_encoder_2", "projection_model", "language_model"))
TOKENIZERS = ("tokenizer", "tokenizer_2")


class AudioLDM2:
    """A `Family`: latents (B, 8, T, 16), 25 cells a second."""

    roles, pooled = ROLES, "generated"

    def __init__(self, parts: Parts, options: MelOptions) -> None:
        self.parts = parts
        self.codec = MelCodec(parts, options.normalise, int(parts.config("unet")["sample_size"]))

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        channels = int(self.parts.config("unet")["in_channels"])
        pooled = int(self.parts.config("language_model").get("n_embd", 768))
        return ModalityInfo("audio", prediction_of(self.parts), channels, self.codec.rate, pooled, 3.5)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length."""
        return self.codec.plan(request, self.info.latent_channels)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return the three conditions; the negative is filled up to the prompt's length, as in training."""
        pipeline = self._text_pipeline()
        tokens, mask, generated = pipeline.encode_prompt(prompt, device, 1, True, negative_prompt=negative)
        rows = [{"generated": generated[i], "tokens": tokens[i], "mask": mask[i].long()} for i in (1, 0)]
        return rows[0], rows[1]

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        out: Tensor = self.parts.get("unet")(
            x,
            t,
            encoder_hidden_states=condition["generated"],
            encoder_hidden_states_1=condition["tokens"],
            encoder_attention_mask_1=condition["mask"],
        ).sample
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return latents of sound."""
        return self.codec.encode(media, plan)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return sound of latents."""
        return self.codec.decode(latent, plan)

    def _text_pipeline(self) -> "AudioLDM2Pipeline":  # type: ignore[name-defined] # noqa: F821
        from diffusers import AudioLDM2Pipeline

        absent = dict.fromkeys(("vae", "unet", "vocoder", "scheduler", "feature_extractor"))
        return AudioLDM2Pipeline(**absent, **{name: self.parts.get(name) for name in (*ROLES.text, *TOKENIZERS)})


def build(label: str, options: MelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    # Older copies on the hub name a language model without the method that their own pipeline calls.
    classes = {"language_model": "GPT2LMHeadModel"}
    parts = open_parts(label, options, ["AudioLDM2Pipeline"], ROLES, classes)
    return DiffusersBackbone(AudioLDM2(parts, options), options)
