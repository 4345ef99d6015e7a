"""Shards of latents: all modalities of the same clips, made once, by many, whole or not at all, and read by mapping."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from cached_toys import Numbers, content, encode
from torch import Tensor

from mmdisco_cli.cache import layout
from mmdisco_cli.cache.content import Content
from mmdisco_cli.cache.dataset import CachedData
from mmdisco_cli.cache.making import complete, is_complete, left_to_make, make_shards, skipped_lines
from mmdisco_cli.cache.reading import Rows, open_cache
from mmdisco_cli.errors import DataError
from mmdisco_cli.run import partial


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_ROWS", 8)


def made(folder: Path, wanted: Content, **options: object) -> Rows:
    """Make a cache as one process does, and read it."""
    if not is_complete(folder, wanted):
        make_shards(folder, wanted, **options)  # type: ignore[arg-type]
        complete(folder, wanted)
    return open_cache(folder).rows("train", wanted.parts["train"].count)


def everything(rows: Rows) -> dict[str, Tensor]:
    return {m: bank[torch.arange(len(bank))] for m, bank in rows.latents.items()}


def test_latents_are_those_of_a_direct_encoding_in_half_precision(tmp_path: Path) -> None:
    data = Numbers()
    rows = made(tmp_path / "c", content(20, data))
    direct = encode(data.media(range(20), ("audio", "video")))
    assert rows.clips == list(range(20))
    for m, bank in rows.latents.items():
        assert len(bank) == 20
        assert torch.equal(everything(rows)[m], direct[m].half())
        some = torch.tensor([19, 0, 7, 8, 8, 3, 15])
        assert torch.equal(bank[some], direct[m].half()[some])
    assert sorted(p.name for p in (tmp_path / "c/train").iterdir()) == [
        "00000000-8.safetensors", "00000008-8.safetensors", "00000016-4.safetensors",
    ]  # fmt: skip


def test_each_clip_is_read_once_for_all_modalities_and_never_again(tmp_path: Path) -> None:
    data, again = Numbers(), Numbers()
    made(tmp_path / "c", content(20, data))
    assert data.requested == list(range(20))
    made(tmp_path / "c", content(20, again))
    assert again.requested == []


def test_a_larger_cache_only_adds_and_a_smaller_one_is_a_part(tmp_path: Path) -> None:
    made(tmp_path / "c", content(16, Numbers()))
    more, less = Numbers(), Numbers()
    assert len(made(tmp_path / "c", content(24, more)).clips) == 24
    assert more.requested == list(range(16, 24))
    rows = made(tmp_path / "c", content(11, less))
    assert rows.clips == list(range(11))
    assert {len(bank) for bank in rows.latents.values()} == {11}
    assert less.requested == []


def test_a_data_set_that_ends_gives_what_it_has(tmp_path: Path) -> None:
    assert len(made(tmp_path / "c", content(20, Numbers(length=11))).clips) == 11


def test_an_interruption_costs_at_most_a_shard(tmp_path: Path) -> None:
    def killed(media: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if media["audio"].max() > 15:
            raise KeyboardInterrupt
        return encode(media)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "c", content(20, Numbers(), encode=killed))
    with pytest.raises(DataError, match="half made"):
        open_cache(tmp_path / "c")
    after = Numbers()
    rows = made(tmp_path / "c", content(20, after))
    assert after.requested == [16, 17, 18, 19]
    assert torch.equal(everything(rows)["audio"], everything(made(tmp_path / "d", content(20, Numbers())))["audio"])


def test_a_full_disk_keeps_what_is_whole(tmp_path: Path, largest_file) -> None:  # type: ignore[no-untyped-def]
    made(tmp_path / "c", content(8, Numbers()))
    with largest_file(100), pytest.raises(DataError, match=r"00000008-8\.safetensors: cannot write"):
        make_shards(tmp_path / "c", content(24, Numbers()))
    left = sorted(path.name for path in (tmp_path / "c").rglob("*") if path.is_file())
    assert left == ["00000000-8.safetensors", "cache.json", "key.json"]
    after = Numbers()
    assert len(made(tmp_path / "c", content(24, after)).clips) == 24
    assert after.requested == list(range(8, 24))


def test_processes_share_the_shards_out(tmp_path: Path) -> None:
    all_of_them = Numbers()
    for number in range(3):
        share = Numbers(requested=all_of_them.requested)
        before = len(share.requested)
        make_shards(tmp_path / "c", content(23, share), (number, 3))
        assert len(share.requested) - before == (8, 8, 7)[number]
        assert left_to_make(tmp_path / "c", content(23, share)) == (2 - number, 3)
    assert sorted(all_of_them.requested) == list(range(23))
    complete(tmp_path / "c", content(23, Numbers()))
    assert everything(open_cache(tmp_path / "c").rows("train"))["video"][:, 0].tolist() == pytest.approx(
        [0.1 - i for i in range(23)], abs=0.02
    )


def test_a_broken_clip_costs_its_own_row(tmp_path: Path) -> None:
    data = Numbers(broken=(3, 12), said=True)
    rows = made(tmp_path / "c", content(20, data))
    assert rows.clips == [i for i in range(20) if i not in (3, 12)]
    assert torch.equal(everything(rows)["audio"][:, 0], (torch.tensor(rows.clips) + 0.1).half())
    cache = open_cache(tmp_path / "c")
    assert skipped_lines(cache.manifest) == ["skipped 3.mp4: broken", "skipped 12.mp4: broken"]
    assert cache.texts_of("train")["video"][rows.clips[3]] == "video 2"
    assert len(cache.rows("train", 5).clips) == 4


def test_too_many_broken_clips_stop_it_and_say_why(tmp_path: Path) -> None:
    data = Numbers(broken=tuple(range(10, 20)))
    with pytest.raises(
        DataError,
        match=r"^6 of 24 clips cannot be read, more than data.max_bad=0.2 allows \(6x broken, as of 10\.mp4\)",
    ):
        made(tmp_path / "c", content(24, data, max_bad=0.2), report=lambda done, of: None)


def test_shares_that_lose_little_each_may_lose_too_much_together(tmp_path: Path) -> None:
    wanted = content(24, Numbers(broken=(1, 9, 17)), max_bad=0.1)
    for number in range(3):
        make_shards(tmp_path / "c", wanted, (number, 3))
    with pytest.raises(DataError, match="3 of 24 clips cannot be read"):
        complete(tmp_path / "c", wanted)
    assert not (tmp_path / "c/cache.json").exists()


def test_latents_beyond_half_precision_are_lost_and_not_kept(tmp_path: Path) -> None:
    def large(media: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: torch.where(x.abs() == 5, 1e9, x) for m, x in media.items()}

    rows = made(tmp_path / "c", content(10, Numbers(), encode=large))
    assert rows.clips == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert skipped_lines(open_cache(tmp_path / "c").manifest) == ["skipped clip 5: its latents are not finite"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"data": Numbers(), "model": "other"}, "other models"),
        ({"data": Numbers(fingerprint="others")}, "other clips"),
        ({"data": Numbers(length=20, said=True)}, "other captions"),
    ],
)
def test_a_folder_of_another_cache_is_refused(tmp_path: Path, found: dict[str, object], said: str) -> None:
    made(tmp_path / "c", content(20, Numbers(length=20)))
    with pytest.raises(DataError, match=f"a cache of {said} .*; choose another folder, or delete this one"):
        make_shards(tmp_path / "c", content(20, **found))  # type: ignore[arg-type]


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(DataError, match=r"holds other things \(holiday\.mp4\), and no cache"):
        make_shards(tmp_path, content(20, Numbers()))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.*cannot write"):
        make_shards(tmp_path / "file", content(20, Numbers()))


@pytest.mark.parametrize("how", ["cut", "emptied", "scrambled"])
def test_a_damaged_shard_is_named(tmp_path: Path, how: str) -> None:
    made(tmp_path / "c", content(20, Numbers()))
    damaged = sorted((tmp_path / "c/train").iterdir())[1]
    content_of = damaged.read_bytes()
    damaged.write_bytes({"cut": content_of[:-3], "emptied": b"", "scrambled": b"\xff" * len(content_of)}[how])
    with pytest.raises(DataError, match=f"{damaged.name}: not a readable shard"):
        open_cache(tmp_path / "c").rows("train")
    damaged.unlink()
    with pytest.raises(DataError, match=f"{damaged.name}: no such shard"):
        open_cache(tmp_path / "c").rows("train")
    again = Numbers()
    assert len(made(tmp_path / "c", content(20, again)).clips) == 20
    assert again.requested == list(range(8, 16))


def test_what_a_killed_run_left_beside_a_shard_is_removed(tmp_path: Path) -> None:
    made(tmp_path / "c", content(8, Numbers()))
    partial.sweep.cache_clear()
    left = tmp_path / "c/train/.mmdisco-1-00000000.part"
    left.touch()
    os.utime(left, (0, 0))
    made(tmp_path / "c", content(24, Numbers()))
    assert not left.exists()


def test_progress_counts_what_is_there_and_may_stop_it(tmp_path: Path) -> None:
    make_shards(tmp_path / "c", content(8, Numbers()))
    seen: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shards(tmp_path / "c", content(20, Numbers()), report=report)
    assert seen == [(16, 20)]
    assert left_to_make(tmp_path / "c", content(20, Numbers())) == (1, 3)


def test_the_size_of_a_shard_follows_that_of_a_latent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_ROWS", 512)
    assert layout.rows_a_shard({"audio": (8, 16, 64)}) == 512
    assert layout.rows_a_shard({"video": (16, 21, 60, 104)}) == 64  # of Wan: 4.2 MB each
    assert layout.rows_a_shard({"video": (1 << 30,)}) == 1
    assert layout.rows_a_chunk({"video": (3, 81, 480, 832)}) == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux says it")
def test_reading_all_rows_leaves_no_memory_behind(tmp_path: Path) -> None:
    from mmdisco_cli.cache.mapped import MappedTensor, Mappings, read_shard
    from mmdisco_cli.weights_file import write_tensors

    paths = [tmp_path / f"{k}.safetensors" for k in range(8)]
    for path in paths:
        write_tensors(path, {"x": torch.zeros(1024, 8192, dtype=torch.float16)})  # 16 MB each

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    bank = MappedTensor([read_shard(path) for path in paths], "x", Mappings())
    bank[torch.tensor([0])]
    before = resident()
    for rows in torch.randperm(len(bank)).split(64):
        bank[rows]
    assert resident() - before < 40e6  # of 134 MB that were read


def test_the_manifest_is_plain_and_complete(tmp_path: Path) -> None:
    made(tmp_path / "c", content(6, Numbers(length=6, said=True)))
    found = json.loads((tmp_path / "c/cache.json").read_text())
    assert found["format"] == layout.FORMAT
    assert found["key"] == json.loads((tmp_path / "c/key.json").read_text())
    part = found["parts"]["train"]
    assert [found["texts"][k] for k in part["texts"]["audio"]] == [f"audio {i // 2}" for i in range(6)]
    assert part["labels"] == [f"kind {i % 2}" for i in range(6)]
    assert part["clips"] == 6


@pytest.mark.parametrize(("cut", "kept"), [(lambda i: str(i // 2), [0, 0, 1, 1, 2, 2]), (str, [])])
def test_a_cache_says_what_its_clips_are_cut_from(tmp_path: Path, cut: Callable[[int], str], kept: list[int]) -> None:
    class Cut(Numbers):
        def sources(self, indices: Sequence[int]) -> list[str]:
            return [cut(index) for index in indices]

    held = content(6, Cut())
    make_shards(tmp_path, held)
    complete(tmp_path, held)
    data = CachedData(open_cache(tmp_path), "train")
    assert list(data.cache.holding("train").sources) == kept
    assert len(set(data.sources([0, 1, 2]))) == (2 if kept else 3)
