"""Tiny pipelines shared by all tests, a network out of reach, and warnings of calls laid to whoever calls."""

import inspect
import re
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

HELPERS = {path.stem for path in Path(__file__).parent.rglob("*.py") if not path.stem.startswith("test_")}
OURS = re.compile(rf"mmdisco_|tests\.|({'|'.join(sorted(HELPERS))})$")


def pytest_configure(config):
    # Helpers beside the tests are imported by their bare names; what they do is done by us, as in pyproject.toml.
    config.addinivalue_line("filterwarnings", f"error:::({'|'.join(sorted(HELPERS))})$")


def passes_on(frame):
    """Whether a frame is of a decorator, or of torch's call of `forward`: its caller is who chose the arguments."""
    both = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    decorates = frame.f_code.co_freevars or frame.f_globals.get("__name__") == "torch.nn.modules.module"
    return frame.f_code.co_flags & both == both and decorates


class CalledByUs:
    """Stands for the pattern of a warning filter: a line that passes a call on counts as the line that calls."""

    def match(self, module):
        frame = sys._getframe(1)
        while frame and frame.f_globals.get("__name__") != module:
            frame = frame.f_back
        while frame and passes_on(frame):
            frame = frame.f_back
        return frame and OURS.match(frame.f_globals.get("__name__", ""))


@pytest.fixture(autouse=True)
def calls_are_laid_to_their_callers():
    warnings.filters.insert(0, ("error", None, Warning, CalledByUs(), 0))
    # Makes the change known; pytest takes both back after the test.
    warnings.filterwarnings("error", module="nobody")


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
