"""Frechet and kernel video distance: clips as publications prepare them, and I3D from any of its published files.

Unterthiner et al. (2018). Weights are a state dict, the TorchScript of StyleGAN-V, which brings its own network, or the
TensorFlow checkpoint that all of them were made from.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.errors import DataError
from mmdisco_cli.extractors.contract import Extractor, Frame, Frames
from mmdisco_cli.extractors.i3d import I3D
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.tf_checkpoint import DATA, INDEX, read_tensors
from mmdisco_cli.extractors.weights import choose_preset, fill, fill_from, identify, require_file
from mmdisco_cli.measures.distances import Feature

SIDE = 224
LEAST = 9
"""Frames below which the network's last pooling has nothing left."""
NORMS = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def letterboxed(frame: Frame, side: int = 64) -> Tensor:
    """Fit a frame (H, W, 3), blue first, into a square with black bars, red first, as MM-Diffusion's loader does.

    Bicubic without smoothing, sizes rounded down, and the grey levels that its way to [-1, 1] and back cuts off.
    """
    rows, columns = frame.shape[:2]
    scale = min(side / rows, side / columns)
    height, width = max(1, int(rows * scale)), max(1, int(columns * scale))
    tensor = red_first(frame)[None].float()
    small = F.interpolate(tensor, (height, width), mode="bicubic", align_corners=False).clamp(0, 255).round()[0]
    kept = ((small / 127.5 - 1 + 1) * 127.5).clamp(0, 255).floor()
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(kept, (left, side - width - left, top, side - height - top))


def red_first(frame: Frame) -> Tensor:
    """Return (3, H, W), uint8, red first."""
    return torch.from_numpy(frame[:, :, ::-1].copy()).permute(2, 0, 1)


def enlarged(frame: Frame, *, boxed: bool) -> Tensor:
    """Return (3, 224, 224) in [-1, 1], red first, bilinear without regard to aspect."""
    tensor = letterboxed(frame) if boxed else red_first(frame).float()
    return F.interpolate(tensor[None], (SIDE, SIDE), mode="bilinear", align_corners=False)[0] / 127.5 - 1


def legacy(frame: Frame) -> Tensor:
    """Return the same with TensorFlow 1's bilinear rule, whose samples lie at i * scale, not at pixel centres."""
    tensor = red_first(frame).float()
    for axis in (1, 2):
        size = tensor.shape[axis]
        place = torch.arange(SIDE) * (size / SIDE)
        low = place.long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        mix = (place - low).reshape(-1, 1) if axis == 1 else place - low
        tensor = tensor.index_select(axis, low) * (1 - mix) + tensor.index_select(axis, high) * mix
    return tensor / 127.5 - 1


EPS = {"mm-diffusion": 1e-5}
PRESETS = {
    "mm-diffusion": Frames(partial(enlarged, boxed=True), Fraction(10), 16, LEAST),
    "styleganv": Frames(partial(enlarged, boxed=False), None, 16, LEAST),
    "google": Frames(legacy, None, None, LEAST),
}


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor of FVD and KVD from a file of weights.

    Raises:
        UsageError: no file, or no such preset.
        DataError: the file does not fit.
    """
    preset = choose_preset("fvd", options.preset, PRESETS)
    path = require_file("fvd", options.weights)
    about = {"extractor": "I3D, RGB, Kinetics-400", "preset": preset, "weights": identify(path)}
    network = load(path, EPS.get(preset, 1e-3))

    def embed(frames: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"fvd": network(frames.transpose(0, 1)[None]).double()}

    name = f"i3d-{preset}-{about['weights']['sha256'][:16]}"  # type: ignore[index]
    compat = {preset: 1.0} if preset == "mm-diffusion" else {}
    feature = Feature("fvd", "kvd", "fvd", "none", about, compat=compat)
    return Extractor(name, PRESETS[preset], embed, [feature], about)


def load(path: Path, eps: float) -> nn.Module:
    """Return the network with the weights of a file of any kind; raise DataError where they do not fit."""
    if path.name.endswith((DATA, INDEX)):
        stem = str(path).removesuffix(DATA).removesuffix(INDEX)
        try:
            tensors = read_tensors(Path(stem + INDEX).read_bytes(), Path(stem + DATA).read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: no TensorFlow checkpoint ({error})") from error
        return fill_from(I3D(eps), from_tensorflow(tensors), path)
    return _Scripted(_scripted(path)) if _is_script(path) else fill(I3D(eps), path)


def _is_script(path: Path) -> bool:
    """Return whether a file is TorchScript, which unlike tensors alone has constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _scripted(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the published file is in no newer format
        try:
            loaded: nn.Module = torch.jit.load(str(path), map_location="cpu")
        except RuntimeError as error:
            raise DataError(f"{path}: TorchScript that cannot be loaded") from error
    return loaded.eval()


class _Scripted(nn.Module):
    """StyleGAN-V's file, called for features of frames that are scaled and sized already."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x, rescale=False, resize=False, return_features=True)
        return found


def from_tensorflow(tensors: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Tensor]:
    """Return the tensors of rgb_scratch under the names of `I3D`; its batch norms have no factor, so that it is 1."""
    found: dict[str, Tensor] = {}
    for name, array in tensors.items():
        *layer, part = re.sub(r"^.*inception_i3d/", "", name).split("/")
        ours = _layer(layer[:-1])
        if part == "w":
            found[f"{ours}.conv3d.weight"] = torch.tensor(array).permute(4, 3, 0, 1, 2)
        elif part == "b":
            found[f"{ours}.conv3d.bias"] = torch.tensor(array)
        elif part in NORMS:
            found[f"{ours}.bn.{NORMS[part]}"] = torch.tensor(array).flatten()
            found[f"{ours}.bn.weight"] = torch.ones(array.size)
            found[f"{ours}.bn.num_batches_tracked"] = torch.tensor(0)
    return found


def _layer(names: list[str]) -> str:
    if len(names) < 3:
        return "logits" if names[:1] == ["Logits"] else ".".join(names)
    block, branch, unit = names[0], names[1][-1], names[2]
    # Of the four branches the inner two have two convolutions, 1x1 and 3x3; the last one's follows a pooling.
    second = {"0": "", "3": "b"}.get(branch, "b" if unit.endswith("3x3") else "a")
    return f"{block}.b{branch}{second}"
