"""What a command was given: wrong files and values end in one line that names them."""

import json
from pathlib import Path

import pytest

from mmdisco_cli import app
from mmdisco_cli.run.options import EvalOptions, SampleOptions

SAMPLE = ("sample", "--recipe", "gaussians")
ASSETS = Path(__file__).parent / "assets"
MOST = 2**63 - 1


@pytest.fixture
def fail(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder that holds `latin1.txt`; return its code and its one line of error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1.txt").write_bytes("summary: \u00e9t\u00e9".encode("latin-1"))

    def fail(*arguments: str) -> tuple[int, str]:
        code = app.run(arguments)
        shown = capsys.readouterr()
        assert shown.out == ""
        (line,) = shown.err.splitlines()
        return code, line

    return fail


def test_files_that_are_no_text(fail):
    code, line = fail(*SAMPLE, "--prompts", "latin1.txt")
    assert code == 4
    assert line.startswith("error: latin1.txt:1: is not UTF-8 text")
    assert fail("recipes", "cat", "latin1.txt") == (2, "error: latin1.txt: is not UTF-8 text")
    assert fail("train", "--recipe", "latin1.txt") == (2, "error: latin1.txt: is not UTF-8 text")


def test_a_modality_given_twice(fail):
    assert fail(*SAMPLE, "--given", "x=a.mp4", "--given", "x=b.mp4") == (
        2, "error: --given x: given twice, a.mp4 and b.mp4"
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--n", "--seed", "--batch-size"])
def test_numbers_beyond_all_that_is_counted(fail, option):
    code, line = fail(*SAMPLE, option, str(MOST + 1))
    assert code == 2
    assert line.startswith(f"error: Invalid value for '{option}'")
    assert str(MOST) in line


@pytest.mark.parametrize("shard", ["0/" + "9" * 5000, "1/1", "0/0", "/2", "1", "-1/2", "0/2/3", "\u0660/\u0663"])
def test_shards_that_there_are_not(fail, shard):
    assert fail(*SAMPLE, "--shard", shard) == (2, f"error: --shard {shard}: expected I/N with 0 <= I < N, as in 0/4")


@pytest.mark.parametrize(
    ("recipe", "data", "lacked"),
    [
        ("gaussians", ["data.name=bounce"], "x and no y"),
        ("gaussians", ["data.name=clips", f"data.path={json.dumps(str(ASSETS))}"], "x"),
        ("bounce-audio", ["data.name=gaussians"], "audio"),
    ],
)
def test_data_without_a_modality_of_the_recipe(fail, recipe, data, lacked):
    overrides = [argument for text in data for argument in ("--set", text)]
    assert fail("train", "--recipe", recipe, *overrides, "--dry-run") == (
        2, f"error: data: has no {lacked}, which the recipe's backbones make"
    )  # fmt: skip


def test_every_path_of_a_command_may_begin_with_a_home(tmp_path, monkeypatch, capsys):
    """Also behind an equals sign, where no shell puts the home in its place."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (home / "prompts.txt").write_text("a ball\n")
    assert app.run(["recipes", "copy", "gaussians", "~/mine.yaml"]) == 0
    arguments = ["--recipe", "~/mine.yaml", "--n", "1", "--prompts", "~/prompts.txt", "--out=~/out"]
    assert app.run(["sample", "--independent", *arguments]) == 0
    assert (home / "out/00000-seed0.safetensors").is_file()
    small = ["train.steps=2", "train.batch_size=4", "discriminator.width=8"]
    settings = [part for text in small for part in ("--set", text)]
    assert app.run(["train", "--recipe", "~/mine.yaml", *settings, "--out=~/train"]) == 0
    weights = "--checkpoint=~/train/discriminator.safetensors"
    assert app.run(["sample", weights, "--n", "1", "--out", "~/guided"]) == 0
    assert SampleOptions(given={"x": Path("~/a.mp4")}).given == {"x": home / "a.mp4"}
    assert EvalOptions(compare=(Path("~/a"), Path("b/~"))).compare == (home / "a", Path("b/~"))
    assert app.run(["convert", "~/none.pt", "~/converted.safetensors"]) == 4
    assert app.run(["eval", "--samples", "~/none", "--out", "~/eval", "--cache", "~/cache"]) == 4
    assert app.run(["eval", "--samples", "~/none", "--extractor", "vggish=~/none.pth", "--out", "~/eval"]) == 4
    said = capsys.readouterr()
    assert f"{home}/none.pt: no such file" in said.err
    assert "~" not in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]
