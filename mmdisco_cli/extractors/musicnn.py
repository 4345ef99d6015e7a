"""Taggers of music of the package musicnn, whose features describe how music sounds (Pons and Serra, 2019).

The package cannot be installed beside this Python's NumPy, but its files can be read: TensorFlow checkpoints, here put
into networks of our own. Audio that is shorter than the 3 s of training is repeated, as it was in training.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio import functional as AF

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.extractors.contract import Audio, Extractor
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.tf_checkpoint import DATA, INDEX, read_tensors
from mmdisco_cli.extractors.weights import choose_preset
from mmdisco_cli.measures.distances import Feature
from mmdisco_cli.run import console
from mmdisco_cli.schema import at_home

RATE, N_FFT, HOP, MELS = 16000, 512, 256, 96
FRAMES = 187
"""Of a patch of 3 s."""
EPS = 1e-3
PUBLISHED = {
    "MSD_vgg": "9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc",
    "MTT_musicnn": "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
    "MSD_musicnn": "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
    "MTT_vgg": "458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303",
}
"""SHA-256 of the data of each checkpoint in musicnn 0.1.0."""
HOW = "--extractor musicnn: `pip install --no-deps musicnn`, or `pip download --no-deps musicnn` and musicnn=FILE.whl"


class Vgg(nn.Module):
    """Patches (B, 187, 96) to what the last pooling leaves, (B, 256)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 128, 128, 128, 128, 128)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, EPS) for width in widths)

    def forward(self, patches: Tensor) -> Tensor:
        """Return features, channels last as in TensorFlow."""
        pools = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))
        x = self.norms[0](patches[:, None])
        for conv, norm, (size, stride) in zip(self.convs, self.norms[1:], pools, strict=True):
            x = F.max_pool2d(norm(conv(x).relu()), size, stride)
        found: Tensor = x.permute(0, 2, 3, 1).flatten(1)
        return found


