"""The built-in base model: a codec, a token denoiser and the cosine schedule, for one modality.

`mmdisco train` with `train.target: backbone` trains one; `bounce` and `clips` sample from them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.backbones.additions import base_file, require_own
from mmdisco_cli.backbones.audio_codec import AudioCodec
from mmdisco_cli.backbones.denoiser import TokenDenoiser
from mmdisco_cli.backbones.frame_codec import FrameCodec
from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.pixel_codec import PixelCodec
from mmdisco_cli.backbones.text import token_ids
from mmdisco_cli.diffusion.backbone import (
    AUDIO,
    IMAGE,
    UNTRAINED,
    VIDEO,
    Condition,
    ModalityInfo,
    ModalityPlan,
    Payload,
    Request,
)
from mmdisco_cli.diffusion.operations import count_operations
from mmdisco_cli.diffusion.schedules import Levels, cosine, log_snr
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.tensors.batches import one_by_one
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.tensors.naming import weights_fingerprint
from mmdisco_cli.weights_file import find_weights, load_weights, read_about

Codec = AudioCodec | FrameCodec | PixelCodec
CODECS: dict[str, type[Codec]] = {"sound": AudioCodec, "frames": FrameCodec, "pixels": PixelCodec}
KINDS = {"sound": AUDIO, "frames": VIDEO, "pixels": IMAGE}
"""What each codec's media are, under whatever label."""
TEXT = ("denoiser.text.", "denoiser.by_text.")
"""How the names of the weights begin that a model without captions does not have."""


