"""What several tests need: a command line in a process of its own, plugins made on the spot, a disk that is full."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives a headless Chromium, and is skipped where there is none")
    # Helpers beside the tests are imported by their bare names; what they do is done by us, as in pyproject.toml.
    helpers = {path.stem for path in Path(__file__).parent.rglob("*.py") if not path.stem.startswith("test_")}
    config.addinivalue_line("filterwarnings", f"error:::({'|'.join(sorted(helpers))})$")


Cli = Callable[..., subprocess.CompletedProcess[str]]
MakePlugin = Callable[..., None]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `mmdisco ARGUMENTS` in an empty folder, with the package that is under test."""
    import mmdisco_cli

    source = str(Path(mmdisco_cli.__file__).parent.parent)

    def call(*arguments: str, path: tuple[Path, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([source, *map(str, path)])
        return subprocess.run(
            [sys.executable, "-m", "mmdisco_cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            timeout=120,
        )

    return call


@pytest.fixture
def hangup_counts() -> Iterator[None]:
    """Let SIGHUP do what it does in a terminal, though the tests themselves may have been started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with no rank of torchrun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the small models that evaluation is tested on, made once for all rooms that use them."""
    from small_models import make_models  # beside the tests of evaluation, whose folder such rooms put on the path

    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    return folder


@pytest.fixture
def make_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlugin:
    """Install a distribution with one module and one entry point, for this process alone."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(distribution: str, body: str, version: str = "1.0") -> None:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(body)
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mmdisco]\n{module} = {module}\n")
        # Another test may have used the name for another file.
        monkeypatch.delitem(sys.modules, module, raising=False)

    return make


@pytest.fixture
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Let the system refuse to write files above a number of bytes within a block, as a full disk would."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(autouse=True, scope="session")
def _own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered of files out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield
