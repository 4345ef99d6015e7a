"""Real digits, few of them: 30 recordings by one speaker, of which ten to train on, and 200 images."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_digits import ASSETS


@pytest.fixture
def spoken() -> Path:
    return ASSETS / "spoken"


@pytest.fixture
def written() -> Path:
    return ASSETS / "written"