class TokenBackbone:
    """One modality's codec and denoiser: a `diffusion.backbone.Backbone`."""

    def __init__(self, modality: str, options: TokenOptions, request: Request) -> None:
        self.modality, self.options, self.request = modality, options, request
        self.schedule = cosine()
        self.codec: Codec = CODECS[options.codec](options.latent_channels)
        shape = self.plan(request).latent_shape
        _require_fit(modality, options, shape)
        self.denoiser = TokenDenoiser(shape, options.patch, options.width, options.depth, options.heads, options.text)
        self.fingerprint = UNTRAINED
        self.path: Path | None = None

    @property
    def module(self) -> torch.nn.Module:
        """All trainable networks, codec first."""
        return torch.nn.ModuleDict({"codec": self.codec, "denoiser": self.denoiser})

    def operations(self, plan: ModalityPlan) -> int:
        """Return the floating-point operations of predicting one sample."""
        return count_operations(self.denoiser, lambda: (torch.empty(1, *plan.latent_shape), torch.zeros(1)))

    def to(self, device: torch.device) -> None:
        """Move all networks."""
        self.module.to(device)

    def release(self, parts: Sequence[str]) -> None:
        """Free the codec where it can be read again from its file; there is no text encoder."""
        if "codec" in parts and self.path is not None:
            self.codec.to("meta")

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        plan = self.plan(self.request)
        pooled = self.options.text if self.options.pooled else 0
        kind = KINDS[self.options.codec]
        return ModalityInfo(self.modality, "sample", plan.latent_shape[0], plan.rate, pooled, kind=kind)

    @property
    def takes_prompts(self) -> bool:
        """Return whether the model takes captions."""
        return self.options.text > 0

    def plan(self, request: Request) -> ModalityPlan:
        """Return the one shape that the network was built for, with a note on each requested value that differs."""
        own = self.request
        notes = tuple(
            f"{self.modality}: {name} {requested} becomes {made}, the only one it was trained for"
            for name in ("seconds", "frames", "fps", "height", "width")
            # What its training was not given it has not, as an image has no length.
            if (made := getattr(own, name)) not in (None, requested := getattr(request, name)) and requested is not None
        )
        return self.codec.plan(own, notes)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the cosine schedule's grid."""
        return self.schedule.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the cosine schedule's levels."""
        return self.schedule.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the embeddings (B, text) of prompts, and of negatives or the empty text; nothing without `text`."""
        if not self.takes_prompts:
            return Condition()
        positive, negative = self._embedded(prompts), self._embedded(negatives or [""] * len(prompts))
        shown = (positive, negative) if self.options.pooled else (None, None)
        return Condition(positive, negative, *shown)

    @torch.no_grad()
    def _embedded(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of texts, each computed alone and so the same to the bit in any batch."""
        encoder = self.denoiser.text
        device = encoder.start.device
        found = {text: encoder(token_ids(text)[None].to(device)) for text in dict.fromkeys(texts)}
        return torch.cat([found[text] for text in texts])

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return x_0 for x (B, ...) at native times t (B,), which are the progress u itself."""
        levels = self.schedule.levels_at(t)
        text = self._text(condition, len(x))
        prediction: Tensor = self.denoiser(x, log_snr(levels.alpha, levels.sigma), text)
        return prediction

    def _text(self, condition: Payload, batch: int) -> Tensor | None:
        """Return the embeddings that a condition holds, those of the empty text where it holds none."""
        if not self.takes_prompts:
            return None
        return condition if isinstance(condition, Tensor) else self._embedded([""] * batch)

    @torch.no_grad()
    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of media; those of a clip are the same to the bit in any batch."""
        return one_by_one(self._present().encode, media)

    @torch.no_grad()
    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media of latents; those of a clip are the same to the bit in any batch."""
        return one_by_one(self._present().decode, latent)

    def _present(self) -> Codec:
        """Return the codec, read again where it was released."""
        if self.path is not None and any(tensor.is_meta for tensor in self.codec.state_dict().values()):
            device = next(self.denoiser.parameters()).device
            self.codec = _loaded(self.path, self.modality).codec.to(device)
        return self.codec


def build(modality: str, options: TokenOptions, request: Request) -> TokenBackbone:
    """Build the backbone of a recipe: from the file named by `options.weights`, else untrained or on top of a base.

    Raises:
        UsageError: the options fit neither one another nor the request.
        DataError: the weights, or those that they go on from, cannot be found or read, or are of another modality.
    """
    if options.weights is not None:
        return _loaded(find_weights(options.weights), modality, pooled=options.pooled)
    return TokenBackbone(modality, options, request) if options.base is None else _begun(modality, options)


def _loaded(path: Path, modality: str, *, pooled: bool = True) -> TokenBackbone:
    about = read_about(path, "backbone")
    backbone = _described(path, about, modality, pooled=pooled)
    load_weights(path, backbone.module, base_file(path, about))
    backbone.module.eval().requires_grad_(False)
    backbone.fingerprint, backbone.path = sha256_of(path)[:SHORT], path
    return backbone


def _begun(modality: str, options: TokenOptions) -> TokenBackbone:
    """Return a model that still has to be trained, with the weights of its base as far as that has them."""
    path = find_weights(str(options.base))
    about = read_about(path, "backbone")
    if base_file(path, about) is not None:
        raise UsageError(f"backbones.{modality}.base: {options.base} itself goes on from other weights; name those")
    backbone = _described(path, about, modality, base=options.base, text=options.text, pooled=options.pooled)
    if (known := int(about["options"].get("text", 0))) not in (0, options.text):
        raise DataError(f"{path}: has captions of size {known}, not {options.text}")
    stored = read_safetensors(path)
    new = [name for name in backbone.module.state_dict() if name not in stored]
    if any(not name.startswith(TEXT) for name in new) or stored.keys() - backbone.module.state_dict().keys():
        raise DataError(f"{path}: does not fit its own description")
    backbone.module.load_state_dict({n: x.float() for n, x in stored.items()}, strict=False)
    backbone.codec.requires_grad_(False)
    backbone.denoiser.keep_base()
    return backbone


def _described(path: Path, about: Mapping[str, Any], modality: str, **changes: Any) -> TokenBackbone:
    """Return the untrained model that a weights file describes, with some options changed."""
    require_own(path, about, modality, "token")
    try:
        options = TokenOptions(**about["options"] | {"patch": tuple(about["options"]["patch"])} | changes)
        return TokenBackbone(modality, options, Request(**about["request"]))
    except (KeyError, TypeError, UsageError) as error:
        raise DataError(f"{path}: its description does not fit this version of the model ({error})") from error


def _require_fit(modality: str, options: TokenOptions, shape: tuple[int, ...]) -> None:
    """Refuse patches that do not tile latents of `shape` (C, *sizes), and heads that do not divide the width."""
    key, sizes, patch = f"backbones.{modality}", shape[1:], options.patch
    if len(patch) != len(sizes) or any(size % p for size, p in zip(sizes, patch, strict=True)):
        raise UsageError(f"{key}.patch: patches of {list(patch)} do not tile the codec's latents of {list(sizes)}")
    if options.width % options.heads:
        raise UsageError(f"{key}.heads: {options.heads} heads do not divide a width of {options.width}")


def codec_fingerprint(backbone: TokenBackbone) -> str:
    """Return a fingerprint of what `encode` computes: latents of different codecs must never be mixed."""
    return weights_fingerprint(backbone.codec, f"{backbone.options.codec}:{backbone.plan(backbone.request)}")
