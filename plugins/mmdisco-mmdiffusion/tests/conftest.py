"""What several tests need: small networks in real files, and the plugin found by mmdisco, installed or not."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    # Helpers beside the tests are imported by their bare names; what they do is done by us, as in pyproject.toml.
    helpers = {path.stem for path in Path(__file__).parent.rglob("*.py") if not path.stem.startswith("test_")}
    config.addinivalue_line("filterwarnings", f"error:::({'|'.join(sorted(helpers))})$")


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Make the plugin known by its metadata for as long as the tests run; None where it is installed already."""
    if any(point.value == "mmdisco_mmdiffusion.plugin" for point in entry_points(group="mmdisco")):
        return None
    folder = tmp_path_factory.mktemp("site")
    info = folder / "mmdisco_mmdiffusion-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmdisco-mmdiffusion\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[mmdisco]\nmmdiffusion = mmdisco_mmdiffusion.plugin\n")
    sys.path.insert(0, str(folder))
    return folder


@pytest.fixture
def cli(tmp_path: Path, installed: Path | None) -> Cli:
    """Run `mmdisco ARGUMENTS` in an empty folder, with the packages that are under test."""
    import mmdisco_cli
    import mmdisco_mmdiffusion

    homes = [Path(str(package.__file__)).parent.parent for package in (mmdisco_cli, mmdisco_mmdiffusion)]
    paths = [*homes, *([installed] if installed else [])]

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mmdisco_cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment},
            timeout=300,
        )

    return call
