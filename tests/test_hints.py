"""Commands in messages work when they are copied, and all that is missing is named at once."""

import re
import shlex

import pytest

from mmdisco_cli import app
from mmdisco_cli.recipes import hints, missing
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.weights_file import PACKAGED

NAMES = ", ".join(sorted(file.stem for file in PACKAGED.glob("*.safetensors")))
NOBODY = f"no weights '{{}}', neither a file nor packaged (known: {NAMES})"


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hints.remember(None)


def said(capsys, *arguments):
    """Run a command that lacks something and return its lines."""
    assert app.run(arguments) == 4
    out, err = capsys.readouterr()
    assert out == ""
    return [line.removeprefix("error: ") for line in err.splitlines()]


def commands(lines):
    return [shlex.split(command) for line in lines for command in re.findall(r"`(mmdisco .*?)`", line)]


def test_all_that_a_recipe_lacks_is_named_in_the_order_in_which_it_is_made(capsys):
    summary, *lines = said(capsys, "sample", "--recipe", "clips", "--n", "2")
    assert summary == "recipe clips lacks 3 things; in this order:"
    keys = ["backbones.audio.weights", "backbones.video.weights", "sample.weights"]
    assert [line.split(": ")[0] for line in lines] == keys
    trained = ["clips-audio", "clips-video", "clips"]
    data = ["--set", "data.path=DIR"]
    assert commands(lines) == [["mmdisco", "train", "--recipe", name, *data] for name in trained]
    assert lines[-1].endswith("; or add --independent: the base models alone")


def test_one_thing_takes_one_line(capsys):
    (line,) = said(capsys, "sample", "--recipe", "gaussians")
    assert line == (
        "sample.weights: no runs/gaussians/train/discriminator.safetensors: the discriminator must be trained first: "
        "`mmdisco train --recipe gaussians`; or add --independent: the base models alone"
    )


def test_a_hint_of_eval_is_for_eval(capsys):
    (line,) = said(capsys, "eval", "--recipe", "gaussians")
    assert line.endswith("`mmdisco train --recipe gaussians`")


def test_what_training_shares_with_the_present_run_is_in_its_command(capsys, tmp_path):
    recipe = tmp_path / "of mine.yaml"
    recipe.write_text("extends: clips\nsample: {weights: runs/of mine/train/discriminator.safetensors}\n")
    settings = ["data.path=my clips; rm", "request.frames=8", "train.steps=3"]
    chosen = [word for text in settings for word in ("--set", text)]
    lines = said(capsys, "sample", "--recipe", str(recipe), *chosen)
    audio, video, own = commands(lines)
    assert audio[3:] == ["clips-audio", *chosen[:4]]
    assert video[3:] == ["clips-video", *chosen[:4]]
    assert own[3:] == [str(recipe), *chosen]


def test_the_clips_that_a_recipe_names_are_those_of_its_base_models(capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: clips\ndata: {name: clips, path: own}\n")
    lines = said(capsys, "train", "--recipe", "mine.yaml")
    assert [command[3:] for command in commands(lines)] == [
        ["clips-audio", "--set", "data.path=own"],
        ["clips-video", "--set", "data.path=own"],
    ]


def test_the_commands_are_understood_and_write_what_is_missing(capsys):
    for command in commands(said(capsys, "sample", "--recipe", "clips", "--set", "data.path=gone")):
        # Nothing is wrong with them but that the folder, or what an earlier one makes, is not there yet.
        assert app.run(command[1:]) == 4
        assert re.match("error: (gone: no such folder|recipe clips lacks 2 things)", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("runs/clips/train/discriminator.safetensors", ["clips", "--set", "data.path=DIR"]),
        ("/a b/runs/gaussians/train/discriminator.safetensors", ["gaussians", "--out", "/a b/runs/gaussians/train"]),
        ("runs/clips/train/backbone.safetensors", None),  # it trains a discriminator
        ("runs/nobody/train/discriminator.safetensors", None),
        ("runs/clips/eval/discriminator.safetensors", None),
        ("discriminator.safetensors", None),
    ],
)
def test_only_a_training_that_writes_the_very_file_is_advised(weights, words):
    command = hints.how_trained(weights)
    assert (command and shlex.split(command)[3:]) == words


