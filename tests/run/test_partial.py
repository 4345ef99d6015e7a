"""Temporary files: what a kill has left goes, what anybody may still be writing stays."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdisco_cli.run import partial
from mmdisco_cli.run.files import replacing

WRITER = """
import sys
from pathlib import Path
from mmdisco_cli.run.partial import begin
part = begin(Path(sys.argv[1]))
part.write_bytes(b"half of it")
print(part.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def sweeps_again() -> Iterator[None]:
    partial.sweep.cache_clear()
    yield
    partial.sweep.cache_clear()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(target: Path, text: str = "whole") -> None:
    partial.sweep.cache_clear()
    with replacing(target) as part:
        part.write_text(text)


def test_what_a_killed_process_left_goes_and_what_a_live_one_writes_stays(tmp_path: Path) -> None:
    source = str(Path(partial.__file__).parents[2])
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": source}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        write(tmp_path / "a")
        assert left(tmp_path) == {"a", name}
        other.kill()
    write(tmp_path / "a")
    assert left(tmp_path) == {"a"}


@pytest.mark.parametrize("name", [".mmdisco-0123abcd-1-d295d0a0.part", ".mmdisco-14276-d295d0a0.part"])
def test_what_comes_from_elsewhere_stays_for_a_day(tmp_path: Path, name: str) -> None:
    part = tmp_path / name
    part.touch()
    write(tmp_path / "a")
    assert left(tmp_path) == {"a", name}
    yesterday = time.time() - partial.DAY - 60
    os.utime(part, (yesterday, yesterday))
    write(tmp_path / "a")
    assert left(tmp_path) == {"a"}


def test_what_an_earlier_process_of_the_same_number_left_goes(tmp_path: Path) -> None:
    """As in a container that is started again, where everyone is process 1."""
    with replacing(tmp_path / "b") as ours:
        ours.touch()
        earlier = ours.with_name(ours.name[:-13] + "00000000.part")
        earlier.touch()
        write(tmp_path / "a")
        assert left(tmp_path) == {"a", ours.name}
    assert left(tmp_path) == {"a", "b"}


def test_other_names_are_not_ours_to_remove(tmp_path: Path) -> None:
    names = {"video.mp4.part", ".mmdisco-x.part", ".mmdisco-1-d295d0a0.partial"}
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    write(tmp_path / "a")
    assert left(tmp_path) == {"a", *names}


def test_two_that_write_one_target_leave_the_last_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as first:
        first.write_text("first")
        write(tmp_path / "a", "second")
        assert (tmp_path / "a").read_text() == "second"
    assert (tmp_path / "a").read_text() == "first"
    assert left(tmp_path) == {"a"}


def test_a_folder_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(folder) or scan(folder))
    for name in "abc":
        with replacing(tmp_path / name) as part:
            part.touch()
    assert seen == [tmp_path]
