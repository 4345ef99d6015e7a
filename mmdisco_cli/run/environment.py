"""The environment of a run: versions, plugins, commit, devices and paths."""

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmdisco_cli import __version__

PACKAGE = Path(__file__).parent.parent
_DISTRIBUTIONS = (
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
    "av",
    "safetensors",
    "typer",
    "rich",
    "pluggy",
    "pyyaml",
)


def versions() -> dict[str, str]:
    """Return the versions of everything that results depend on, without importing any of it."""
    return {
        "mmdisco": __version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in _DISTRIBUTIONS},
    }


def environment(plugins: Mapping[str, str]) -> dict[str, Any]:
    """Return the environment that a run directory stores, as plain data; `plugins` maps each to its status."""
    return {"platform": platform.platform(), "versions": versions(), "plugins": dict(plugins), "commit": commit()}


def commit() -> str | None:
    """Return the commit of a source checkout; None for an installed package."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def devices() -> list[str]:
    """Return every device that torch can use, mmdisco's default first; imports torch, which is slow."""
    import torch

    found = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return [*found, f"cpu with {torch.get_num_threads()} threads"]


def paths(recipes: Path) -> dict[str, str]:
    """Return the paths of the package, its recipes, its weights and new runs."""
    return {
        "package": str(PACKAGE),
        "recipes": str(recipes),
        "weights": str(PACKAGE / "weights"),
        "runs": str(Path("runs").absolute()),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
