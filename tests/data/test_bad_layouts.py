"""What is wrong with a data set is said in a line each, costs its own row, and stops a run where it is too much."""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from layouts import REQUEST, clip, heldout, opened, put, tar, texts, zipped

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.data.clips import build, check
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.discriminator import discriminator_job
from mmdisco_cli.training.loop import Context

ALL = {"max_bad": 1.0}


def table(root: Path, content: bytes | str, name: str = "t.csv", clips: int = 2) -> Path:
    return put(root, {**{f"{'abcde'[i]}.mp4": i for i in range(clips)}, name: content}) / name


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = table(tmp_path / "d", "video,caption\na.mp4,one\ngone.mp4,two\nb.mp4,three\n")
    data = opened(path, **ALL)
    assert texts(data) == {"a.mp4": "one", "b.mp4": "three"}
    assert data.skipped == ((f"gone.mp4 ({path}:3)", "no such file"),)
    with pytest.raises(DataError) as raised:
        opened(path)
    assert str(raised.value) == (
        f"{path}: 1 of 3 rows are missing or broken, more than data.max_bad=0.05 allows "
        f"(1x no such file, as of gone.mp4 ({path}:3))"
    )


def test_missing_files_stop_a_run_before_any_other_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "d", "video,caption\na.mp4,one\ngone.mp4,two\n")
    monkeypatch.setattr("mmdisco_cli.data.index.probes.probe", lambda source: pytest.fail(f"{source} was read"))
    with pytest.raises(DataError, match="1 of 2 rows"):
        opened(path)


def test_as_many_bad_rows_as_are_allowed_stop_nothing(tmp_path: Path) -> None:
    path = table(tmp_path / "d", "video,caption\na.mp4,one\nb.mp4,two\ngone.mp4,three\n")
    assert len(opened(path, max_bad=0.34).windows) == 2
    with pytest.raises(DataError, match=r"data\.max_bad=0\.33 allows"):
        opened(path, max_bad=0.33)


def test_broken_media(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "b.mp4": b"no clip", "c.mp4": clip(1)[:9000], "d.mp4": b"", "a.txt": "one"})
    data = opened(root, **ALL)
    assert set(dict(data.skipped)) == {"b.mp4", "c.mp4", "d.mp4"}
    assert all(reason.startswith(("corrupt, cut short", "cut short: ")) for _, reason in data.skipped)
    assert texts(data) == {"a.mp4": "one"}
    with pytest.raises(DataError, match="3 of 4 rows are missing or broken"):
        opened(root)


def test_a_clip_that_breaks_off_within_is_found_by_decoding(tmp_path: Path) -> None:
    content = bytearray(clip(1))
    middle = len(content) // 3
    content[middle : middle + 8000] = bytes(8000)
    root = put(tmp_path / "d", {"a.mp4": 0, "b.mp4": bytes(content)})
    assert set(dict(opened(root, **ALL, windows=None).skipped)) == {"b.mp4"}
    assert opened(root, check=0, windows=None).skipped == ()


def test_what_is_too_short_is_no_fault(tmp_path: Path) -> None:
    table_of_parts = "video,caption,start,duration\na.mp4,one,0.2,0.4\nb.mp4,two,0.2,1\n"
    data = opened(table(tmp_path / "d", table_of_parts))
    assert dict(data.skipped) == {
        f"a.mp4 ({tmp_path}/d/t.csv:2)": "only 0.400 s of audio and video, a window takes 0.800 s"
    }
    assert texts(data) == {"b.mp4": "two"}


@pytest.mark.parametrize(("start", "duration"), [("x", "1"), ("-1", "1"), ("0", "0"), ("0", "1/0")])
def test_times_that_are_none(tmp_path: Path, start: str, duration: str) -> None:
    data = opened(
        table(tmp_path / "d", f"video,caption,start,duration\na.mp4,one,{start},{duration}\nb.mp4,two,0,\n"), **ALL
    )
    assert [name for name, _ in data.skipped] == [f"{tmp_path}/d/t.csv:2"]


