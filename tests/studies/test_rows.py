"""Rows of a study as recipes, and what is refused before anything is trained."""

from pathlib import Path

import pytest

from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.studies.rows import rows_of

STUDY = """
extends: digits
name: tried
data: {name: digits, pairs: 50}
eval: {protocol: study, n: 12}
study:
  protocol: digits
  bases: {image: digits-image, audio: digits-audio}
  metrics: [agreement.guided]
  rows:
    plain: []
    wrong: [data.wrong=0.5, train.steps=7]
    slanted: ["image:data.slant=0.4", "image:train.steps=9", data.wrong=0.1]
    slanted, (4) alone: ["image:train.steps=9", "image:data.slant=0.4", train.lambda_denoise=0]
"""


def study(tmp_path: Path, text: str = STUDY) -> recipes.Recipe:
    path = tmp_path / "tried.yaml"
    path.write_text(text)
    return recipes.load(str(path))


def test_a_row_is_the_recipe_under_its_settings(tmp_path: Path) -> None:
    whole = study(tmp_path)
    plain, wrong, slanted, _ = rows_of(whole)
    first = plain.recipe(whole, {})
    assert (first.name, first.eval.protocol, first.eval.n, first.study.rows) == ("tried-plain", "digits", 12, {})
    assert first.data == whole.data
    assert first.train == whole.train
    second = wrong.recipe(whole, {})
    assert (second.data.options.wrong, second.train.steps, second.data.options.pairs) == (0.5, 7, 50)
    third = slanted.recipe(whole, {"image": "some/where.safetensors"})
    assert third.backbones["image"].options.weights == "some/where.safetensors"
    assert third.backbones["audio"] == whole.backbones["audio"]
    assert third.data.options.slant == 0  # the pairs stay as they are


def test_base_models_are_trained_once_on_the_data_of_the_study(tmp_path: Path) -> None:
    plain, _, slanted, alone = rows_of(study(tmp_path))
    assert plain.bases == {}
    base = slanted.bases["image"]
    assert (base.train.target, base.train.steps) == ("backbone", 9)
    assert (base.data.options.pairs, base.data.options.slant) == (50, 0.4)
    assert base.eval.protocol != "study"
    assert alone.bases["image"] == base  # in another order, under the same name


@pytest.mark.parametrize(
    ("old", "new", "message", "kind"),
    [
        ("data.wrong=0.1", "data.wrnog=0.1", "unknown key (did you mean wrong?)", UsageError),
        ("data.wrong=0.1", "data.wrong=3", "must be at most 1", UsageError),
        ("image:data.slant=0.4", "imgae:data.slant=0.4", "no recipe for 'imgae' (did you mean image?)", UsageError),
        ("image:data.slant=0.4", "image:data.slnat=0.4", "unknown key (did you mean slant?)", UsageError),
        ("data.wrong=0.1", "discriminator.name=facors", "facors", PluginError),
        ("wrong: [", "Plain?: []\n    plain!: [", "too much like another", UsageError),
        ("image: digits-image", "image: digits-imgae", "no recipe 'digits-imgae'", UsageError),
    ],
)
def test_a_mistake_is_one_line_that_names_the_row(
    tmp_path: Path, old: str, new: str, message: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        rows_of(study(tmp_path, STUDY.replace(old, new, 1)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("study.")


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^study\.rows: is empty"):
        rows_of(study(tmp_path, STUDY.split("  rows:")[0]))


def test_no_row_has_the_folder_of_what_all_rows_share(tmp_path: Path) -> None:
    found = rows_of(study(tmp_path, STUDY.replace("plain: []", "bank: []\n    bases: [train.steps=3]")))
    assert [row.folder for row in found[:2]] == ["bank-row", "bases-row"]
