"""The files of one sample: an .mp4 where there are video and audio, a .safetensors file for all else."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.weights_file import KEY, write_tensors

MP4_MODALITIES = ("audio", "video")
LONGEST_GAP = 0.1
"""Seconds by which video and audio may differ in length: the audio is cut or padded."""


def sample_stem(index: int, seed: int) -> str:
    """Return the name of a sample's files, without suffix."""
    return f"{index:05d}-seed{seed}"


def makes_mp4(modalities: Mapping[str, ModalityPlan]) -> bool:
    """Return whether samples become .mp4; raise UsageError where video and audio would differ in length."""
    if not set(MP4_MODALITIES) <= modalities.keys():
        return False
    audio, video = (modalities[m].seconds for m in MP4_MODALITIES)
    if abs(audio - video) > LONGEST_GAP:
        raise UsageError(
            f"request: the audio would last {audio:g} s and the video {video:g} s: let request.seconds be "
            "request.frames / request.fps"
        )
    return True


def write_sample(
    folder: Path, stem: str, media: Mapping[str, Tensor], plans: Mapping[str, ModalityPlan], about: Mapping[str, str],
    scale: int,
) -> list[Path]:  # fmt: skip
    """Write the media of one sample, without batch, and return its files, the main one first.

    Modalities other than audio and video, or all where one of these is missing, go into a .safetensors file.
    """
    written = []
    rest = dict(media)
    if makes_mp4(plans):
        audio, video = (rest.pop(m) for m in MP4_MODALITIES)
        fps, rate = plans["video"].rate or 0.0, round(plans["audio"].rate or 0)
        written.append(write_mp4(folder / f"{stem}.mp4", video, audio, fps, rate, about, scale=scale))
    if rest:
        written.append(write_latents(folder / f"{stem}.safetensors", rest, about))
    return written


def require_finite(index: int, what: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise DataError, naming the sample and the modality, where a model's output is not finite."""
    for modality, x in tensors.items():
        if not bool(x.isfinite().all()):
            raise DataError(f"sample {index} is not written: the {modality} {what} holds values that are not finite")


def write_latents(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Path:
    """Write tensors by modality in full precision, with `about` as JSON in the metadata, and return the path."""
    # Under one key, because safetensors writes several in a random order.
    write_tensors(path, tensors, {KEY: json.dumps({"kind": "sample", **about}, sort_keys=True)})
    return path
