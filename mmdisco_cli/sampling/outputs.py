"""The files of one sample: a film where there are picture and sound, tensors for all else."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.weights_file import KEY, write_tensors

FILM = ("audio", "video")
LONGEST_GAP = 0.1
"""Seconds by which picture and sound may differ in length: the film cuts or pads the sound."""


def sample_stem(index: int, seed: int) -> str:
    """Return the name of a sample's files, without suffix."""
    return f"{index:05d}-seed{seed}"


def makes_film(modalities: Mapping[str, ModalityPlan]) -> bool:
    """Return whether samples become .mp4; raise UsageError where picture and sound would differ in length."""
    if not set(FILM) <= modalities.keys():
        return False
    sound, pictures = (modalities[m].seconds for m in FILM)
    if abs(sound - pictures) > LONGEST_GAP:
        raise UsageError(
            f"request: the sound would last {sound:g} s and the video {pictures:g} s: let request.seconds be "
            "request.frames / request.fps"
        )
    return True


def write_sample(
    folder: Path, stem: str, media: Mapping[str, Tensor], plans: Mapping[str, ModalityPlan], about: Mapping[str, str],
    scale: int,
) -> list[Path]:  # fmt: skip
    """Write the media of one sample, without batch, and return its files, the one to show first.

    Modalities beyond sound and picture go into a .safetensors beside the film, or alone where there is no film.
    """
    written = []
    rest = dict(media)
    if makes_film(plans):
        audio, video = (rest.pop(m) for m in FILM)
        fps, rate = plans["video"].rate or 0.0, round(plans["audio"].rate or 0)
        written.append(write_mp4(folder / f"{stem}.mp4", video, audio, fps, rate, about, scale=scale))
    if rest:
        written.append(write_latents(folder / f"{stem}.safetensors", rest, about))
    return written


def require_finite(index: int, what: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise DataError, naming the sample and the modality, where the model gave numbers that nobody can use."""
    for modality, x in tensors.items():
        if not bool(x.isfinite().all()):
            raise DataError(f"sample {index} is not written: the {modality} {what} holds values that are not finite")


def write_latents(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Path:
    """Write tensors, one a modality in full precision, and what they are as JSON in the metadata."""
    # Under one key, because safetensors writes several in a random order.
    write_tensors(path, tensors, {KEY: json.dumps({"kind": "sample", **about}, sort_keys=True)})
    return path
