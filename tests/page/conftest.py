"""A sample of every kind, for the pages that show it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmdisco_cli.data.media import write_mp4, write_wav


def pixels(path: Path) -> Path:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(path)
    return path


@pytest.fixture
def many(tmp_path: Path) -> dict[str, Any]:
    """Write the files of a sample of six modalities, and return its line."""
    pixels(tmp_path / "a-left.png")
    pixels(tmp_path / "a-right.png")
    video = torch.sin(torch.arange(3 * 16 * 32 * 32) / 500).reshape(3, 16, 32, 32)
    write_mp4(tmp_path / "a.mp4", video, torch.sin(torch.arange(25600) / 10)[None], 10, 16000)
    write_wav(tmp_path / "a.wav", torch.sin(torch.arange(4000) / 9)[None], 8000)
    (tmp_path / "a.txt").write_text("<i>seven</i> & more\n")
    save_file({"x": torch.tensor([0.5, -1.25])}, tmp_path / "a.safetensors")
    files = {
        **{"sound": "a.mp4", "clip": "a.mp4", "left": "a-left.png", "right": "a-right.png"},
        **{"noise": "a.wav", "word": "a.txt", "x": "a.safetensors"},
    }
    kinds = {
        **{"sound": "audio", "clip": "video", "left": "image", "right": "image"},
        **{"noise": "audio", "word": "text", "x": "vector"},
    }
    return {"path": "a.mp4", "files": files, "kinds": kinds, "index": 0, "seed": 7, "guided": True}
