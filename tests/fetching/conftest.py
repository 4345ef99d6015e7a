"""Let the tests of fetching import the servers and the models that stand in for those of others."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
for folder in (TESTS / "fetching", TESTS / "released", TESTS / "sampling"):
    sys.path.insert(0, str(folder))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["object"]:
    """Run a hub on loopback, and let the hub's library use it and an empty cache."""
    from servers import Hub, serving

    with serving(Hub()) as server:
        server.redirect(monkeypatch, tmp_path / "hub cache")
        yield server


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator["object"]:
    """Run a Google Drive on loopback, and let gdown use it."""
    pytest.importorskip("gdown")
    from servers import Drive, serving

    with serving(Drive()) as server:
        server.redirect(monkeypatch)
        yield server
