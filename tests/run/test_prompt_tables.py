"""Tables of prompts: one text a row or one for each modality, whatever program wrote them, or a line on why not."""

import codecs
from pathlib import Path

import pytest

from mmdisco_cli import app
from mmdisco_cli.commands.prompt_tables import Prompt, read_table, require_modalities
from mmdisco_cli.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "data", "prompts"),
    [
        ("p.csv", b"caption\na dog\n\na cat\n", [Prompt("a dog", {}), Prompt("a cat", {})]),
        ("p.CSV", codecs.BOM_UTF8 + b'prompt\r\n"a dog, barking"\r\n', [Prompt("a dog, barking", {})]),
        ("p.csv", b'id,text\n1,"two\nlines ""quoted"""\n', [Prompt('two\nlines "quoted"', {})]),
        (
            "p.csv",
            "path,Caption_Audio,caption_video,caption\na.mp4,barks,a dog,\nb.mp4,,,caf\u00e9\n".encode(),
            [Prompt("", {"audio": "barks", "video": "a dog"}), Prompt("caf\u00e9", {})],
        ),
        (
            "p.jsonl",
            b'{"caption": "a dog", "caption_audio": "barks", "id": 3}\n\n"a cat"\n{"text": "x", "caption_video": null}',
            [Prompt("a dog", {"audio": "barks"}), Prompt("a cat", {}), Prompt("x", {})],
        ),
        ("p.txt", b"caption, no table\n", [Prompt("caption, no table", {})]),
    ],
)
def test_rows_are_the_texts_of_samples(tmp_path: Path, name: str, data: bytes, prompts: list[Prompt]) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_table(tmp_path / name) == prompts


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("p.csv", b"", "p.csv: holds no prompt"),
        ("p.csv", b"caption\n\n", "p.csv: holds no prompt"),
        ("p.csv", b"id,path\n1,a\n", "p.csv: has no column caption, prompt, text or caption_MODALITY, only id, path"),
        ("p.csv", b"a dog\na cat\n", "p.csv: has no column caption, prompt, text or caption_MODALITY, only a dog"),
        ("p.csv", b"id,caption\n1,a dog\n2, \n", "p.csv:3: has no text"),
        ("p.csv", b"caption\na dog, barking\n", "p.csv:2: has 2 fields, but the header 1"),
        ("p.csv", b'caption\n"a dog\n', "p.csv:2: is not csv (unexpected end of data)"),
        ("p.csv", b"caption\na caf\xe9 \n", "p.csv:2: is not UTF-8 text"),
        ("p.csv", "caption\na dog\n".encode("utf-16"), "p.csv: is UTF-16 text: save it as UTF-8"),
        ("p.jsonl", b'{"caption": "a"}\n{"caption": \n', "p.jsonl:2: is not JSON"),
        ("p.jsonl", b"[1]\n", "p.jsonl:1: is neither a text nor an object with a text"),
        ("p.jsonl", b'{"caption": 3}\n', "p.jsonl:1: caption is not text"),
        ("p.jsonl", b'{"id": "x"}\n', "p.jsonl:1: has no text"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(
    tmp_path: Path,
    name: str,
    data: bytes,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(DataError) as error:
        read_table(Path(name))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)
    assert app.run(["sample", "--recipe", "gaussians", "--n", "2", "--out", "out", "--prompts", name]) == 4
    assert capsys.readouterr().out == ""


def test_texts_are_of_the_modalities_of_the_recipe() -> None:
    path = Path("p.csv")
    require_modalities(
        path, [Prompt("a", {"audio": "b"}), Prompt("", {"audio": "b", "video": "c"})], ("audio", "video")
    )
    with pytest.raises(UsageError, match=r"--prompts p\.csv: caption_vidio: unknown modality .*video"):
        require_modalities(path, [Prompt("a", {"vidio": "b"})], ("audio", "video"))
    with pytest.raises(UsageError, match=r"no text for video: add caption or caption_video"):
        require_modalities(path, [Prompt("", {"audio": "b"})], ("audio", "video"))


def test_a_row_without_a_common_text_is_shown_by_its_own() -> None:
    assert Prompt("", {"audio": "barks", "video": "a dog", "touch": "barks"}).shown == "barks / a dog"
    assert Prompt("a", {"audio": "b"}).shown == "a"
