"""What the command line says of recipes and entries: every key, its type, default, bounds and meaning."""

import json
import os
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from mmdisco_cli import app
from mmdisco_cli.errors import ExitCode
from mmdisco_cli.recipes.recipe import load, packaged
from mmdisco_cli.recipes.reference import option_keys, recipe_keys, snippet
from mmdisco_cli.registry.plugins import load_registry

ENTRIES = [(kind, spec) for plugin in load_registry().plugins for kind, spec in plugin.entries]


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert app.run(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_every_key_of_a_recipe_is_listed_with_its_meaning() -> None:
    keys = recipe_keys()
    assert all(key.doc for key in keys)
    assert {"name", "extends", "train.noise_levels.mean", "sample.given.joint_steps", "eval.n"} <= {k.key for k in keys}
    plain = load("bounce").to_dict()
    for key in keys:
        value = plain
        for part in key.key.split(".") if key.key != "extends" else ():
            value = value[part]  # each is a key of a resolved recipe


@pytest.mark.parametrize("key", [k for k in recipe_keys() if k.default and k.key != "name"], ids=lambda k: k.key)
def test_a_default_as_shown_is_the_default(key) -> None:
    section, name = key.key.rsplit(".", 1) if "." in key.key else ("", key.key)
    owner = load("gaussians")
    for part in section.split(".") if section else ():
        owner = getattr(owner, part)
    field = next(f for f in fields(owner) if f.name == name)
    default = field.default_factory() if callable(field.default_factory) else field.default
    shown = yaml.safe_load(key.default)
    assert (tuple(shown) if isinstance(shown, list) else shown) == default


def test_bounds_and_choices_are_those_that_validation_keeps() -> None:
    by_name = {key.key: key for key in recipe_keys()}
    assert by_name["train.ema"].limits == "0 to 1"
    assert by_name["train.steps"].limits == "at least 1"
    assert by_name["train.fakes"].choices == ("shuffled", "generated", "mixed")
    assert by_name["sample.window"].type == "list of 2 numbers"
    assert by_name["sample.guidance"].type == "mapping of numbers"


@pytest.mark.parametrize(("kind", "spec"), ENTRIES, ids=lambda value: getattr(value, "name", value))
def test_every_option_of_every_entry_has_a_meaning_and_the_entry_a_way_to_name_it(kind, spec) -> None:
    assert all(key.doc for key in option_keys(spec))
    written = snippet(kind, spec)
    assert spec.name in written
    if kind in ("backbone", "dataset", "discriminator", "protocol"):
        assert isinstance(yaml.safe_load(written), dict)


def test_a_section_of_the_keys(capsys) -> None:
    assert lines(capsys, "recipes", "keys", "sample.given") == [
        "sample.given.guidance      mapping of numbers   -  weights in place of those of sample.guidance",
        "sample.given.joint_steps   mapping of integers  -  in place of sample.joint_steps where these are sampled; "
        "of several the most (at least 1)",
        "sample.given.joint_window  list of 2 numbers    -  in place of sample.joint_window",
    ]
    assert [json.loads(line)["key"] for line in lines(capsys, "recipes", "keys", "train.ema", "--json")] == [
        "train.ema"
    ]


@pytest.mark.parametrize(
    ("section", "hint"),
    [("trian", "did you mean train"), ("data.path", "mmdisco plugins NAME"), ("train.stepps", "train.steps")],
)
def test_an_unknown_section_says_what_is_meant(section, hint, capsys) -> None:
    assert app.run(["recipes", "keys", section]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert hint in error
    assert error.count("\n") == 1


def test_an_entry_is_described_by_its_name_and_by_its_distribution(capsys) -> None:
    shown = lines(capsys, "plugins", "token")
    assert shown[0].startswith("backbone token of mmdisco-cli: ")
    assert any(line.split()[:4] == ["codec", "text", "sound", "how"] for line in shown)
    assert lines(capsys, "plugins", "mmdisco-cli:token") == shown
    both = lines(capsys, "plugins", "bounce")
    assert [line.split()[0] for line in both if " of mmdisco-cli: " in line] == ["dataset", "protocol"]
    found = [json.loads(line) for line in lines(capsys, "plugins", "token", "--json")]
    assert [option["key"] for option in found[0]["options"]][:2] == ["weights", "codec"]
    assert "name: token" in found[0]["usage"]


def test_a_distribution_is_listed_alone(capsys) -> None:
    everything, own = lines(capsys, "plugins"), lines(capsys, "plugins", "mmdisco-cli")
    assert set(own) <= set(everything)
    assert sum(not line.startswith(" ") for line in own) == 1


def test_an_unknown_entry_says_what_is_meant(capsys) -> None:
    assert app.run(["plugins", "tokn"]) == ExitCode.PLUGIN
    assert "no plugin provides 'tokn' (did you mean token" in capsys.readouterr().err


SAMPLE_GIVEN = ["sample.given", *(key.key for key in recipe_keys("sample.given"))]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["mmdisco", "sample", "--recipe", "bounce-a"], ["bounce-audio"]),
        (["mmdisco", "train", "--recipe", "gauss"], [n for n in packaged() if n.startswith("gauss")]),
        (["mmdisco", "eval", "--set", "train.ca"], []),
        (["mmdisco", "eval", "--set", "train.lambda_"], ["train.lambda_disc=", "train.lambda_denoise="]),
        (["mmdisco", "train", "--set", "train.fakes=m"], ["train.fakes=mixed"]),
        (["mmdisco", "recipes", "cat", "bounce-v"], ["bounce-video"]),
        (["mmdisco", "recipes", "copy", "bounce-v"], ["bounce-video"]),
        (["mmdisco", "recipes", "keys", "sample.giv"], SAMPLE_GIVEN),
        (["mmdisco", "plugins", "gaussian-m"], ["gaussian-mixture"]),
        (["mmdisco", "info", "--docs", "spe"], ["speed"]),
    ],
)
def test_a_shell_completes_names_of_recipes_keys_and_choices(words, found) -> None:
    shell = {"_MMDISCO_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "from mmdisco_cli.app import run; raise SystemExit(run())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **shell}, timeout=60
    )
    assert done.stdout.split() == found


@pytest.mark.parametrize("arguments", [["-h"], ["sample", "-h"], ["recipes", "keys", "-h"]])
def test_help_has_a_short_name(arguments, capsys) -> None:
    long = lines(capsys, *["--help" if argument == "-h" else argument for argument in arguments])
    assert lines(capsys, *arguments) == long


def test_short_names_of_the_options_that_are_typed_most(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    plan = lines(capsys, "sample", "--recipe", "bounce", "-n", "3", "-o", "here", "--dry-run", "--json")
    assert "here" in plan[0]
    assert '"n": 3' in plan[0] or '"samples": 3' in plan[0]
