"""What a pipeline does by itself: every prediction that it hands to its scheduler, and the latents it ends with."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

PROMPTS = ["dogs bark", "rain fall"]
STEPS = 4
SECONDS = 0.32
LTX_CELLS = (3, 8, 8)
TIME_FIRST = ("cogvideox", "longcat")
CALLS: dict[str, dict[str, Any]] = {
    "audioldm": {"audio_length_in_s": SECONDS},
    "audioldm2": {"audio_length_in_s": SECONDS, "output_type": "latent"},
    "stable-audio": {"audio_end_in_s": 1.2, "output_type": "latent"},
    "stable-audio-3": {"duration": 1.2, "output_type": "latent"},
    "longcat": {"output_type": "latent"},
    "animatediff": {"num_frames": 5, "height": 16, "width": 16, "output_type": "latent"},
    "text-to-video-sd": {"num_frames": 5, "height": 16, "width": 16, "output_type": "latent"},
    "cogvideox": {"num_frames": 9, "height": 16, "width": 16, "output_type": "latent"},
    "hunyuan-video": {
        "num_frames": 5, "height": 16, "width": 16, "output_type": "latent",
        "guidance_scale": 6.0, "true_cfg_scale": 3.0, "negative_prompt": ["", ""],
    },
    "ltx": {"num_frames": 9, "height": 32, "width": 32, "output_type": "latent"},
    "mochi": {"num_frames": 7, "height": 16, "width": 16, "output_type": "latent"},
    "wan": {"num_frames": 5, "height": 16, "width": 16, "output_type": "latent"},
}  # fmt: skip


@dataclass(frozen=True)
class Walk:
    """One call of a pipeline, in the layout of its scheduler: (time, sample, prediction) of each step, and the end."""

    steps: list[tuple[Tensor, Tensor, Tensor]]
    end: Tensor
    pipeline: Any


def call(folder: Path, family: str, noise: Tensor, scale: float, **changed: Any) -> Walk:
    """Run a pipeline from its own noise (B, ...), in its own layout, listening at its scheduler."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, **changed)
    pipeline.set_progress_bar_config(disable=True)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    step, ends = pipeline.scheduler.step, []

    @functools.wraps(step)  # pipelines look at its parameters
    def recorded(output: Tensor, t: Tensor, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        steps.append((t, sample.clone(), output.clone()))
        out = step(output, t, sample, *args, **kwargs)
        ends.append(out[0] if isinstance(out, tuple) else out.prev_sample)
        return out

    pipeline.scheduler.step = recorded
    torch.manual_seed(0)
    arguments = {"guidance_scale": scale, "latents": noise, **CALLS[family]}
    pipeline(PROMPTS, num_inference_steps=STEPS, **arguments)
    return Walk(steps, ends[-1], pipeline)


def to_pipeline(family: str, x: Tensor) -> Tensor:
    """Return canonical latents in the layout that a pipeline is called with."""
    if family == "ltx":
        return x.flatten(2).transpose(1, 2)
    return x.transpose(1, 2) if family in TIME_FIRST else x


def to_canonical(family: str, x: Tensor) -> Tensor:
    """Return what a scheduler is handed in the canonical layout, but for its scale."""
    if family == "text-to-video-sd":
        return x.unflatten(0, (len(PROMPTS), -1)).transpose(1, 2)
    if family == "ltx":
        return x.transpose(1, 2).unflatten(2, LTX_CELLS)
    return x.transpose(1, 2) if family in TIME_FIRST else x
