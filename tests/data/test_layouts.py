"""Every layout that captioned clips come in is opened by pointing at it."""

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from layouts import ASSETS, clip, heldout, labels, opened, put, tar, texts, zipped
from media_recorder import pulse, record

from mmdisco_cli.data.clips import ClipsDataset
from mmdisco_cli.errors import DataError


def same_media(dataset: ClipsDataset, index: int, number: int) -> bool:
    """Whether a window decodes to what the asset of that number does, alone in a folder."""
    plain = opened(ASSETS[number], cache=None)
    ours, whole = dataset.media([index], ["audio", "video"]), plain.media([0], ["audio", "video"])
    return all(torch.equal(ours[name], whole[name]) for name in ours)


def test_side_texts(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {
        "a.mp4": 0, "a.txt": "a dancer\nturns\n",
        "deep/b.mp4": 1, "deep/b.json": json.dumps({"text": "waves", "label": "sea"}),
        "c.mp4": 2, "README.txt": "of no clip",
    })  # fmt: skip
    data = opened(root)
    assert texts(data) == {"a.mp4": "a dancer turns", "c.mp4": "", "deep/b.mp4": "waves"}
    assert labels(data)["deep/b.mp4"] == "sea"
    assert f"note {root}: 1 of 3 rows have no caption (c.mp4)" in data.report
    assert f"note {root}: 1 text has no media file of that name (README.txt)" in data.report


def test_several_captions_beside_a_clip_are_rows_of_their_own(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "a.json": json.dumps({"caption": ["one", "two"]}), "b.mp4": 1})
    data = opened(root)
    assert data.captions(range(3), ["video"])["video"] == ["one", "two", ""]
    assert len({window.heldout for window in data.windows[:2]}) == 1


@pytest.mark.parametrize("held", ["test", "heldout", "val"])
def test_folders_name_splits(tmp_path: Path, held: str) -> None:
    data = opened(put(tmp_path / "d", {"train/a.mp4": 0, "train/b.mp4": 1, f"{held}/c.mp4": 2}))
    assert heldout(data) == {f"{held}/c.mp4"}
    assert set(labels(data).values()) == {""}


def test_folders_of_one_depth_are_labels(tmp_path: Path) -> None:
    data = opened(put(tmp_path / "d", {"train/dog/a.mp4": 0, "train/sea/b.mp4": 1, "test/sea/c.mp4": 2}))
    assert labels(data) == {"test/sea/c.mp4": "sea", "train/dog/a.mp4": "dog", "train/sea/b.mp4": "sea"}


def metadata(kind: str, rows: list[dict[str, str]]) -> bytes:
    if kind == "jsonl":
        return "\n".join(map(json.dumps, rows)).encode()
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
        return "\r\n".join(lines).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


ROWS = [{"file_name": "v/a.mp4", "text": "one, two"}, {"file_name": "b.mp4", "text": "three"}]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_video_folders_with_metadata(tmp_path: Path, kind: str) -> None:
    root = put(tmp_path / "d", {"v/a.mp4": 0, "b.mp4": 1, "left.mp4": 2, f"metadata.{kind}": metadata(kind, ROWS)})
    data = opened(root)
    assert texts(data) == {"v/a.mp4": "one, two", "b.mp4": "three"}
    assert any("1 media files are in no metadata table (left.mp4)" in line for line in data.report)


