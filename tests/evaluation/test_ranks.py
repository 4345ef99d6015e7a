"""Several processes under torchrun find what one process finds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmdisco_cli

ROOT = Path(mmdisco_cli.__file__).parent.parent
ASSETS = Path(__file__).parent.parent / "assets"


def evaluated(folder, *launcher):
    command = [sys.executable, *launcher, "mmdisco_cli", "eval", "--samples", "videos", "--reference", str(ASSETS)]
    done = subprocess.run(
        [*command, "--out", f"out-{len(launcher)}", "--cache", f"cache-{len(launcher)}", "--max-bad", "0.5", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(tmp_path):
    (tmp_path / "videos").mkdir()
    for path in ASSETS.glob("*.mp4"):
        shutil.copy(path, tmp_path / "videos" / path.name)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    one = evaluated(tmp_path, "-m")
    two = evaluated(tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--")
    assert one == two
    assert one["metrics"]["health"]["samples"]["unusable"] == 1