class Musicnn(nn.Module):
    """Patches (B, T, 96) to the layer before the tags, (B, 200).

    Filters as tall as timbres and as long as rhythms are wide, of which only the strongest over all pitches counts;
    three layers over time; maximum and mean over time.
    """

    def __init__(self) -> None:
        super().__init__()
        shapes = ((204, 7, 38), (204, 7, 67), (51, 128, 1), (51, 64, 1), (51, 32, 1))
        middle = ((561, 64), (64, 64), (64, 64))
        self.convs = nn.ModuleList(
            [nn.Conv2d(1, width, (long, high)) for width, long, high in shapes]
            + [nn.Conv2d(1, width, (7, inside)) for inside, width in middle]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, EPS) for width in (1, 204, 204, 51, 51, 51, 64, 64, 64))
        self.norms.extend([nn.BatchNorm1d(1506, EPS), nn.BatchNorm1d(200, EPS)])
        self.dense = nn.Linear(1506, 200)

    def forward(self, patches: Tensor) -> Tensor:
        """Return features."""
        x = self.norms[0](patches[:, None])
        front = torch.cat([self._layer(k, x).amax(3) for k in range(5)], 1)
        first = self._over_time(5, front)
        second = self._over_time(6, first) + first
        third = self._over_time(7, second) + second
        found = torch.cat([front, first, second, third], 1)
        pooled = torch.stack([found.amax(2), found.mean(2)], 2).flatten(1)
        features: Tensor = self.norms[10](self.dense(self.norms[9](pooled)).relu())
        return features

    def _over_time(self, layer: int, x: Tensor) -> Tensor:
        """Return (B, 64, T) of (B, C, T)."""
        return self._layer(layer, x.transpose(1, 2)[:, None])[..., 0]

    def _layer(self, layer: int, x: Tensor) -> Tensor:
        """Return (B, C, T, F') of (B, 1, T, F), as long as it was."""
        conv = self.convs[layer]
        total = int(conv.kernel_size[0]) - 1  # type: ignore[index]
        found: Tensor = self.norms[layer + 1](conv(F.pad(x, (0, 0, total // 2, total - total // 2))).relu())
        return found


NETWORKS: Mapping[str, type[Vgg] | type[Musicnn]] = {
    "MSD_vgg": Vgg, "MTT_musicnn": Musicnn, "MSD_musicnn": Musicnn, "MTT_vgg": Vgg
}  # fmt: skip
Tensors = Mapping[str, npt.NDArray[np.float32]]


def filled(network: Vgg | Musicnn, tensors: Tensors) -> nn.Module:
    """Put a checkpoint's tensors into a network; raise KeyError or RuntimeError where they do not fit."""
    names = [f"{k + 1}CNN" if isinstance(network, Vgg) else _counted("conv2d", k) for k in range(len(network.convs))]
    state = {}
    for k, name in enumerate(names):
        state[f"convs.{k}.weight"] = torch.tensor(tensors[f"{name}/kernel"]).permute(3, 2, 0, 1)
        state[f"convs.{k}.bias"] = torch.tensor(tensors[f"{name}/bias"])
    for k, _ in enumerate(network.norms):
        name = _counted("batch_normalization", k)
        for ours, theirs in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean")):
            state[f"norms.{k}.{ours}"] = torch.tensor(tensors[f"{name}/{theirs}"])
        state[f"norms.{k}.running_var"] = torch.tensor(tensors[f"{name}/moving_variance"])
        state[f"norms.{k}.num_batches_tracked"] = torch.tensor(0)
    if isinstance(network, Musicnn):
        state["dense.weight"] = torch.tensor(tensors["dense/kernel"]).T
        state["dense.bias"] = torch.tensor(tensors["dense/bias"])
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor from the files of the package musicnn, installed or as a wheel.

    Raises:
        UsageError: no such files, or no such preset.
        DataError: they cannot be read.
    """
    preset = choose_preset("musicnn", options.preset, NETWORKS)
    folder = files_of(options.weights) / preset
    try:
        index, data = (folder / INDEX).read_bytes(), (folder / DATA).read_bytes()
        network = filled(NETWORKS[preset](), read_tensors(index, data))
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"{folder}: no checkpoint of musicnn ({str(error).splitlines()[0]})") from error
    sha = hashlib.sha256(data).hexdigest()
    known = sha == PUBLISHED[preset]
    if not known:
        console.warn(f"{folder}: not the checkpoint of musicnn 0.1.0, so its values compare with nobody's")
    weights = {"file": f"{preset}/{DATA}", "sha256": sha, "published_as": "musicnn 0.1.0" if known else None}
    about = {"extractor": f"musicnn {preset}", "weights": weights, "of": "mean over patches of 3 s"}

    def embed(audio: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"musicnn": network(patches_of(audio)).mean(0)[None].double()}

    feature = Feature("musicnn", "kd_musicnn", "fd_musicnn", "rms", about)
    return Extractor(f"musicnn-{preset}-{sha[:16]}", Audio(RATE, 0.1), embed, [feature], about)


class Folder(Protocol):
    """What a folder and the inside of a .zip have in common."""

    def __truediv__(self, name: str) -> "Folder":
        """Return what lies in it."""

    def read_bytes(self) -> bytes:
        """Return the content of a file."""


def files_of(given: str | None) -> Folder:
    """Return where musicnn's files lie: in the folder or wheel that is given, or where the package is installed."""
    if given is None:
        spec = find_spec("musicnn")
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(HOW)
        return Path(next(iter(spec.submodule_search_locations)))
    path = Path(at_home(given))
    if path.is_dir():
        return path
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: neither a folder nor a wheel of musicnn")
    return zipfile.Path(path, "musicnn/")


def patches_of(audio: Tensor) -> Tensor:
    """Return patches (K, 187, 96) of audio (S,) at 16 kHz, one after another; what is shorter than one is repeated."""
    frames = log_mel(audio)
    if len(frames) < FRAMES:
        frames = frames.repeat(-(-FRAMES // len(frames)), 1)
    count = len(frames) // FRAMES
    return frames[: count * FRAMES].reshape(count, FRAMES, MELS)


def log_mel(audio: Tensor) -> Tensor:
    """Return log10(1 + 10000 power) of mel bands (frames, 96), as librosa computes them, in float32."""
    window = torch.hann_window(N_FFT)
    power = torch.stft(audio, N_FFT, HOP, window=window, pad_mode="reflect", return_complex=True).abs().square()
    filters = AF.melscale_fbanks(N_FFT // 2 + 1, 0.0, RATE / 2, MELS, RATE, norm="slaney", mel_scale="slaney")
    level: Tensor = (1 + 10000 * power.T @ filters).log10()
    return level


def _counted(name: str, k: int) -> str:
    return f"{name}_{k}" if k else name
