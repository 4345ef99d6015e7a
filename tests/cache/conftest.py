"""Make this folder's helpers importable, here and in processes of their own, and every result the same."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "training"), str(HERE.parent / "data")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread, like the processes that some tests start."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
