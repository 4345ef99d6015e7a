"""The example keeps every promise of the contract, and is found like any plugin."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.testing import check_backbone
from mmdisco_example import ThereminOptions, mmdisco_backbones
from mmdisco_example.model import build


@pytest.mark.parametrize("seconds", [0.1, 1.6])
def test_it_conforms(seconds):
    check_backbone(build("audio", ThereminOptions(), Request()), Request(seconds=seconds))


def test_what_it_plays_is_what_it_hears():
    backbone = build("audio", ThereminOptions(), Request())
    plan = backbone.plan(Request(seconds=2.0))
    played = torch.randn(8, 2, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 20)
    heard = backbone.encode(backbone.decode(played, plan), plan)
    # Steady tones: a tenth of a second resolves pitch to 5 Hz, and loudness to a few per cent.
    assert (heard - played).abs().max() < 0.12


def test_describing_it_imports_nothing_heavy():
    code = "import sys, mmdisco_example; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_its_description_leads_to_it():
    (spec,) = mmdisco_backbones()
    assert spec.factory() is build
    assert spec.options().pitch == 440


@pytest.mark.skipif(not entry_points(group="mmdisco", name="example"), reason="run from a checkout, not installed")
def test_once_installed_it_is_a_plugin():
    from mmdisco_cli.registry.plugins import load_registry

    assert load_registry().find("backbone", "theremin").modalities == ("audio",)
