"""What a converted file says of itself: architecture, schedule, and which base models belong together."""

from dataclasses import asdict
from typing import Any

from mmdisco_cli.conversion.kinds import Candidate, options_of
from mmdisco_cli.paper.configs import Released

BETAS: dict[str, dict[str, Any]] = {
    "vp-linear": {"betas": "linear", "start": 1e-4, "end": 0.02, "train_steps": 1000},
    "vp-scaled-linear": {"betas": "scaled-linear", "start": 0.00085, "end": 0.012, "train_steps": 1000},
    "vp-audioldm": {"betas": "scaled-linear", "start": 0.0015, "end": 0.0195, "train_steps": 1000},
    "vp-videocrafter2": {"betas": "linear", "start": 0.00085, "end": 0.012, "train_steps": 1000},
}
"""The schedules by name, spelt out for whoever reads the file without us."""
_LICENCES = {
    "discriminator": "MIT, (c) 2025 Sony Research Inc.",
    "mmdiffusion-unet": "MIT, (c) 2022 Multimedia Research",
    "mmdiffusion-sr": "MIT, (c) 2022 Multimedia Research",
}


def about(candidate: Candidate) -> dict[str, Any]:
    """Return the description of a recognised checkpoint, as plain data."""
    if candidate.released is not None:
        return _of_discriminator(candidate.format, candidate.released)
    return {
        "kind": "backbone",
        "architecture": candidate.format,
        "options": options_of(candidate),
        "modalities": ["audio", "video"] if candidate.format == "mmdiffusion-unet" else ["video"],
        "prediction": "epsilon",
        "schedule": {"name": "vp-linear", **BETAS["vp-linear"]},
        "licence": _LICENCES[candidate.format],
    }


def _of_discriminator(name: str, released: Released) -> dict[str, Any]:
    options = asdict(released.options)
    return {
        "kind": "discriminator",
        "name": released.name,
        "released": name,
        "options": options,
        "shapes": {m: list(shape) for m, shape in released.shapes.items()},
        "texts": dict(released.texts),
        "schedules": {m: {"name": (key := options[f"{m}_schedule"]), **BETAS[key]} for m in released.shapes},
        "coupling": "index",
        "given_fraction": 0.0,
        # Their authors name the base models, but no file of them: any that a recipe pairs is taken.
        "backbones": {},
        "pairing": dict(released.pairing),
        "recipe": released.recipe,
        "guidance": dict(released.weights),
        "cfg": dict(released.cfg),
        "sampler": {"name": released.sampler, "steps": released.steps, "threshold": released.threshold},
        "licence": _LICENCES["discriminator"],
    }
