"""The plugin is found like any other, keeps every contract, and joins its two models."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import mmdisco_example
from mmdisco_cli.hookspecs import ProtocolSpec

HOOKS = [hook for name, hook in vars(mmdisco_example).items() if name.startswith("mmdisco_")]
SPECS = [spec for hook in HOOKS for spec in hook()]


def test_describing_it_imports_nothing_heavy():
    code = "import sys, mmdisco_example; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_describes_an_entry_of_each_kind_that_it_shows():
    names = [(type(spec).__name__.removesuffix("Spec").lower(), spec.name) for spec in SPECS]
    assert names == [
        ("backbone", "theremin"),
        ("backbone", "hand"),
        ("backbone", "slope"),
        ("dataset", "melodies"),
        ("discriminator", "duet"),
        ("extractor", "notes"),
        ("protocol", "duet"),
    ]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_description_leads_to_its_build(spec):
    assert spec.factory().__name__ == "build"
    assert isinstance(spec, ProtocolSpec) or spec.options() == spec.options()


INSTALLED = any(point.value == "mmdisco_example" for point in entry_points(group="mmdisco"))


@pytest.mark.skipif(not INSTALLED, reason="run from a checkout, not installed")
def test_once_installed_it_is_a_plugin():
    from mmdisco_cli.registry.plugins import load_registry

    # By the whole name: a copy stands beside what it was copied from until its entries have names of their own.
    assert load_registry().find("backbone", "mmdisco-example:theremin").modalities == ("audio",)
    assert load_registry().find("protocol", "mmdisco-example:duet").owner.startswith("mmdisco-example")
