"""A plugin adds a modality of a kind of its own: its files are written, listed, shown and given without the core."""

import json
from pathlib import Path

import pytest

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.manifest import complete_rows
from mmdisco_cli.errors import ExitCode

ROLL = '''
import json

from mmdisco_cli.errors import DataError
from mmdisco_cli.hookspecs import KindSpec, hookimpl, lazy

LOWEST = 60


@hookimpl
def mmdisco_kinds():
    yield KindSpec("piano-roll", "notes over time", lazy("mmdisco_roll:build"), 1, ".notes.json")


class Roll:
    """Notes (pitches, T): on where positive, one step of `plan.rate` long."""

    def misfit(self, plan):
        return "" if len(plan.media_shape) == 2 and plan.rate else f"{plan.media_shape} is not a piano roll"

    def write(self, path, media, item):
        notes = [[LOWEST + pitch, step / item.plan.rate] for pitch, step in (media > 0).nonzero().tolist()]
        path.write_text(json.dumps({"notes": notes, "about": dict(item.about)}))

    def read(self, path, item):
        import torch
        media = -torch.ones(item.plan.media_shape)
        try:
            notes = json.loads(path.read_text())["notes"]
        except ValueError as error:
            raise DataError(f"{path}: no notes") from error
        for pitch, time in notes:
            media[pitch - LOWEST, round(time * item.plan.rate)] = 1
        return media

    def card(self, path, source):
        notes = json.loads(path.read_text())["notes"]
        dots = "".join(f'<circle cx="{time}" cy="{LOWEST + 8 - pitch}" r=".1"/>' for pitch, time in notes)
        return f'<a href="{source}"><svg class="roll" viewBox="0 0 2 8">{dots}</svg></a>'


def build():
    return Roll()
'''
MELODY = "kind: piano-roll, shape: [8, 20], rate: 10"


@pytest.fixture
def recipe(anything, make_plugin) -> Path:
    make_plugin("mmdisco-roll", ROLL)
    return anything(melody=MELODY, image="kind: image, shape: [1, 8, 6]")


def sample(recipe: Path, *arguments: str, out: str) -> ExitCode:
    return mmdisco(["sample", "--recipe", str(recipe), "--independent", "--n", "2", "--out", out, *arguments])


def notes(path: Path) -> list[list[float]]:
    return json.loads(path.read_text())["notes"]


def test_its_samples_are_written_shown_and_given_again(recipe, capsys) -> None:
    assert sample(recipe, "--json", out="out") == ExitCode.OK
    rows = complete_rows(Path("out"))
    assert [row["path"] for row in rows] == ["00000-seed0.notes.json", "00001-seed0.notes.json"]
    assert rows[0]["kinds"] == {"melody": "piano-roll", "image": "image"}
    first = notes(Path("out/00000-seed0.notes.json"))
    assert len(first) > 20
    assert all(60 <= pitch < 68 and 0 <= time < 2 for pitch, time in first)
    page = Path("out/index.html").read_text()
    assert page.count('<svg class="roll"') == 2
    assert page.count('<a href="00001-seed0.notes.json">') == 2  # the name above, and the link that the kind draws
    assert page.count('class="file kind-piano-roll"') == 2
    assert sample(recipe, "--given", "melody=out", "--seed", "9", out="again") == ExitCode.OK
    for i, row in enumerate(complete_rows(Path("again"))):
        assert notes(Path("again") / row["files"]["melody"]) == notes(Path(f"out/0000{i}-seed0.notes.json"))
        assert row["given"] == {"melody": f"out/0000{i}-seed0.notes.json"}


def test_it_is_listed_and_one_file_of_it_is_given(recipe, capsys) -> None:
    assert mmdisco(["plugins"]) == ExitCode.OK
    assert "kind          piano-roll          notes over time" in capsys.readouterr().out
    Path("scale.notes.json").write_text(json.dumps({"notes": [[60, 0.0], [62, 0.5], [64, 1.0]]}))
    assert sample(recipe, "--given", "melody=scale.notes.json", out="scale") == ExitCode.OK
    assert notes(Path("scale/00001-seed0.notes.json")) == [[60, 0.0], [62, 0.5], [64, 1.0]]
    Path("folder").mkdir()
    Path("scale.notes.json").rename("folder/B.NOTES.JSON")
    Path("folder/a.json").write_text("of another kind")
    assert sample(recipe, "--given", "melody=folder", out="folders") == ExitCode.OK
    assert complete_rows(Path("folders"))[1]["given"] == {"melody": "folder/B.NOTES.JSON"}
    Path("bad.notes.json").write_text("nothing")
    assert sample(recipe, "--given", "melody=bad.notes.json", out="bad") == ExitCode.DATA
    assert "bad.notes.json: no notes" in capsys.readouterr().err


def test_media_that_do_not_fit_it_become_vectors(anything, make_plugin, capsys) -> None:
    make_plugin("mmdisco-roll", ROLL)
    odd = anything(melody="kind: piano-roll, shape: [8]")
    assert sample(odd, out="odd") == ExitCode.OK
    assert "written as a vector, not as piano-roll: (8,) is not a piano roll" in capsys.readouterr().err
    assert Path("odd/00000-seed0.safetensors").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('".notes.json"', '"notes"', "the suffix of 'piano-roll' is 'notes', not a dot and letters"),
        ("def card", "def cart", "kind 'piano-roll': Roll has no card"),
        ("path.write_text(", "path.nothing(", "kind 'piano-roll': write fails for 00000-seed0.notes.json: Attribute"),
    ],
)
def test_one_that_breaks_its_contract_is_named(anything, make_plugin, capsys, old, new, said) -> None:
    make_plugin("mmdisco-roll", ROLL.replace(old, new))
    recipe = anything(melody=MELODY)
    assert sample(recipe, out="out") == ExitCode.PLUGIN
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert "mmdisco-roll 1.0" in err


def test_its_card_that_fails_takes_no_page_down(anything, make_plugin) -> None:
    make_plugin("mmdisco-roll", ROLL.replace("return f'<a href", "return 1 / 0 + f'<a href"))
    assert sample(anything(melody=MELODY), out="out") == ExitCode.OK
    page = Path("out/index.html").read_text()
    assert "kind &#x27;piano-roll&#x27;: card fails for 00000-seed0.notes.json: ZeroDivisionError" in page
