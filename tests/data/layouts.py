"""Make tiny data of every layout, with short clips of the tests' assets in them."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdisco_cli.data.clips import ClipsDataset, build
from mmdisco_cli.data.index.losses import Progress
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.diffusion.backbone import Request

ASSETS = sorted((Path(__file__).parent.parent / "assets").glob("*.mp4"))
REQUEST = Request(frames=8, fps=10, height=16, width=24)


def clip(number: int = 0) -> bytes:
    """One of five clips of at least 1.6 s of audio and video."""
    return ASSETS[number].read_bytes()


def put(root: Path, files: Mapping[str, bytes | str | int]) -> Path:
    """Write files by name: bytes, text, or a clip by its number."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return root


def as_bytes(content: bytes | str | int) -> bytes:
    return clip(content) if isinstance(content, int) else content.encode() if isinstance(content, str) else content


def tar(path: Path, files: Mapping[str, bytes | str | int]) -> Path:
    with tarfile.open(path, "w") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(as_bytes(content))
            opened.addfile(info, io.BytesIO(as_bytes(content)))
    return path


def zipped(path: Path, files: Mapping[str, bytes | str | int], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as opened:
        for name, content in files.items():
            opened.writestr(name, as_bytes(content))
    return path


def opened(path: Path | str, progress: Progress | None = None, **options: Any) -> ClipsDataset:
    """Open data as a recipe does, in windows of 0.8 s of which the first of each row is taken."""
    chosen = {"windows": 1, "cache": str(Path(str(path).split("{")[0]).parent / "cache"), **options}
    return build(ClipsOptions(path=str(path), **chosen), REQUEST, sample_rate=8000, progress=progress)


def texts(dataset: ClipsDataset, modality: str = "audio") -> dict[str, str]:
    """The caption of each row by its name."""
    indices = range(len(dataset.windows))
    captions = dataset.captions(indices, [modality])[modality]
    return dict(zip((window.name for window in dataset.windows), captions, strict=True))


def labels(dataset: ClipsDataset) -> dict[str, str]:
    """The label of each row by its name."""
    found = dataset.labels(range(len(dataset.windows)))
    return dict(zip((window.name for window in dataset.windows), found, strict=True))


def heldout(dataset: ClipsDataset) -> set[str]:
    return {window.name for window in dataset.windows if window.heldout}