def test_metadata_of_each_split_names_files_beside_it(tmp_path: Path) -> None:
    one, two = (metadata("csv", [{"file_name": "a.mp4", "text": text}]) for text in ("one", "two"))
    root = put(tmp_path / "d", {"train/a.mp4": 0, "train/metadata.csv": one, "test/a.mp4": 1, "test/metadata.csv": two})
    data = opened(root)
    assert texts(data) == {"train/a.mp4": "one", "test/a.mp4": "two"}
    assert heldout(data) == {"test/a.mp4"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_metadata_of_zipped_files(tmp_path: Path, method: int) -> None:
    root = put(tmp_path / "d", {"metadata.csv": metadata("csv", ROWS)})
    zipped(root / "clips.zip", {"v/a.mp4": 0, "b.mp4": 1}, method)
    data = opened(root)
    assert texts(data) == {"v/a.mp4": "one, two", "b.mp4": "three"}
    assert same_media(data, 0, 0)
    assert same_media(data, 1, 1)


def test_a_zip_alone_holds_a_folder(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {})
    root.mkdir()
    zipped(root / "clips.zip", {"a.mp4": 0, "a.txt": "one", "__MACOSX/a.mp4": b"no clip"})
    assert texts(opened(root)) == {"a.mp4": "one"}


@pytest.mark.parametrize("name", ["dataset.json", "dataset.jsonl", "dataset.csv"])
@pytest.mark.parametrize("column", ["video", "media_path"])
@pytest.mark.parametrize("whole", [True, False])
def test_tables_of_a_trainer(tmp_path: Path, name: str, column: str, whole: bool) -> None:
    rows = [{column: "clips/a.mp4", "caption": "one"}, {column: "clips/b.mp4", "caption": "two"}]
    kind = name.partition(".")[2]
    content = json.dumps(rows).encode() if kind == "json" else metadata(kind, rows)
    root = put(tmp_path / "d", {"clips/a.mp4": 0, "clips/b.mp4": 1, name: content})
    assert texts(opened(root if whole else root / name)) == {"clips/a.mp4": "one", "clips/b.mp4": "two"}


def test_audio_of_another_file_takes_the_place_of_the_videos_own(tmp_path: Path) -> None:
    wave = pulse(8000, 2.0, 1.2)
    record(tmp_path / "a.wav", sound=wave, rate=8000, codecs=("", "pcm_s16le"))
    rows = [{"video": "a.mp4", "audio": "a.wav", "caption": "a click"}]
    data = opened(put(tmp_path, {"a.mp4": 0, "t.json": json.dumps(rows)}) / "t.json", stride=0.8, windows=None)
    audio = data.media([0], ["audio"])["audio"][0]
    start = round(float(data.windows[0].start) * 8000)
    assert float((audio[0] - torch.from_numpy(wave[0, start : start + 6400])).abs().max()) < 1e-3
    assert len(data.windows) == 2


def test_javisdits_csv(tmp_path: Path) -> None:
    record(tmp_path / "a.wav", sound=pulse(8000, 2.0, 1.2), rate=8000, codecs=("", "pcm_s16le"))
    head = "path,audio_path,text,fps,num_frames,height,width,audio_fps"
    table = f"{head}\na.mp4,a.wav,a click,10,16,64,64,16000\nb.mp4,,no click,10,16,64,64,16000\n"
    data = opened(put(tmp_path, {"a.mp4": 0, "b.mp4": 1, "train.csv": table}) / "train.csv")
    assert texts(data, "video") == {"a.mp4": "a click", "b.mp4": "no click"}
    assert [window.audio is not None for window in data.windows] == [True, False]


VGG = '-0abcdefghi,30,"playing drum, hard",train\n_1bcdefghij,7,sea waves,test\n'


def test_vggsounds_csv(tmp_path: Path) -> None:
    media = put(tmp_path / "m", {"00/-0abcdefghi_000030.mp4": 0, "01/_1bcdefghij_000007.mkv": 1})
    table = put(tmp_path, {"vggsound.csv": VGG}) / "vggsound.csv"
    data = opened(table, media=str(media))
    assert labels(data) == {"-0abcdefghi_000030": "playing drum, hard", "_1bcdefghij_000007": "sea waves"}
    assert texts(data) == labels(data)
    assert heldout(data) == {"_1bcdefghij_000007"}


def test_vggsound_in_tars(tmp_path: Path) -> None:
    put(tmp_path / "m", {"x.txt": ""})
    tar(tmp_path / "m" / "0.tar", {"clips/-0abcdefghi_000030.mp4": 0, "clips/_1bcdefghij_000007.mp4": 1})
    data = opened(put(tmp_path, {"vgg.csv": VGG}) / "vgg.csv", media=str(tmp_path / "m"))
    assert same_media(data, 0, 0)
    assert same_media(data, 1, 1)


def test_audiocaps_csv_has_several_captions_a_clip(tmp_path: Path) -> None:
    head = "audiocap_id,youtube_id,start_time,caption"
    train, test = (
        f"{head}\n1,-0abcdefghi,30,one\n2,-0abcdefghi,30,two\n",
        f"{head}\n3,_1bcdefghij,7,three\n",
    )
    files = {"m/-0abcdefghi_000030.mp4": 0, "m/_1bcdefghij_000007.mp4": 1, "train.csv": train, "test.csv": test}
    root = put(tmp_path / "d", files)
    data = opened(str(root / "{train,test}.csv"))
    assert data.captions(range(3), ["audio"])["audio"] == ["one", "two", "three"]
    assert heldout(data) == {"_1bcdefghij_000007"}
    assert heldout(opened(root)) == heldout(data)
    assert sorted(texts(opened(root)).items()) == sorted(texts(data).items())
    assert any("1 clip has several captions: " in line for line in data.report)


def test_audiosets_csv(tmp_path: Path) -> None:
    table = (
        "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=1\n"
        '# YTID, start_seconds, end_seconds, positive_labels\n-0abcdefghi, 30.000, 40.000, "/m/03v3yw,/m/0k4j"\n'
    )
    data = opened(put(tmp_path / "d", {"-0abcdefghi_000030.mp4": 0, "s.csv": table}) / "s.csv")
    assert labels(data) == {"-0abcdefghi_000030": "/m/03v3yw,/m/0k4j"}


def test_a_whole_recording_is_cut_where_the_table_says(tmp_path: Path) -> None:
    table = "youtube_id,start_time,end_time,caption\n-0abcdefghi,0.5,1.5,one\n"
    data = opened(put(tmp_path / "d", {"-0abcdefghi.mp4": 0, "s.csv": table}) / "s.csv", windows=None, stride=0.1)
    starts = [float(window.start) for window in data.windows]
    assert starts[0] == 0.5
    assert starts[-1] == pytest.approx(0.7)


def test_landscape_as_mm_diffusion_ships_it(tmp_path: Path) -> None:
    files = {"landscape/train/x.mp4": 0, "landscape/test/y.mp4": 1}
    data = opened(put(tmp_path, files) / "landscape", windows=None)
    assert heldout(data) == {"test/y.mp4"}
    assert len(data.windows) == 4
    assert set(texts(data).values()) == {""}


SAMPLES = {
    "000000.mp4": 0, "000000.txt": "one", "000000.json": json.dumps({"label": "sea", "width": 64}),
    "000001.json": json.dumps({"caption": "two"}), "000001.mp4": 1,
}  # fmt: skip


def test_webdataset(tmp_path: Path) -> None:
    tar(tmp_path / "train-000000.tar", SAMPLES)
    tar(tmp_path / "train-000001.tar", {"000000.mp4": 2, "000000.txt": "three"})
    tar(tmp_path / "test-000000.tar", {"000000.mp4": 3, "000000.txt": "four"})
    data = opened(str(tmp_path / "{train-{000000..000001},test-000000}.tar"))
    named = {
        "train-000000.tar/000000.mp4": "one", "train-000000.tar/000001.mp4": "two",
        "train-000001.tar/000000.mp4": "three", "test-000000.tar/000000.mp4": "four",
    }  # fmt: skip
    assert texts(data) == named
    assert labels(data)["train-000000.tar/000000.mp4"] == "sea"
    assert heldout(data) == {"test-000000.tar/000000.mp4"}
    assert [same_media(data, index, number) for index, number in enumerate((0, 1, 2, 3))] == [True] * 4
    assert texts(opened(tmp_path)) == named


def test_webdataset_with_audio_of_its_own(tmp_path: Path) -> None:
    sound = record(tmp_path / "a.wav", sound=pulse(8000, 2.0, 1.2), rate=8000, codecs=("", "pcm_s16le")).read_bytes()
    data = opened(tar(tmp_path / "x.tar", {"7.mp4": 0, "7.wav": sound, "7.txt": "a click"}))
    assert data.windows[0].audio is not None
    assert float(data.media([0], ["audio"])["audio"].abs().max()) > 0.5


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    rows = [{"video": {"bytes": clip(i), "path": f"{i}.mp4"}, "text": f"caption {i}", "label": i % 2} for i in range(3)]
    features = {"label": {"names": ["dog", "sea"], "_type": "ClassLabel"}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00012.parquet", row_group_size=2)
    pq.write_table(table.slice(0, 1), tmp_path / "data" / "test-00000-of-00001.parquet")
    data = opened(tmp_path / "data")
    name = "train-00000-of-00012.parquet, row {0} ({0}.mp4)"
    assert texts(data)[name.format(2)] == "caption 2"
    assert [labels(data)[name.format(i)] for i in range(3)] == ["dog", "sea", "dog"]
    assert heldout(data) == {"test-00000-of-00001.parquet, row 0 (0.mp4)"}
    # Backwards too: cells are read in order, and again from the start of their group.
    assert [same_media(data, 1 + number, number) for number in (2, 0, 1)] == [True] * 3


def test_parquet_with_audio_in_a_column_of_its_own(tmp_path: Path) -> None:
    sound = record(tmp_path / "a.wav", sound=pulse(8000, 2.0, 1.2), rate=8000, codecs=("", "pcm_s16le")).read_bytes()
    pq.write_table(pa.Table.from_pylist([{"video": clip(0), "audio": {"bytes": sound}}]), tmp_path / "x.parquet")
    assert float(opened(tmp_path / "x.parquet").media([0], ["audio"])["audio"].abs().max()) > 0.5


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = [
        {"clip": "a.mp4", "what": "one", "hear": "a bang", "kind": "dog", "part": "test"},
        {"clip": "b.mp4", "what": "two", "hear": "", "kind": "sea", "part": "train"},
    ]
    table = put(tmp_path / "d", {"a.mp4": 0, "b.mp4": 1, "t.csv": metadata("csv", rows)}) / "t.csv"
    data = opened(table, video="clip", caption="what", caption_audio="hear", label="kind", split="part")
    assert texts(data, "audio") == {"a.mp4": "a bang", "b.mp4": "two"}
    assert texts(data, "video") == {"a.mp4": "one", "b.mp4": "two"}
    assert labels(data) == {"a.mp4": "dog", "b.mp4": "sea"}
    assert heldout(data) == {"a.mp4"}
    with pytest.raises(DataError, match=r"data\.caption: no column 'wat' \(did you mean what\?\)"):
        opened(table, video="clip", caption="wat")
    with pytest.raises(DataError, match=r"no column names media files \(columns: clip, what, hear, kind, part\): say"):
        opened(table)


def test_the_layout_can_be_said_where_it_is_not_seen(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0, "metadata.csv": metadata("csv", [{"file_name": "a.mp4", "text": "one"}])})
    assert texts(opened(root)) == {"a.mp4": "one"}
    assert texts(opened(root, format="folder")) == {"a.mp4": ""}
    with pytest.raises(DataError, match=r"holds nothing of the layout webdataset \(data\.format\)"):
        opened(root, format="webdataset")


def test_captions_change_the_fingerprint_and_the_place_does_not(tmp_path: Path) -> None:
    one = opened(put(tmp_path / "one", {"a.mp4": 0, "a.txt": "one"}))
    moved = opened(put(tmp_path / "moved", {"a.mp4": 0, "a.txt": "one"}))
    other = opened(put(tmp_path / "other", {"a.mp4": 0, "a.txt": "another"}))
    none = opened(put(tmp_path / "none", {"a.mp4": 0}))
    assert one.fingerprint == moved.fingerprint
    assert len({one.fingerprint, other.fingerprint, none.fingerprint}) == 3


def test_windows_of_a_clip_are_spread_evenly(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"a.mp4": 0})
    starts = [[float(w.start) for w in opened(root, windows=n, stride=0.1).windows] for n in (1, 2, 99)]
    assert starts[2] == pytest.approx([i / 10 for i in range(9)])
    assert starts[0] == pytest.approx([0.4])
    assert starts[1] == pytest.approx([0.2, 0.6])
