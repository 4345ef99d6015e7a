"""The plugin as mmdisco finds it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.hookspecs import BackboneSpec
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_mmdiffusion.options import MMDiffusionOptions
from mmdisco_mmdiffusion.outline import build

Cli = Callable[..., subprocess.CompletedProcess[str]]


def test_it_describes_one_backbone_of_two_modalities(installed: Path | None) -> None:
    spec = load_registry().find("backbone", "mmdiffusion")
    assert isinstance(spec, BackboneSpec)
    assert spec.modalities == ("audio", "video")
    assert callable(spec.factory())


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, mmdisco_mmdiffusion.plugin; print([m for m in ('torch', 'numpy', 'av') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_it_is_listed(cli: Cli) -> None:
    found = cli("plugins")
    assert found.returncode == 0, found.stderr
    assert "mmdiffusion" in found.stdout
    assert all(name in found.stdout for name in ("mmdiffusion-unet", "mmdiffusion-sr"))
    assert "failed" not in found.stdout


def test_a_prediction_takes_the_operations_that_were_counted_in_the_released_code() -> None:
    backbone = build("film", MMDiffusionOptions(weights="missing"), Request())
    assert round(backbone.operations(backbone.plan(Request())) / 1e9) == 1329
