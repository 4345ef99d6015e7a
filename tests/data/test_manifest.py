"""The manifest survives kills and never lists a file that is not there."""

import json
import os
from pathlib import Path

import pytest

from mmdisco_cli.data.manifest import (
    append_row,
    complete_rows,
    read_rows,
    read_settings,
    write_settings,
)
from mmdisco_cli.errors import DataError


def row(folder: Path, index: int, **more: object) -> dict[str, object]:
    (folder / f"{index}.mp4").touch()
    return {"path": f"{index}.mp4", "index": index, "seed": 0, "settings": "a", **more}


def test_rows_come_back_by_index_whatever_a_prompt_holds(tmp_path: Path) -> None:
    rows = [row(tmp_path, i, prompt="ö\u2028\n\x85") for i in (2, 0, 1)]
    for each in rows:
        append_row(tmp_path, each)
    assert read_rows(tmp_path) == sorted(rows, key=lambda r: str(r["path"]))


def test_a_torn_line_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    append_row(tmp_path, row(tmp_path, 0))
    torn = json.dumps(row(tmp_path, 1), ensure_ascii=False).encode()[:-7]
    with (tmp_path / "manifest.jsonl").open("ab") as file:
        file.write(torn)
    assert [r["index"] for r in read_rows(tmp_path)] == [0]
    append_row(tmp_path, row(tmp_path, 2))
    assert [r["index"] for r in read_rows(tmp_path)] == [0, 2]


def test_a_line_torn_within_a_character_is_left_out(tmp_path: Path) -> None:
    append_row(tmp_path, row(tmp_path, 0))
    with (tmp_path / "manifest.jsonl").open("ab") as file:
        file.write('{"prompt": "ö'.encode()[:-1])
    assert [r["index"] for r in read_rows(tmp_path)] == [0]


@pytest.mark.parametrize(
    "changed", [{"index": None}, {"index": "0"}, {"index": True}, {"seed": None}, {"path": None}, {"path": ["1.mp4"]}]
)
def test_lines_that_are_not_ours_are_left_out(tmp_path: Path, changed: dict[str, object]) -> None:
    append_row(tmp_path, row(tmp_path, 0))
    append_row(tmp_path, row(tmp_path, 1) | changed)
    append_row(tmp_path, row(tmp_path, 2))
    assert [r["index"] for r in read_rows(tmp_path)] == [0, 2]


def test_names_that_are_no_utf_8_come_back(tmp_path: Path) -> None:
    given = {"video": os.fsdecode(b"\xff \xc3\xb6.mp4")}
    append_row(tmp_path, row(tmp_path, 0, given=given))
    write_settings(tmp_path, {"fingerprint": "a", "prompts": list(given.values())})
    assert complete_rows(tmp_path)[0]["given"] == given
    assert (read_settings(tmp_path) or {})["prompts"] == list(given.values())


def test_the_last_line_of_a_sample_counts(tmp_path: Path) -> None:
    append_row(tmp_path, row(tmp_path, 0, logit=1.0))
    append_row(tmp_path, row(tmp_path, 0, logit=2.0))
    assert [r["logit"] for r in read_rows(tmp_path)] == [2.0]


def test_a_sample_whose_file_is_gone_is_left_out(tmp_path: Path) -> None:
    append_row(tmp_path, row(tmp_path, 0, latents="0.latents.safetensors"))
    append_row(tmp_path, row(tmp_path, 1))
    append_row(tmp_path, row(tmp_path, 2))
    (tmp_path / "1.mp4").unlink()
    assert [r["index"] for r in read_rows(tmp_path)] == [2]


def test_only_samples_of_the_present_settings_are_complete(tmp_path: Path) -> None:
    write_settings(tmp_path, {"fingerprint": "b"})
    append_row(tmp_path, row(tmp_path, 0))
    append_row(tmp_path, row(tmp_path, 1, settings="b"))
    assert [r["index"] for r in complete_rows(tmp_path)] == [1]


def test_a_folder_without_samples_has_none(tmp_path: Path) -> None:
    assert complete_rows(tmp_path / "absent") == []
    assert read_settings(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_settings_are_a_data_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(DataError, match="not readable"):
        read_settings(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        write_settings(tmp_path / "file" / "out", {})
    with pytest.raises(DataError, match="cannot write"):
        append_row(tmp_path / "file" / "out", {"path": "x"})
