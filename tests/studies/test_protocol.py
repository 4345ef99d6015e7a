"""A study by the command line: its rows are those that train and eval give one by one, and go on where they stopped."""

import json
from pathlib import Path

import pytest

from mmdisco_cli import app
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.options import EvalOptions, TrainOptions

STUDY = """
extends: gaussians
name: two-losses
train: {steps: 6, batch_size: 64}
sample: {steps: 4}
eval: {protocol: study, n: 64}
study:
  protocol: gaussians
  metrics: [residual_error, mass_on_modes.guided, mass_on_modes.independent]
  rows:
    both: []
    "(4) alone": [train.lambda_denoise=0]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.mark.slow
def test_rows_are_what_train_and_eval_give(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmdisco_cli.evaluation.run import measure
    from mmdisco_cli.training.run import train_recipe

    assert app.run(["eval", "--recipe", "study.yaml", "--out", "out"]) == 0
    shown = capsys.readouterr().err
    found = json.loads((here / "out/study.json").read_text())
    for row, settings in (("both", []), ("(4) alone", ["train.lambda_denoise=0"])):
        one = recipes.load("gaussians", [
            "train.steps=6", "train.batch_size=64", "sample.steps=4", "eval.n=64",
            "sample.weights=alone/discriminator.safetensors", *settings,
        ])  # fmt: skip
        train_recipe(one, TrainOptions(out=Path("alone"), fresh=True))
        metrics = measure(one, EvalOptions(out=Path("alone-eval"))).content["metrics"]
        assert found[row]["residual_error"] == pytest.approx(metrics["residual_error"], rel=1e-6)
        for way in ("guided", "independent"):
            assert found[row][f"mass_on_modes.{way}"] == pytest.approx(metrics["mass_on_modes"][way], rel=1e-6)
        assert f"| {row} | " in (here / "out/study.md").read_text()
    assert found["both"]["residual_error"] != found["(4) alone"]["residual_error"]
    assert "row 2 of 2: (4) alone" in shown


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["eval", "--recipe", "study.yaml", "--out", "out"]) == 0
    weights = sorted(here.glob("out/*/train/discriminator.safetensors"))
    before, figures = [path.stat().st_mtime_ns for path in weights], (here / "out/study.json").read_text()
    assert len(before) == 2
    capsys.readouterr()
    assert app.run(["eval", "--recipe", "study.yaml", "--out", "out"]) == 0
    assert [path.stat().st_mtime_ns for path in weights] == before
    assert (here / "out/study.json").read_text() == figures
    cost = json.loads((here / "out/both/train/cost.json").read_text())
    assert cost > 0


def test_a_metric_that_the_rows_do_not_have(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "study.yaml").write_text(STUDY.replace("residual_error", "residual_eror"))
    assert app.run(["eval", "--recipe", "study.yaml", "--out", "out"]) == 2
    assert "gaussians has no 'residual_eror' (did you mean residual_error?)" in capsys.readouterr().err
    assert not (here / "out/both").exists()


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("mass_on_modes.guidd", "(did you mean mass_on_modes.guided"),
        ("mass_on_modes", "(did you mean mass_on_modes."),
    ],
)
def test_a_column_without_figures_is_warned_of_after_the_first_row(here: Path, capsys, column: str, said: str) -> None:
    text = STUDY.replace("mass_on_modes.guided", column).replace("train: {steps: 6", "train: {steps: 1")
    (here / "study.yaml").write_text(text)
    assert app.run(["eval", "--recipe", "study.yaml", "--out", "out"]) == 0
    err = capsys.readouterr().err
    warning = next(line for line in err.splitlines() if "no figure of row both" in line)
    assert f"study.metrics: {column}: no figure of row both" in warning
    assert said in warning
    assert err.index(warning) < err.index("row 2 of 2")
