"""What was learnt of files is remembered by path, size and time of change; what changed is looked at again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dying_workers import kill_always, kill_once
from layouts import clip, opened, put, tar

from mmdisco_cli.data.index import probes
from mmdisco_cli.data.index.memory import Memory, Stamp
from mmdisco_cli.data.source import Source, Stretch, digest_of, open_source
from mmdisco_cli.errors import DataError


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of media that are probed in this process."""
    names: list[str] = []
    real = probes.probe

    def counting(source: Source) -> object:
        names.append(Path(os.fspath(source)).name)
        return real(source)

    monkeypatch.setattr(probes, "probe", counting)
    return names


def test_a_second_start_probes_nothing(tmp_path: Path, probed: list[str]) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "b.mp4": 1, "a.txt": "one"})
    first = opened(root)
    assert sorted(probed) == ["a.mp4", "b.mp4"]
    probed.clear()
    second = opened(root)
    assert probed == []
    assert [w.info for w in second.windows] == [w.info for w in first.windows]
    assert (second.fingerprint, second.report) == (first.fingerprint, first.report)


def test_a_second_start_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "still.mp4": 3})
    first = opened(root)
    assert any("silent" in line for line in first.report)
    monkeypatch.setattr("mmdisco_cli.data.windows.WindowStore.load", lambda *_: pytest.fail("decoded"))
    assert opened(root).report == first.report


def test_only_what_changed_is_probed_again(tmp_path: Path, probed: list[str]) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "b.mp4": 1})
    first = opened(root)
    probed.clear()
    put(root, {"b.mp4": 2, "c.mp4": 4})
    changed = opened(root)
    assert sorted(probed) == ["b.mp4", "c.mp4"]
    assert changed.fingerprint != first.fingerprint
    probed.clear()
    os.utime(root / "a.mp4", ns=(0, 0))
    assert opened(root).fingerprint == changed.fingerprint
    assert probed == ["a.mp4"]


def test_an_interrupted_opening_keeps_what_it_found(tmp_path: Path, probed: list[str]) -> None:
    root = put(tmp_path / "d", {f"{i:02d}.mp4": i % 5 for i in range(20)})

    def stop(done: int, total: int) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(root, progress=stop, check=0)
    first = len(probed)
    assert len(opened(root, check=0).windows) == 20
    assert (len(probed), len(set(probed))) == (20, 20)
    assert 10 <= first < 20


def test_captions_are_read_at_every_start(tmp_path: Path, probed: list[str]) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "a.txt": "one"})
    opened(root)
    probed.clear()
    put(root, {"a.txt": "two"})
    assert opened(root).captions([0], ["audio"]) == {"audio": ["two"]}
    assert probed == []


def test_members_of_tars_are_remembered(tmp_path: Path, probed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "x.tar", {"0.mp4": 0, "0.txt": "one"})
    first = opened(path)
    probed.clear()
    monkeypatch.setattr("tarfile.open", lambda *_: pytest.fail("read again"))
    assert opened(path).fingerprint == first.fingerprint
    assert probed == []


def test_what_failed_is_tried_again(tmp_path: Path, probed: list[str]) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "b.mp4": b"no clip"})
    opened(root, max_bad=1.0)
    probed.clear()
    opened(root, max_bad=1.0)
    assert probed == ["b.mp4"]


@pytest.mark.parametrize("spoilt", ["no folder", "no database", "full"])
def test_without_a_place_to_remember_in_all_is_only_slower(tmp_path: Path, spoilt: str, largest_file) -> None:
    root, cache = put(tmp_path / "d", {"a.mp4": 0}), tmp_path / "cache"
    if spoilt == "no folder":
        cache.write_text("in the way")
    elif spoilt == "no database":
        put(cache, {"media-1.sqlite": "no database at all, but long enough to be one" * 100})
    with largest_file(0 if spoilt == "full" else 1 << 40):
        data = opened(root)
    assert len(data.windows) == 1
    assert any(line.startswith(f"note data.cache: nothing can be remembered in {cache}") for line in data.report)


def test_workers_find_what_one_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FEW", 2)
    files: dict[str, bytes | str | int] = {f"{i}.mp4": i % 5 for i in range(20)}
    root = put(tmp_path / "d", files | {"bad.mp4": b"no clip"})
    alone = opened(root, workers=1, max_bad=1.0, check=0)
    shared = opened(root, workers=2, max_bad=1.0, check=0, cache=str(tmp_path / "other"))
    assert (alone.fingerprint, alone.report) == (shared.fingerprint, shared.report)


def test_a_script_without_a_guard_is_not_run_again_by_workers(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {f"{i:03d}.mp4": i % 5 for i in range(70)})
    script = tmp_path / "script.py"
    script.write_text(
        "from layouts import opened\nprint('begun', flush=True)\n"
        f"print(len(opened({str(root)!r}, workers=2, check=0).windows))\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.stdout.split(), done.returncode) == (["begun", "70"], 0), done.stderr


def test_a_killed_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FEW", 2)
    monkeypatch.setattr(probes, "_probe_chunk", kill_once)
    root = put(tmp_path / "d", {f"{i}.mp4": i % 5 for i in range(20)})
    assert len(opened(root, workers=2, check=0).windows) == 20
    assert (root / "killed").exists()


def test_workers_killed_again_and_again_end_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "FEW", 2)
    monkeypatch.setattr(probes, "_probe_chunk", kill_always)
    root = put(tmp_path / "d", {f"{i}.mp4": i % 5 for i in range(3)})
    with pytest.raises(DataError, match="processes that read media were killed 3 times") as raised:
        opened(root, workers=2, check=0)
    assert "\n" not in str(raised.value)


def test_the_memory_is_keyed_by_stamp(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.remember([(b"a", Stamp(1, 2), ["x"])])
    assert memory.recall({b"a": Stamp(1, 2)}) == {b"a": ["x"]}
    assert memory.recall({b"a": Stamp(1, 3)}) == memory.recall({b"a": Stamp(2, 2)}) == {}
    assert Memory(None).recall({b"a": Stamp(1, 2)}) == {}


def test_a_stretch_of_a_file_reads_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789" + clip(0) + b"9876543210")
    part = Stretch(str(tmp_path / "x"), "clip", 10, len(clip(0)))
    with open_source(part) as file:
        assert file.read() == clip(0)
        assert (file.seek(-4, os.SEEK_END), file.read(99)) == (len(clip(0)) - 4, clip(0)[-4:])
        assert (file.seek(2), file.seek(3, os.SEEK_CUR), file.tell(), file.read(2)) == (2, 5, 5, clip(0)[5:7])
    (tmp_path / "y").write_bytes(clip(0))
    assert digest_of(part) == digest_of(str(tmp_path / "y"))
