"""The media of a pipeline without a backbone: their shapes before it runs, and their conversion afterwards."""

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
"""Names of pipelines' arguments for the length of audio in seconds."""
RATES = ("output_sampling_rate", "sampling_rate", "sample_rate")
"""Keys of the sample rate in Hz in the configurations of codecs and vocoders, that of the final audio first."""
MADE = ("frames", "audios", "videos", "audio", "images")
"""Names of pipelines' outputs."""
GAP = 0.1
"""Seconds by which audio may be longer or shorter than requested: pipelines make whole latents."""


def planned_audio(folder: Path, request: Request, rate: float | None) -> tuple[tuple[int, ...], float]:
    """Return the shape of the audio that a pipeline will make, without batch, and its rate in Hz.

    Raises:
        UsageError: the sample rate is neither in the recipe nor in the files, or the length is not requested.
    """
    configs = [read_json(folder / part / "config.json") or {} for part in ("vocoder", "vae")]
    rates = [float(config[name]) for config in configs for name in RATES if name in config]
    seconds = request.seconds
    if seconds is None and request.frames and request.fps:
        seconds = request.frames / request.fps
    if rate is None and not rates:
        require_key("backbones.audio.rate", "its files do not say the sample rate")
    if seconds is None:
        require_key("request.seconds", "a pipeline in lockstep needs its length")
    hertz = rate or rates[0]
    channels = next((int(c[key]) for c in configs for key in ("audio_channels", "out_channels") if key in c), 1)
    return (channels, round(seconds * hertz)), hertz


def planned_video(parameters: Parameters, request: Request) -> tuple[tuple[int, ...], float]:
    """Return the shape of the video that a pipeline will make, without batch, and its frame rate.

    Raises:
        UsageError: a size is neither requested nor a default of the pipeline, or the rate is not requested.
    """
    requested = {"num_frames": request.frames, "height": request.height, "width": request.width}
    sizes = [size or _default(parameters, name) for name, size in requested.items()]
    shape = tuple(size for size in sizes if size is not None)
    if len(shape) < len(sizes) or request.fps is None:
        require_key("request", "frames, fps, height and width say what a pipeline in lockstep makes")
    return (3, *shape), request.fps


def size_arguments(modality: str, parameters: Parameters, plan: ModalityPlan) -> dict[str, float]:
    """Return the arguments for a sample's length and size, by the names that a pipeline may have for them."""
    if modality == "audio":
        return {next((name for name in LENGTHS if name in parameters), LENGTHS[0]): plan.seconds}
    _, frames, height, width = plan.media_shape
    return {"num_frames": frames, "height": height, "width": width, "frame_rate": plan.rate or 0.0}


def media_of(modality: str, result: Any, plan: ModalityPlan) -> Tensor:
    """Return a pipeline's output for one sample as media (*media_shape) within [-1, 1].

    Raises:
        UsageError: it has another length or shape than planned.
    """
    found = next((getattr(result, name) for name in MADE if getattr(result, name, None) is not None), None)
    if found is None:
        raise UsageError(f"lockstep: {modality}: a {type(result).__name__} holds neither {' nor '.join(MADE)}")
    first = torch.as_tensor(found[0]).float().cpu()
    made = _audio(first, plan) if modality == "audio" else _video(first, plan)
    return made.clamp(-1, 1)


def require_key(key: str, why: str) -> NoReturn:
    """Raise UsageError for a missing key of a recipe."""
    raise UsageError(f"{key}: missing; {why}")


def by(shape: Sequence[int]) -> str:
    """Return a shape as text, such as 3 x 64 x 64."""
    return " x ".join(map(str, shape))


def _default(parameters: Parameters, name: str) -> int | None:
    parameter = parameters.get(name)
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else None


def _audio(made: Tensor, plan: ModalityPlan) -> Tensor:
    audio = made[None] if made.ndim == 1 else made
    samples, rate = plan.media_shape[1], plan.rate or 1.0
    if abs(audio.shape[1] - samples) > GAP * rate:
        raise UsageError(
            f"lockstep: audio lasts {audio.shape[1] / rate:g} s at {rate:g} Hz, not {plan.seconds:g} s: "
            "set backbones.audio.rate, or its length in arguments"
        )
    return F.pad(audio, (0, samples - audio.shape[1]))


def _video(made: Tensor, plan: ModalityPlan) -> Tensor:
    video = made.movedim(-1, 0) * 2 - 1
    if tuple(video.shape) != plan.media_shape:
        found, wanted = (by((*shape[1:], shape[0])) for shape in (video.shape, plan.media_shape))
        raise UsageError(f"lockstep: video is {found}, not {wanted}: set request to what it makes")
    return video