def test_other_weights_that_are_not_there_are_named_together(capsys):
    settings = ["sample.weights=gone", "backbones.audio.weights=runs/nobody/train/backbone.safetensors"]
    chosen = [word for text in settings for word in ("--set", text)]
    summary, *lines = said(capsys, "sample", "--recipe", "bounce", *chosen)
    assert summary == "recipe bounce lacks 2 things; in this order:"
    assert lines == [
        f"backbones.audio.weights: {NOBODY.format('runs/nobody/train/backbone.safetensors')}",
        "sample.weights: no weights 'gone', neither a file nor packaged (did you mean bounce?)",
    ]


def test_a_plan_is_made_without_the_discriminator_alone(capsys):
    assert app.run(["sample", "--recipe", "gaussians", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("recipe gaussians: 16 samples")
    assert lines[-1].startswith("missing: sample.weights: no runs/gaussians/train/discriminator.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "--recipe", "bounce", "--set", "sample.weights=null"],
         "train it (`mmdisco train --recipe bounce --set sample.weights=null`) and give its file with "
         "--set sample.weights=runs/bounce/train/discriminator.safetensors, or sample the base models alone with"),
        (["sample", "--recipe", "clips-audio"],
         "train it (mmdisco train --recipe clips-audio --set data.path=DIR) and give its file with "
         "--set backbones.audio.weights=runs/clips-audio/train/backbone.safetensors"),
        (["sample", "--recipe", "bounce", "--set", "backbones.audio.weights=null"],
         "name its trained weights with --set backbones.audio.weights=PATH"),
    ],
)  # fmt: skip
def test_what_is_not_trained_yet_comes_with_the_whole_command(capsys, arguments, words):
    assert app.run(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_path_of_a_published_file_is_quoted():
    recipe = load("bounce", ["discriminator={name: paper-waveform}", "sample.weights=my weights/a.safetensors"])
    (entry,) = missing.missing_files(recipe)
    assert "then: mmdisco convert mmdiffusion_landscape.pt 'my weights/a.safetensors' --format " in str(entry)


def small_training(*more):
    settings = ["train.steps=2", "train.batch_size=4", "discriminator.width=8", "train.validate_every=0"]
    return ["train", *more, *(word for text in settings for word in ("--set", text))]


def test_whoever_trains_hears_of_other_weights_that_the_recipe_samples_with(capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: gaussians\n")
    assert app.run(small_training("--recipe", "mine.yaml")) == 0
    trained = "runs/mine/train/discriminator.safetensors"
    note = f"to sample and evaluate with the new weights, add --set sample.weights={trained}"
    assert f"note: sample.weights is runs/gaussians/train/discriminator.safetensors: {note}" in capsys.readouterr().err
    (line,) = said(capsys, "sample", "--recipe", "mine.yaml")
    assert f"; or use what was trained: --set sample.weights={trained}; or add --independent" in line
    assert app.run(["sample", "--recipe", "mine.yaml", "--n", "1", "--set", f"sample.weights={trained}"]) == 0


def test_nothing_is_said_where_the_recipe_samples_with_what_was_trained(capsys):
    assert app.run(small_training("--recipe", "gaussians")) == 0
    assert "sample.weights" not in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "first"), [("bounce", "bounce-second"), ("digits", "digits-both")])
def test_the_leg_that_training_goes_on_from_is_named(recipe, first, capsys):
    assert app.run(["train", "--recipe", recipe, "--dry-run"]) == 4
    said = capsys.readouterr().err
    named = f"train.init: no runs/{first}/train/discriminator.safetensors: what training goes on from must be trained"
    assert said.startswith(f"error: {named} first: `mmdisco train --recipe {first}")
    assert app.run(["train", "--recipe", recipe, "--dry-run", "--set", "train.init=gone"]) == 4
    assert "train.init: no weights 'gone'" in capsys.readouterr().err


def test_what_lies_beside_a_recipe_of_another_folder_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "own" / "weights" / "a.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"")
    (tmp_path / "own" / "mine.yaml").write_text(
        "extends: bounce\nbackbones: {audio: {name: token, weights: weights/a.safetensors}}\n"
    )
    assert app.run(["sample", "--recipe", "own/mine.yaml"]) == 4
    advice = "own/weights/a.safetensors is there, but paths count from the folder in which you are: run it in own"
    assert advice in capsys.readouterr().err
    weights.unlink()
    assert app.run(["sample", "--recipe", "own/mine.yaml"]) == 4
    assert "is there, but" not in capsys.readouterr().err
