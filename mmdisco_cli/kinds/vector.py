"""Vectors, and whatever has no kind of its own, as .safetensors in full precision."""

from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.thumbnails import bars_thumbnail, text_thumbnail
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.weights_file import save_weights

FEW = 16
"""Values that a page lists; of more it draws the first 160."""
BARS = 160


class VectorKind:
    """Tensors of any shape, by label; several of one sample may share a file."""

    def write(self, path: Path, media: Media, item: Item) -> None:
        """Write a tensor under its label."""
        if isinstance(media, str):
            raise DataError("a vector to write must be a tensor, not text")
        save_weights(path, {item.label: media}, {"kind": "sample", **item.about}, exact=True)

    def read(self, path: Path, item: Item) -> Tensor:
        """Return the tensor of the label, or the only one of the file, in float32."""
        stored = read_safetensors(path)
        found = stored.get(item.label, next(iter(stored.values())) if len(stored) == 1 else None)
        if found is None:
            raise DataError(f"{path}: holds {', '.join(sorted(stored)) or 'nothing'}, but no {item.label}")
        if tuple(found.shape) != item.plan.media_shape:
            raise DataError(f"{path}: holds a tensor {tuple(found.shape)}, not {item.plan.media_shape}")
        if not bool(found.isfinite().all()):
            raise DataError(f"{path}: holds values that are not finite")
        return found.float()

    def card(self, path: Path, source: str) -> str:
        """Return the values of each tensor, drawn where they are many."""
        return "".join(f'<div class="vector">{_values(x.flatten())}</div>' for x in read_safetensors(path).values())

    def thumbnail(self, path: Path, width: int) -> Tensor:
        """Return the values of each tensor, drawn where they are many, uint8 (3, H, width)."""
        return torch.cat([_thumbnail(x.flatten().float(), width) for x in read_safetensors(path).values()], 1)


def _thumbnail(values: Tensor, width: int) -> Tensor:
    return text_thumbnail(_listed(values), width) if len(values) <= FEW else bars_thumbnail(values[:BARS], width)


def _listed(values: Tensor) -> str:
    return " ".join(f"{value:.4g}" for value in values.tolist())


def _values(values: Tensor) -> str:
    if len(values) <= FEW:
        return f"<code>{_listed(values)}</code>"
    shown = values[:BARS].float()
    heights = (shown / shown.abs().max().clamp(min=1e-9)).nan_to_num()
    lines = "".join(f"M{k} 50V{50 - 48 * height:.1f}" for k, height in enumerate(heights.tolist()))
    return (
        f'<svg viewBox="-.5 0 {len(shown)} 100" preserveAspectRatio="none" role="img" aria-label="values">'
        f'<path d="{lines}" stroke="currentColor" stroke-width=".7" fill="none"/></svg>'
    )


def build() -> VectorKind:
    """Return the kind."""
    return VectorKind()
