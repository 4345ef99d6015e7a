"""A device that is not there ends with its own exit code, a misspelt one with that of usage."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from mmdisco_cli.devices import choose_device, process_mb
from mmdisco_cli.errors import DeviceError, UsageError


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_without_a_gpu_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert choose_device() == choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="no CUDA device at all"):
        choose_device("cuda")


def test_every_local_rank_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device() == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(DeviceError, match=r"cuda:2.*only cuda:0 to cuda:1"):
        choose_device("cuda:2")


def test_mps_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="mps"):
        choose_device("mps")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "coda"])
def test_a_misspelt_device_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        choose_device(name)


PAGED_IN = """
import resource, torch
from mmdisco_cli.devices import keep_large_blocks
{before}
torch.zeros(48 * 2**20, dtype=torch.uint8)
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(40 * 2**20, dtype=torch.uint8)  # smaller, for glibc seldom finds room for what it aligns where the same lay
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_large_blocks_are_paged_in_once_where_they_are_kept() -> None:
    def faults(before: str) -> int:
        # In a process of its own, for there is no way back.
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "THP_"))}
        code = PAGED_IN.format(before=before)
        return int(subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, check=True).stdout)

    pages = 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert faults("keep_large_blocks()") < pages / 10 < faults("")


OCCUPIED = """
import torch
from mmdisco_cli.devices import process_mb

before = process_mb(torch.device("cpu"))["process_mb"]
block = torch.ones(200 * 10**6, dtype=torch.uint8)
print(before, process_mb(torch.device("cpu"))["process_mb"])
"""


def test_a_process_says_what_it_occupies() -> None:
    assert process_mb(torch.device("cuda")) == {}
    if platform.system() == "Linux":
        # In a process of its own: one that has freed as much before may take the block from there.
        done = subprocess.run([sys.executable, "-c", OCCUPIED], capture_output=True, check=True)
        before, after = map(int, done.stdout.split())
        assert before % 10 == 0
        assert after >= before + 150
