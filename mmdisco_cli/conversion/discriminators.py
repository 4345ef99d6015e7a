"""The converter of the paper's discriminators: which of the four a checkpoint may be, and what its file then says."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from mmdisco_cli.conversion.contract import Candidate, Shape, Shapes
from mmdisco_cli.conversion.published import about_aist
from mmdisco_cli.paper.configs import RELEASED, Released
from mmdisco_cli.paper.discriminator import PaperDiscriminator

WIDEST = 4096
"""Channels above which a width is taken for damage."""
_FIRST = ("feature_extractor.", "fusion_model.", "last_linear.")
_STEM = "feature_extractor.input_blocks.0.0.video_conv.video_conv_spatial.weight"
_BETAS: dict[str, dict[str, Any]] = {
    "vp-linear": {"betas": "linear", "start": 1e-4, "end": 0.02, "train_steps": 1000},
    "vp-scaled-linear": {"betas": "scaled-linear", "start": 0.00085, "end": 0.012, "train_steps": 1000},
    "vp-audioldm": {"betas": "scaled-linear", "start": 0.0015, "end": 0.0195, "train_steps": 1000},
    "vp-videocrafter2": {"betas": "linear", "start": 0.00085, "end": 0.012, "train_steps": 1000},
}
"""The schedules by name, spelt out for whoever reads the file without us."""
_BY_NAME = "for Landscape and AIST++ share one architecture: --format says otherwise"


def candidates(format: str, shapes: Shapes, file: str) -> Sequence[Candidate]:  # noqa: A002 - the name of the option
    """Return a released discriminator at its own width, and at the width of the tensors where that is another."""
    two_alike = format.startswith("mmdiffusion_")
    if not any(name.startswith(_FIRST) for name in shapes) or (two_alike and ("aist" in format) != about_aist([file])):
        return []
    note = f"taken for {format} by the file's name, {_BY_NAME}" if two_alike else ""
    return [_candidate(format, width, note) for width in _widths(shapes)]


def discriminator_shapes(released: Released, channels: int | None = None) -> dict[str, Shape]:
    """Return the tensors of a released discriminator, at another width where `channels` says so."""
    options = replace(released.options, channels=channels or released.options.channels)
    with torch.device("meta"):
        network = PaperDiscriminator(options, released.shapes, released.texts)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _widths(shapes: Shapes) -> list[int]:
    stem = shapes.get(_STEM, ())
    # A width that the authors never released, as in small networks for tests: all must agree on it.
    other = len(stem) == 4 and stem[0] % 32 == 0 and stem[0] != 128 and 0 < stem[0] <= WIDEST
    return [128, *([stem[0]] if other else [])]


def _candidate(name: str, channels: int, note: str) -> Candidate:
    released = RELEASED[name]
    own = replace(released, options=replace(released.options, channels=channels))
    return Candidate(f"discriminator {name}", discriminator_shapes(own), _about(name, own), note)


def _about(name: str, released: Released) -> dict[str, Any]:
    options = asdict(released.options)
    return {
        "kind": "discriminator",
        "name": released.name,
        "released": name,
        "options": options,
        "shapes": {m: list(shape) for m, shape in released.shapes.items()},
        "texts": dict(released.texts),
        "schedules": {m: {"name": (key := options[f"{m}_schedule"]), **_BETAS[key]} for m in released.shapes},
        "coupling": "index",
        "given_fraction": 0.0,
        # Their authors name the base models, but no file of them: any that a recipe pairs is taken.
        "backbones": {},
        "pairing": dict(released.pairing),
        "recipe": released.recipe,
        "guidance": dict(released.weights),
        "cfg": dict(released.cfg),
        "sampler": {"name": released.sampler, "steps": released.steps, "threshold": released.threshold},
        "licence": "MIT, (c) 2025 Sony Research Inc.",
    }
