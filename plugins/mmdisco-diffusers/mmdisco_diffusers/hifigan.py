"""Read a HiFi-GAN in its authors' format into the same network of transformers, without their code."""

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError
from mmdisco_diffusers.finding import read_json

_SAME = ("upsample_initial_channel", "upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes")


def read_hifigan(folder: Path) -> Any:
    """Return the vocoder in a folder with config.json and vocoder.pt.

    Raises:
        DataError: files are missing or damaged, or it is another network.
    """
    config = read_json(folder / "config.json")
    if config is None:
        raise DataError(f"{folder}: has no config.json of a vocoder")
    vocoder = _untrained(config, folder)
    try:
        saved = torch.load(folder / "vocoder.pt", weights_only=True, map_location="cpu")["generator"]
        weights = {_renamed(name): weight for name, weight in folded(saved).items()}
        buffers = {"mean": vocoder.mean, "scale": vocoder.scale}
        vocoder.load_state_dict({**buffers, **weights})
    except (OSError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise DataError(f"{folder / 'vocoder.pt'}: cannot be loaded ({' '.join(str(error).split())})") from error
    return vocoder


def folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without weight normalisation: each pair of a norm g and a direction v becomes g * v / |v|."""
    made = {name: weight for name, weight in weights.items() if not name.endswith(("weight_g", "weight_v"))}
    for name in (name for name in weights if name.endswith("weight_v")):
        direction, norm = weights[name], weights[f"{name[:-1]}g"]
        length = direction.flatten(1).norm(dim=1).reshape(-1, *[1] * (direction.ndim - 1))
        made[name.removesuffix("_v")] = norm * direction / length
    return made


def _untrained(config: Mapping[str, Any], folder: Path) -> Any:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    if str(config.get("resblock")) != "1":
        raise DataError(f"{folder}: a HiFi-GAN of blocks of kind {config.get('resblock')!r} is not known, only of '1'")
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=config["num_mels"],
            sampling_rate=config["sampling_rate"],
            resblock_dilation_sizes=config["resblock_dilation_sizes"],
            normalize_before=False,
            **{key: config[key] for key in _SAME},
        )
    )
    for layer, rate, size in zip(
        vocoder.upsampler, config["upsample_rates"], config["upsample_kernel_sizes"], strict=True
    ):
        if (size - rate) % 2:  # the authors round the other way, so that lengths stay whole multiples
            layer.padding, layer.output_padding = (math.ceil((size - rate) / 2),), (1,)
    return vocoder


def _renamed(name: str) -> str:
    return f"upsampler{name.removeprefix('ups')}" if name.startswith("ups.") else name