def test_two_rows_of_one_file(tmp_path: Path) -> None:
    data = opened(table(tmp_path / "d", "video,caption\na.mp4,one\na.mp4,two\nb.mp4,three\na.mp4,one\n"))
    assert data.captions(range(3), ["audio"])["audio"] == ["one", "two", "three"]
    assert (
        f"note a.mp4 ({tmp_path}/d/t.csv:5): says the same again as {tmp_path}/d/t.csv:2, and counts once"
        in data.report
    )
    assert len({window.heldout for window in data.windows if window.name == "a.mp4"}) == 1


def test_one_file_on_both_sides_of_the_split_is_said(tmp_path: Path) -> None:
    data = opened(table(tmp_path / "d", "video,caption,split\na.mp4,one,train\na.mp4,two,test\n"))
    assert len(heldout(data)) == 1
    assert any("1 held-out clips are in training too (a.mp4)" in line for line in data.report)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("video,caption\na.mp4,café\nb.mp4,two\n".encode("latin-1"), "café"),
        ("video,caption\na.mp4,“café”\nb.mp4,two\n".encode("cp1252"), "“café”"),
        ("video,caption\r\na.mp4,café\r\nb.mp4,two\r\n".encode("utf-8-sig"), "café"),
        ("video,caption\na.mp4,café\nb.mp4,two\n".encode("utf-16"), "café"),
        (b'video,caption\na.mp4,"one, two\nand ""three"""\nb.mp4,two\n', 'one, two\nand "three"'),
        (b"video;caption\na.mp4;one, two\nb.mp4;two\n", "one, two"),
        (b"caption\tvideo\none, two\ta.mp4\ntwo\tb.mp4\n", "one, two"),
        (b"video,caption\n\na.mp4, one \n\nb.mp4,two", "one"),
        (b"Video,CAPTION\na.mp4,one\nb.mp4,two\n", "one"),
    ],
)
def test_csv_of_any_dialect(tmp_path: Path, content: bytes, expected: str) -> None:
    data = opened(table(tmp_path / "d", content))
    assert texts(data) == {"a.mp4": expected, "b.mp4": "two"}
    legacy = not content.isascii() and content[:1] == b"v" and b"\xc3" not in content
    assert any("is not UTF-8, and was read as Latin-1" in line for line in data.report) is legacy


def test_lines_that_cannot_be_read_cost_themselves_alone(tmp_path: Path) -> None:
    content = 'video,caption\na.mp4,one\nb.mp4,one, two\nb.mp4,"a "quoted" word"\nb.mp4,two\n,three\n'
    data = opened(table(tmp_path / "d", content), **ALL)
    assert texts(data) == {"a.mp4": "one", "b.mp4": "two"}
    reasons = {name.rpartition(":")[2]: reason for name, reason in data.skipped}
    assert reasons["3"] == "3 cells where the header has 2"
    assert reasons["4"].startswith("cannot be read")
    assert reasons["6"] == "names no media file"


