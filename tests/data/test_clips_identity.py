"""Trainings begun before data sets had captions go on: neither their recipe nor their data counts as another one."""

import hashlib
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest
from layouts import REQUEST, opened, put

from mmdisco_cli.data.clips import READING
from mmdisco_cli.data.windows import Shape
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.directory import changes, training_fingerprint, training_sections

PATH = "data.path=clips"


def formerly(recipe: Recipe) -> str:
    """The fingerprint of a training whose data set knew nothing but its path, and whose models took no captions."""
    plain = {**recipe.to_dict(), "data": {"name": "clips", "path": "clips"}}
    plain["backbones"] = {
        label: {key: value for key, value in part.items() if key not in ("base", "text", "pooled")}
        for label, part in plain["backbones"].items()
    }
    picked = {}
    for section in training_sections(recipe):
        value = plain
        for key in section.split("."):
            value = value[key]
        picked[section] = value
    return hashlib.sha256(json.dumps(picked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", ["clips-audio", "clips-video", "clips"])
def test_a_recipe_that_uses_no_new_key_names_the_same_training(name: str) -> None:
    recipe = load(name, [PATH])
    assert training_fingerprint(recipe) == formerly(recipe)
    stored = recipe.to_dict()
    assert changes({**stored, "data": {"name": "clips", "path": "clips"}}, recipe) == []
    assert changes(stored, recipe) == []


@pytest.mark.parametrize("setting", ["max_bad=0.5", "workers=3", "cache=x", "check=0", "media=y", "format=folder"])
def test_what_changes_no_clip_names_no_other_training(setting: str) -> None:
    before, after = load("clips-audio", [PATH]), load("clips-audio", [PATH, f"data.{setting}"])
    assert training_fingerprint(after) == training_fingerprint(before)
    assert changes(before.to_dict(), after) == []


@pytest.mark.parametrize("setting", ["stride=0.5", "windows=2", "caption=text", "label=kind", "split=part"])
def test_what_changes_clips_or_texts_names_another_training(setting: str) -> None:
    before, after = load("clips-audio", [PATH]), load("clips-audio", [PATH, f"data.{setting}"])
    assert training_fingerprint(after) != training_fingerprint(before)
    assert changes(before.to_dict(), after) == [f"data.{setting.partition('=')[0]}"]


def test_a_folder_without_texts_has_the_fingerprint_of_its_files_windows_and_reading(tmp_path: Path) -> None:
    root = put(tmp_path / "d", {"dog/a.mp4": 0, "sea/b.mp4": 1, "sea/c.mp4": 2, "notes.txt": "of none"})
    data = opened(root, windows=None)
    shape = Shape(8, Fraction(10), 16, 24, 8000, 1)
    assert (shape.frames, shape.fps) == (REQUEST.frames, REQUEST.fps)
    rows = [
        (w.name, hashlib.sha256((root / w.name).read_bytes()).hexdigest(), w.heldout, str(w.start))
        for w in data.windows
    ]
    assert {row[3] for row in rows} == {"0", "4/5"}
    sizes = {key: str(v) for key, v in asdict(shape).items()}
    text = json.dumps([READING, sizes, ("audio", "video"), rows], sort_keys=True)
    assert data.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:16]
