"""Clips read by processes of their own: the same clips in the same order, and one line whatever goes wrong there."""

import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cached_toys import Failing, Numbers, content
from torch import Tensor

from mmdisco_cli.cache import layout, workers
from mmdisco_cli.cache.making import complete, make_shards
from mmdisco_cli.cache.reading import open_cache
from mmdisco_cli.cache.workers import Reader, reading, workers_of, worth_starting
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.errors import DataError
from mmdisco_cli.toys.bounce.options import BounceOptions


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_ROWS", 20)
    monkeypatch.setattr(layout, "CHUNK_ROWS", 5)
    monkeypatch.setattr(workers, "FEW", 1)


@pytest.mark.slow
def test_workers_read_what_this_process_would(tmp_path: Path) -> None:
    found = []
    for number in (0, 2):
        data = Numbers(broken=(3, 31))
        make_shards(tmp_path / str(number), content(50, data), workers=number)
        complete(tmp_path / str(number), content(50, data))
        assert bool(data.requested) == (number == 0)
        rows = open_cache(tmp_path / str(number)).rows("train")
        found.append((rows.clips, {m: bank[torch.arange(48)].tolist() for m, bank in rows.latents.items()}))
    assert found[0] == found[1]
    one, other = (sorted((tmp_path / n).rglob("*.safetensors")) for n in ("0", "2"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line_and_keeps_the_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        make_shards(tmp_path / "c", content(60, Numbers(deadly=(47,))), workers=2)
    said = r"a process that reads clips was ended by (Killed|a signal): is memory short\? .*data\.workers"
    assert re.match(said, str(caught.value))
    assert "\n" not in str(caught.value)
    assert [path.name for path in sorted((tmp_path / "c/train").iterdir())][:1] == ["00000000-20.safetensors"]
    after = Numbers()
    make_shards(tmp_path / "c", content(60, after))
    assert after.requested[0] >= 20
    assert complete(tmp_path / "c", content(60, after)).parts["train"].clips == 60


@pytest.mark.slow
def test_what_a_worker_raises_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^KeyError: 'audio'$"):
        make_shards(tmp_path / "c", content(50, Failing()), workers=2)


@pytest.mark.slow
def test_a_worker_that_cannot_begin_is_not_taken_for_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_here = types.ModuleType("known_here_alone")
    known_here.Data = type("Data", (Numbers,), {"__module__": known_here.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, known_here.__name__, known_here)
    with pytest.raises(DataError, match=r"^a process that reads clips ended with exit code 1 .*data\.workers=1\)$"):
        make_shards(tmp_path / "c", content(60, known_here.Data()), workers=2)


def test_what_a_script_defines_is_read_by_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    local = type("Local", (Numbers,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "Local", local, raising=False)
    assert worth_starting(Reader({"": local()}, {"audio": (2,)}), 100, 4) == 0


def test_few_clips_and_what_cannot_be_sent_are_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader({"": Numbers()}, {"audio": (2,)})  # type: ignore[dict-item]
    assert worth_starting(reader, 100, 4) == 4
    assert worth_starting(reader, 1, 4) == 0
    assert worth_starting(reader, 100, 1) == 0
    local = type("Local", (Numbers,), {})
    assert worth_starting(Reader({"": local()}, {"audio": (2,)}), 100, 4) == 0


def test_who_reads_follows_from_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available_cores", lambda: 8)
    assert workers_of(ClipsOptions()) == 8
    assert workers_of(ClipsOptions(workers=3)) == 3
    assert workers_of(BounceOptions()) == workers_of(None) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert workers_of(ClipsOptions()) == 2


def test_a_chunk_with_a_broken_clip_loses_that_alone() -> None:
    reader = Reader({"x": Numbers(broken=(2,))}, {"video": (2,)})  # type: ignore[dict-item]
    with reading(reader, [("x", range(4)), ("x", [2])], 0) as read:
        first, second = read
    assert (first.rows, first.lost) == ([0, 1, 3], [(2, "2.mp4: broken")])
    media: Tensor = first.media["video"]
    assert media[:, 0].tolist() == [0, -1, -3]
    assert (second.rows, second.media, second.lost) == ([], {}, [(2, "2.mp4: broken")])


class Stacked(Numbers):
    """Clip 5 is longer than the others, and a chunk is stacked as plugins stack it."""

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        made = [torch.full((3 if i == 5 else 2,), float(i)) for i in indices]
        return {m: torch.stack(made) for m in modalities}


class Whole(Stacked):
    """Fails at clip 5 in a way that has nothing to do with its neighbours."""

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        if 5 in indices:
            raise ValueError("no such thing")
        return super().media(indices, modalities)


def test_a_clip_of_another_shape_is_left_out_however_it_is_read() -> None:
    reader = Reader({"x": Stacked()}, {"video": (2,)})  # type: ignore[dict-item]
    why = "clip 5: video is (3,), but the model takes (2,)"
    for rows, kept in ([4, 5, 6], [4, 6]), ([5], []):
        read = reader["x", rows]
        assert (read.rows, read.lost) == (kept, [(5, why)])
    assert reader["x", [4, 6]].media["video"].tolist() == [[4, 4], [6, 6]]


def test_an_error_of_the_data_set_itself_is_not_taken_for_a_clip_of_another_shape() -> None:
    with pytest.raises(ValueError, match="no such thing"):
        Reader({"x": Whole()}, {"video": (2,)})["x", [4, 5]]  # type: ignore[dict-item]