def test_a_quote_that_is_never_closed_loses_no_line_in_silence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv:2: a quote is opened and never closed"):
        opened(table(tmp_path / "d", 'video,caption\na.mp4,"one\nb.mp4,two\n'), **ALL)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty"),
        ("t.json", "{", "no JSON"),
        ("t.json", '{"a": 1}', "no list of objects"),
        ("t.jsonl", "[1]\n", "no list of objects"),
        ("t.csv", "video,video\na.mp4,b.mp4\n", "two columns are called 'video'"),
        ("t.csv", "video,caption\n", "none of 0 rows is usable"),
        ("t.tar", "no tar at all", "no tar, or one that is packed"),
        ("t.tar", "", "is empty"),
        ("t.parquet", "no table", "no whole Parquet table"),
        ("t.tar.gz", "", "a packed tar can only be read from its beginning"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        opened(table(tmp_path / "d", content, name), **ALL)
    assert "\n" not in str(raised.value)


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    lines = [
        '{"video": "a.mp4", "caption": "one"}',
        '{"video": "b.mp4", "cap',
        "3",
        '{"video": "b.mp4", "caption": "two"}',
    ]
    data = opened(table(tmp_path / "d", "\n".join(lines), "t.jsonl"), **ALL)
    assert texts(data) == {"a.mp4": "one", "b.mp4": "two"}
    assert [name.rpartition(":")[2] for name, _ in data.skipped] == ["2", "3"]


def test_addresses_are_no_files(tmp_path: Path) -> None:
    data = opened(table(tmp_path / "d", "video,caption\nhttps://x.org/a.mp4,one\nb.mp4,two\n"), **ALL)
    assert "media have to be downloaded first" in data.skipped[0][1]


def test_missing_captions_are_counted(tmp_path: Path) -> None:
    rows = [{"video": "a.mp4", "caption": "one"}, {"video": "b.mp4", "caption": None}, {"video": "c.mp4"}]
    path = table(tmp_path / "d", json.dumps(rows), "t.json", 3)
    data = opened(path)
    assert list(texts(data).values()) == ["one", "", ""]
    assert f"note {path}: 2 of 3 rows have no caption (b.mp4 ({path}:2), c.mp4 ({path}:3))" in data.report


def test_vggsound_rows_without_a_file(tmp_path: Path) -> None:
    rows = ["-0abcdefghi,30,dog,train", "_1bcdefghij,7,sea,train", "_2bcdefghij,seven,sea,train", "_3bcdefghij,7,sea"]
    root = put(tmp_path / "d", {"-0abcdefghi_000030.mp4": 0, "v.csv": "\n".join(rows)})
    data = opened(root / "v.csv", **ALL)
    assert [name.partition(" ")[0] for name, _ in data.skipped] == [f"{root}/v.csv:4", "_1bcdefghij", "_2bcdefghij"]
    assert texts(data) == {"-0abcdefghi_000030": "dog"}


def test_a_tar_cut_off_in_the_middle(tmp_path: Path) -> None:
    whole = tar(
        tmp_path / "x.tar", {f"{i}.{kind}": i if kind == "mp4" else "one" for i in range(3) for kind in ("txt", "mp4")}
    )
    content = whole.read_bytes()
    end = content.rindex(clip(2)[:64])
    (tmp_path / "cut.tar").write_bytes(content[: end + 5000])
    data = opened(tmp_path / "cut.tar", **ALL)
    assert set(texts(data)) == {"cut.tar/0.mp4", "cut.tar/1.mp4"}
    assert dict(data.skipped)["cut.tar"] == "is cut off in the middle of 2.mp4: what follows is lost"
    assert dict(data.skipped)["cut.tar/2"] == "has .txt, but no media"
    header = content.index(b"2.mp4") + 200
    (tmp_path / "head.tar").write_bytes(content[:header])
    assert "is damaged after 2.txt" in dict(opened(tmp_path / "head.tar", **ALL).skipped)["head.tar"]
    damaged = bytearray(content)
    place = content.index(b"1.txt")
    damaged[place : place + 512] = b"x" * 512
    (tmp_path / "garbage.tar").write_bytes(damaged)
    assert "is damaged after 0.mp4" in dict(opened(tmp_path / "garbage.tar", **ALL).skipped)["garbage.tar"]
    damaged[place : place + 1024] = bytes(1024)
    (tmp_path / "zeros.tar").write_bytes(damaged)
    assert "is damaged after 0.mp4" in dict(opened(tmp_path / "zeros.tar", **ALL).skipped)["zeros.tar"]


def test_a_tar_that_ends_with_a_member_is_remarked_on(tmp_path: Path) -> None:
    content = tar(tmp_path / "x.tar", {"0.mp4": 0}).read_bytes()
    end = 512 + -(-len(clip(0)) // 512) * 512
    (tmp_path / "cut.tar").write_bytes(content[:end])
    data = opened(tmp_path / "cut.tar")
    assert "note cut.tar: has no end mark: it may be cut off after 0.mp4" in data.report


def test_members_without_a_partner(tmp_path: Path) -> None:
    files = {"0.mp4": 0, "0.txt": "one", "1.txt": "two", "2.mp4": 1, "3.json": "{", "3.mp4": 2}
    data = opened(tar(tmp_path / "x.tar", files), **ALL)
    assert texts(data) == {"x.tar/0.mp4": "one", "x.tar/2.mp4": "", "x.tar/3.mp4": ""}
    assert data.skipped == (("x.tar/1", "has .txt, but no media"),)
    assert any(line.startswith("note x.tar/3: its .json is not JSON") for line in data.report)


def test_shards_that_are_not_there(tmp_path: Path) -> None:
    tar(tmp_path / "x-0.tar", {"0.mp4": 0})
    with pytest.raises(DataError, match=r"2 of 3 files are not there \(.*x-1\.tar, .*x-2\.tar\)"):
        opened(str(tmp_path / "x-{0..2}.tar"))


def test_empty_cells_and_damaged_zips(tmp_path: Path) -> None:
    rows = [
        {"video": {"bytes": clip(0), "path": "a"}, "text": "one"},
        {"video": {"bytes": None, "path": "b"}, "text": "two"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    data = opened(tmp_path / "x.parquet", **ALL)
    assert data.skipped == (("x.parquet, row 1 (b)", "the cell is empty"),)
    root = put(tmp_path / "d", {"metadata.csv": "file_name,text\na.mp4,one\nb.mp4,two\n"})
    path = zipped(root / "x.zip", {"a.mp4": 0, "b.mp4": 1})
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    assert [name.partition(" ")[0] for name, _ in opened(root, **ALL).skipped] == ["a.mp4"]
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match="not a whole zip"):
        opened(root)


@pytest.mark.parametrize("module", ["pyarrow.parquet", "webdataset.tariterators"])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    pq.write_table(pa.Table.from_pylist([{"video": clip(0)}]), tmp_path / "x.parquet")
    tar(tmp_path / "x.tar", {"0.mp4": 0})
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / ("x.parquet" if "pyarrow" in module else "x.tar")
    with pytest.raises(DataError, match=r"is read with \w+: in a clone of mmdisco: pip install '\.\[data\]'$"):
        opened(path)


def test_names_of_odd_bytes(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, 'ü,\n"x.mp4': 1})
    odd = os.fsdecode(b"\xff.mp4")
    (root / odd).write_bytes(clip(2))
    first, second = opened(root), opened(root)
    assert {window.name for window in first.windows} == {"a.mp4", 'ü,\n"x.mp4', odd}
    assert first.fingerprint == second.fingerprint


CAPTIONED = """
data: {{name: clips, path: {path}}}
backbones:
  audio: {{name: gaussian-mixture}}
  video: {{name: gaussian-mixture}}
discriminator: {{name: mlp}}
"""


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("video,caption\na.mp4,one\ngone.mp4,two\n", (), "1 of 2 rows are missing or broken"),
        ("video,caption\na.mp4,one\nb.mp4,two\n", ("data.caption=txt",), "data.caption: no column 'txt'"),
        ('video,caption\na.mp4,"one\n', (), "a quote is opened and never closed"),
        ("clip,caption\na,one\n", (), "no column names media files"),
    ],
)
def test_data_are_looked_at_before_any_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, settings: tuple[str, ...], message: str
) -> None:
    path = table(tmp_path / "d", content)
    monkeypatch.setattr(
        "mmdisco_cli.training.discriminator.assemble", lambda *_, **__: pytest.fail("models are loaded")
    )
    monkeypatch.setattr("mmdisco_cli.data.index.probes.probe", lambda source: pytest.fail(f"{source} was read"))
    (tmp_path / "r.yaml").write_text(CAPTIONED.format(path=path))
    context = Context(RunDirectory(tmp_path / "out", load(str(tmp_path / "r.yaml"), settings)), torch.device("cpu"))
    with pytest.raises(DataError, match=message):
        discriminator_job(context)


def test_an_index_that_was_checked_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "d", "video,caption\na.mp4,one\nb.mp4,two\n")
    options = ClipsOptions(path=str(path), windows=1, cache=str(tmp_path / "cache"))
    checked = check(options, ("audio", "video"))
    assert checked.captioned
    monkeypatch.setattr("mmdisco_cli.data.clips.read_index", lambda *_: pytest.fail("it was read again"))
    data = build(options, REQUEST, sample_rate=8000, checked=checked)
    assert texts(data) == {"a.mp4": "one", "b.mp4": "two"}


def test_why_there_are_no_captions_is_said_before_they_are_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "d", "video,caption\na.mp4,one\nb.mp4,two\n", "captions.csv").parent
    (tmp_path / "r.yaml").write_text(CAPTIONED.format(path=path))
    monkeypatch.setattr(Assembly, "prompt_backbones", "backbones.audio")
    context = Context(RunDirectory(tmp_path / "out", load(str(tmp_path / "r.yaml"))), torch.device("cpu"))
    with pytest.raises(UsageError, match="training has no captions"):
        discriminator_job(context)
    assert "tables there are not read: name one as data.path (captions.csv)" in capsys.readouterr().err
