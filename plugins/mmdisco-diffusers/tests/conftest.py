"""Tiny pipelines shared by all tests, a network out of reach, and what foreign packages are known to warn of."""

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

KNOWN_WARNINGS = (
    "ignore:.*torch.nn.utils.weight_norm.*is deprecated:FutureWarning",
    "ignore:.*torch.jit.*:DeprecationWarning",
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore:In CPU autocast, but the target dtype is not supported:UserWarning",  # Mochi switches autocast off
    "ignore:Should have t[ab][<>]=t[01]:UserWarning",  # Stable Audio's own solver, by rounding
)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for known in KNOWN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(known))


@pytest.fixture(autouse=True)
def offline():
    from mmdisco_cli.testing import no_network

    with no_network():
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    # Threads of tiny operators wait for one another: with two cores in use that is a hundred times slower.
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def installed(tmp_path_factory):
    """Make the plugin known by its metadata where it is only on the path."""
    if any(point.value == "mmdisco_diffusers" for point in entry_points(group="mmdisco")):
        return
    folder = tmp_path_factory.mktemp("site")
    info = folder / "mmdisco_diffusers-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmdisco-diffusers\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[mmdisco]\ndiffusers = mmdisco_diffusers\n")
    sys.path.insert(0, str(folder))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Return a function from a family's name to the folder of its tiny pipeline, made once."""
    import tiny

    folder, made = tmp_path_factory.mktemp("models"), {}

    def model(family: str) -> Path:
        if family not in made:
            made[family] = tiny.make(family, folder)
        return made[family]

    return model


@pytest.fixture(scope="session")
def backbone(models):
    """Return a function from a family's name to its loaded backbone, made once."""
    from mmdisco_cli.diffusion.backbone import Request
    from mmdisco_diffusers import mmdisco_backbones

    specs, made = {spec.name: spec for spec in mmdisco_backbones()}, {}

    def build(family: str, **options):
        key = (family, tuple(options.items()))
        if key not in made:
            spec = specs[family]
            made[key] = spec.factory()(spec.modalities[0], spec.options(path=str(models(family)), **options), Request())
        return made[key]

    return build
