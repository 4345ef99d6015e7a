"""Make this folder's helpers importable, and every result the same on any machine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "diffusion")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread, like the processes that some tests start: another order of sums differs in a bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
