"""Let the tests of evaluation import the small models that stand beside them, and make those once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
for folder in ("data", "measures"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    from small_models import make_models

    folder = tmp_path_factory.mktemp("models")
    make_models(folder)
    return folder
