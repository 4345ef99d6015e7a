"""A file of prompts is read as its author meant it, whatever editor wrote it, or refused with its line."""

import codecs
from pathlib import Path

import pytest

from mmdisco_cli import app
from mmdisco_cli.commands.prompts import read_prompts, require_text
from mmdisco_cli.errors import DataError, UsageError

SAMPLE = ["sample", "--recipe", "gaussians", "--n", "2", "--out", "out"]


@pytest.mark.parametrize(
    ("data", "prompts"),
    [
        (b"a dog\na cat\n", ["a dog", "a cat"]),
        (codecs.BOM_UTF8 + b"a dog\r\n\r\n   a cat  \r\n# comment?\r\n", ["a dog", "a cat", "# comment?"]),
        (b"a dog\ra cat", ["a dog", "a cat"]),
        (codecs.BOM_UTF8 + b"a dog\n" + codecs.BOM_UTF8 + b"a cat\n", ["a dog", "a cat"]),
        (" caf\u00e9 \u2603\n".encode(), ["caf\u00e9 \u2603"]),
        # What str.splitlines would take for the end of a line.
        ("one\u2028prompt\x0band\x85no more".encode(), ["one\u2028prompt\x0band\x85no more"]),
        (b"twice\ntwice\n", ["twice", "twice"]),
    ],
)
def test_a_prompt_is_a_line_and_nothing_else(tmp_path: Path, data: bytes, prompts: list[str]) -> None:
    (tmp_path / "p.txt").write_bytes(data)
    assert read_prompts(tmp_path / "p.txt") == prompts


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "p.txt: holds no prompt"),
        (b"\n\n", "p.txt: holds no prompt"),
        (b"  \r\n\t\r\n", "p.txt: holds no prompt"),
        (codecs.BOM_UTF8, "p.txt: holds no prompt"),
        (codecs.BOM_UTF8 + b"\r\n \r\n", "p.txt: holds no prompt"),
        (b"a dog\r\na caf\xe9 \r\n", "p.txt:2: is not UTF-8 text (invalid continuation byte at byte 6)"),
        (b"a dog\r\ra \xff cat", "p.txt:3: is not UTF-8 text (invalid start byte at byte 3)"),
        (b"\xed\xb3\xbf", "p.txt:1: is not UTF-8 text"),  # half of a surrogate pair
        ("a dog\n".encode("utf-16"), "p.txt: is UTF-16 text: save it as UTF-8"),
        ("a dog\n".encode("utf-32"), "p.txt: is UTF-32 text: save it as UTF-8"),
        (codecs.BOM_UTF16_BE + "a dog\n".encode("utf-16-be"), "p.txt: is UTF-16 text: save it as UTF-8"),
        ("a dog\n".encode("utf-16-le"), "p.txt:1: holds a NUL"),
    ],
)
def test_a_file_without_prompts_is_refused_with_its_line(
    tmp_path: Path, data: bytes, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_bytes(data)
    with pytest.raises(DataError) as error:
        read_prompts(Path("p.txt"))
    assert str(error.value).startswith(said)
    assert app.run([*SAMPLE, "--prompts", "p.txt"]) == 4
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: {error.value}\n"
    assert not Path("out").exists()


def test_a_prompt_of_the_command_line_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    require_text(["caf\u00e9", ""])
    with pytest.raises(UsageError, match="--prompt"):
        require_text(["a dog", "\udcff cat"])
    assert app.run([*SAMPLE, "--prompt", "\udcff cat"]) == 2
    assert capsys.readouterr().err == "error: --prompt \\udcff cat: is not UTF-8 text\n"
