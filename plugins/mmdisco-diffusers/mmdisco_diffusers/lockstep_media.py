"""What a pipeline that nobody wrote a backbone for makes: told before it runs, laid out as the contract wants it."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.finding import read_json

Parameters = Mapping[str, inspect.Parameter]
LENGTHS = ("audio_length_in_s", "audio_end_in_s", "audio_duration_s", "audio_duration", "duration", "seconds_total")
"""What pipelines call the length of their sound in seconds."""
RATES = ("output_sampling_rate", "sampling_rate", "sample_rate")
"""What codecs and vocoders call the sample rate of their sound in Hz, that of the final sound first."""
MADE = ("frames", "audios", "videos", "audio", "images")
"""What pipelines call what they made."""
GAP = 0.1
"""Seconds by which sound may be longer or shorter than asked for: pipelines count in whole latents."""


def sound_made(folder: Path, request: Request, rate: float | None) -> tuple[tuple[int, ...], float]:
    """Return the shape of the sound that a pipeline will make, without batch, and its rate in Hz.

    Raises:
        UsageError: neither the recipe nor its files say the rate, or nothing says the length.
    """
    configs = [read_json(folder / part / "config.json") or {} for part in ("vocoder", "vae")]
    told = [float(config[name]) for config in configs for name in RATES if name in config]
    seconds = request.seconds
    if seconds is None and request.frames and request.fps:
        seconds = request.frames / request.fps
    if rate is None and not told:
        want("backbones.audio.rate", "its files do not say the sample rate")
    if seconds is None:
        want("request.seconds", "a pipeline in lockstep is told its length")
    hertz = rate or told[0]
    channels = next((int(c[key]) for c in configs for key in ("audio_channels", "out_channels") if key in c), 1)
    return (channels, round(seconds * hertz)), hertz


def film_made(parameters: Parameters, request: Request) -> tuple[tuple[int, ...], float]:
    """Return the shape of the film that a pipeline will make, without batch, and its frame rate.

    Raises:
        UsageError: neither the request nor the pipeline's own defaults say a size, or nothing says the rate.
    """
    asked = {"num_frames": request.frames, "height": request.height, "width": request.width}
    sizes = [size or _default(parameters, name) for name, size in asked.items()]
    shape = tuple(size for size in sizes if size is not None)
    if len(shape) < len(sizes) or request.fps is None:
        want("request", "frames, fps, height and width say what a pipeline in lockstep makes")
    return (3, *shape), request.fps


def sizes_told(modality: str, parameters: Parameters, plan: ModalityPlan) -> dict[str, float]:
    """Return what a pipeline is told of the size of its sample, by the names that it may have for it."""
    if modality == "audio":
        return {next((name for name in LENGTHS if name in parameters), LENGTHS[0]): plan.seconds}
    _, frames, height, width = plan.media_shape
    return {"num_frames": frames, "height": height, "width": width, "frame_rate": plan.rate or 0.0}


def media_of(modality: str, result: Any, plan: ModalityPlan) -> Tensor:
    """Return what a pipeline gave for one sample in the contract's layout, within [-1, 1].

    Raises:
        UsageError: it is not what was planned.
    """
    found = next((getattr(result, name) for name in MADE if getattr(result, name, None) is not None), None)
    if found is None:
        raise UsageError(f"lockstep: {modality}: a {type(result).__name__} holds neither {' nor '.join(MADE)}")
    first = torch.as_tensor(found[0]).float().cpu()
    made = _heard(first, plan) if modality == "audio" else _seen(first, plan)
    return made.clamp(-1, 1)


def want(key: str, why: str) -> NoReturn:
    """Raise UsageError for what a recipe leaves out."""
    raise UsageError(f"{key}: missing; {why}")


def by(shape: Sequence[int]) -> str:
    """Return a shape as people write it."""
    return " x ".join(map(str, shape))


def _default(parameters: Parameters, name: str) -> int | None:
    parameter = parameters.get(name)
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else None


def _heard(made: Tensor, plan: ModalityPlan) -> Tensor:
    sound = made[None] if made.ndim == 1 else made
    samples, rate = plan.media_shape[1], plan.rate or 1.0
    if abs(sound.shape[1] - samples) > GAP * rate:
        raise UsageError(
            f"lockstep: audio lasts {sound.shape[1] / rate:g} s at {rate:g} Hz, not {plan.seconds:g} s: "
            "set backbones.audio.rate, or its length in arguments"
        )
    return F.pad(sound, (0, samples - sound.shape[1]))


def _seen(made: Tensor, plan: ModalityPlan) -> Tensor:
    film = made.movedim(-1, 0) * 2 - 1
    if tuple(film.shape) != plan.media_shape:
        found, wanted = (by((*shape[1:], shape[0])) for shape in (film.shape, plan.media_shape))
        raise UsageError(f"lockstep: video is {found}, not {wanted}: ask for what it makes in request")
    return film
