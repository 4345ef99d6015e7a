"""A plugin that is broken, old, blocked or a duplicate never takes another down, and is always named."""

import inspect
import json
import re

import pytest

from mmdisco_cli import app
from mmdisco_cli.errors import PluginError
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.registry.plugin import Plugin
from mmdisco_cli.registry.plugins import Registry, load_registry

GOOD = """
from dataclasses import dataclass
from mmdisco_cli.hookspecs import BackboneSpec, hookimpl, lazy

@dataclass(frozen=True)
class Options:
    pitch: float = 440.0

@hookimpl
def mmdisco_backbones():
    yield BackboneSpec("tone", "a pure tone", Options, lazy("json:loads"), api_version=1, modalities=("audio",))
"""
RECIPE = "backbones: {audio: {name: %s}}\n"


@pytest.fixture(autouse=True)
def all_plugins(monkeypatch):
    monkeypatch.delenv("MMDISCO_PLUGINS", raising=False)


def plugin(distribution: str) -> Plugin:
    return next(p for p in load_registry().plugins if p.distribution == distribution)


def test_builtins_come_through_the_same_hooks():
    kinds = {"backbone", "discriminator", "dataset", "extractor", "converter", "protocol", "kind"}
    assert {kind for kind, _ in plugin("mmdisco-cli").entries} == kinds


def test_a_good_plugin_provides_what_it_describes(make_plugin, tmp_path):
    make_plugin("mmdisco-tone", GOOD)
    (tmp_path / "r.yaml").write_text(RECIPE % "tone")
    recipe = load(str(tmp_path / "r.yaml"), ["backbones.audio.pitch=220"])
    assert recipe.backbones["audio"].options.pitch == 220
    assert recipe.backbones["audio"].factory()("[1]") == [1]
    assert recipe.modalities == ("audio",)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Odd(BaseException): pass\nraise Odd('own')", "Odd: own"),
        ("def broken(:", "SyntaxError"),
        (GOOD.replace("def mmdisco_backbones", "def mmdisco_backbone"), "unknown hook 'mmdisco_backbone'"),
        (
            GOOD.replace("api_version=1", "api_version=0"),
            "speaks plugin API 0, this host 1 to 1: the plugin is too old",
        ),
        (GOOD.replace("api_version=1", "api_version=9"), "speaks plugin API 9, this host 1 to 1: mmdisco-cli"),
        (GOOD.replace("yield", "raise ValueError(").replace('("audio",))', '("audio",)))'), "ValueError"),
        (GOOD.replace("Options, lazy", "int, lazy"), "must be a dataclass"),
        (GOOD.replace("pitch: float", "pitch: 'Float'"), "NameError: name 'Float' is not defined"),
        (GOOD.replace('"tone"', '"a:b"'), "'a:b' cannot be a name"),
        (GOOD + "    yield from [*mmdisco_backbones.twin()]\n", "AttributeError"),
        (GOOD.replace("yield BackboneSpec", "return [1] or BackboneSpec"), "must give BackboneSpec, not int"),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_load(make_plugin, body, cause):
    make_plugin("mmdisco-broken", body)
    make_plugin("mmdisco-tone", GOOD)
    broken = plugin("mmdisco-broken")
    assert broken.status == "failed"
    assert broken.entries == ()
    assert cause in broken.cause
    assert "\n" not in broken.cause
    assert plugin("mmdisco-tone").status == "loaded"


LOUD = """
print("hello from the import")

def build(label, *, progress=None):
    print("hello from build")
    return label
"""


def test_what_a_plugin_prints_stays_out_of_the_results(make_plugin, tmp_path, capsys):
    (tmp_path / "loud_model.py").write_text(LOUD)
    described = 'lazy("loud_model:build"), outline=lazy("loud_model:build"), '
    body = "print('hello')\n" + GOOD.replace("    yield", "    print('hello again')\n    yield")
    make_plugin("mmdisco-loud", body.replace('lazy("json:loads"), ', described))
    assert app.run(["plugins", "--json"]) == 0
    shown = capsys.readouterr()
    assert "mmdisco-loud" in {json.loads(line)["distribution"] for line in shown.out.splitlines()}
    assert shown.err == "hello\nhello again\n"

    spec = load_registry().find("backbone", "tone")
    capsys.readouterr()
    for load_it in (spec.factory, spec.outline):
        build = load_it()
        # Data sets are given what their factories have parameters for.
        assert list(inspect.signature(build).parameters) == ["label", "progress"]
        assert build("audio") == "audio"
    print("a result")
    shown = capsys.readouterr()
    assert shown.out == "a result\n"
    assert shown.err == "hello from the import\nhello from build\nhello from build\n"


def test_an_interrupt_names_the_plugin_that_was_loading(make_plugin, capsys):
    make_plugin("mmdisco-slow", "raise KeyboardInterrupt", version="2.5")
    with pytest.raises(KeyboardInterrupt):
        load_registry()
    assert capsys.readouterr().err == "interrupted while plugin mmdisco-slow 2.5 was loading\n"


def test_a_recipe_that_needs_a_broken_plugin_says_why(make_plugin, tmp_path):
    make_plugin("mmdisco-tone", "import nothing_of_that_name", version="2.5")
    (tmp_path / "r.yaml").write_text(RECIPE % "tone")
    with pytest.raises(PluginError, match=r"r\.yaml:1:27: backbones\.audio\.name: unknown backbone 'tone'.*") as error:
        load(str(tmp_path / "r.yaml"))
    assert "plugin mmdisco-tone 2.5 failed: ModuleNotFoundError" in str(error.value)
    assert error.value.exit_code == 3


def test_the_advice_on_duplicates_keeps_the_options(make_plugin, tmp_path):
    make_plugin("mmdisco-one", GOOD)
    make_plugin("mmdisco-two", GOOD.replace("a pure tone", "another"))
    (tmp_path / "r.yaml").write_text("backbones: {audio: {name: tone, pitch: 220}}\n")
    for owner, other in (("mmdisco-one", "mmdisco-two"), ("mmdisco-two", "mmdisco-one")):
        overrides = [f"backbones.audio.name={other}:tone", f"backbones.audio.name={owner}:tone"]
        component = load(str(tmp_path / "r.yaml"), overrides).backbones["audio"]
        assert (component.name, component.options.pitch) == (f"{owner}:tone", 220)
    (tmp_path / "s.yaml").write_text(f"extends: {tmp_path}/r.yaml\nbackbones: {{audio: {{name: mmdisco-one:tone}}}}\n")
    assert load(str(tmp_path / "s.yaml")).backbones["audio"].options.pitch == 220


def test_duplicates_name_both_and_can_be_distinguished(make_plugin):
    make_plugin("mmdisco-one", GOOD)
    make_plugin("mmdisco-two", GOOD.replace("a pure tone", "another"))
    registry = load_registry()
    with pytest.raises(PluginError, match="by mmdisco-one and mmdisco-two: write mmdisco-one:tone or mmdisco-two:tone"):
        registry.find("backbone", "tone")
    assert registry.find("backbone", "mmdisco-two:tone").summary == "another"
    assert registry.find("backbone", "MMDisco_two:tone").summary == "another"


@pytest.mark.parametrize(
    ("value", "status"), [("", "blocked"), ("mmdisco-other", "blocked"), ("x, MMDisco_Tone", "loaded")]
)
def test_the_variable_chooses_distributions(make_plugin, monkeypatch, value, status):
    make_plugin("mmdisco-tone", GOOD)
    monkeypatch.setenv("MMDISCO_PLUGINS", value)
    assert plugin("mmdisco-tone").status == status
    assert plugin("mmdisco-cli").status == "loaded"


def test_a_blocked_or_missing_plugin_is_named_where_it_is_needed(make_plugin, monkeypatch):
    make_plugin("mmdisco-tone", GOOD)
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-gone")
    with pytest.raises(PluginError) as error:
        load_registry().find("backbone", "tone")
    assert re.search(r"plugins? [^;]*mmdisco-tone (is|are) left out by MMDISCO_PLUGINS", str(error.value))
    assert "mmdisco-gone, named by MMDISCO_PLUGINS, is not installed" in str(error.value)


def test_plugins_that_are_left_out_are_said_once_and_which_of_them_it_takes(tmp_path):
    left_out = [Plugin(name, "1", "blocked") for name in ("mmdisco-diffusers", "mmdisco-one", "mmdisco-two")]
    registry = Registry((plugin("mmdisco-cli"), *left_out))
    (tmp_path / "r.yaml").write_text("backbones:\n  audio: {name: stable-audio}\n  video: {name: mine}\n")
    with pytest.raises(PluginError) as error:
        load(str(tmp_path / "r.yaml"), registry=registry)
    first, second = str(error.value).splitlines()
    assert first.endswith(
        "backbones.audio.name: unknown backbone 'stable-audio': mmdisco-diffusers provides it; "
        "plugins mmdisco-diffusers, mmdisco-one and mmdisco-two are left out by MMDISCO_PLUGINS"
    )
    assert "unknown backbone 'mine' (known: " in second
    assert "MMDISCO_PLUGINS" not in second


def test_close_matches():
    with pytest.raises(PluginError, match=r"unknown discriminator 'enrgy' \(did you mean energy\?\)"):
        load_registry().find("discriminator", "enrgy")


def test_help_version_and_list_work_with_a_broken_plugin(make_plugin, cli, tmp_path):
    make_plugin("mmdisco-broken", "raise SystemExit(9)")
    for arguments in (["--help"], ["--version"], ["plugins"], ["recipes", "ls"]):
        assert cli(*arguments, path=(tmp_path,)).returncode == 0
    listed = [json.loads(line) for line in cli("plugins", "--json", path=(tmp_path,)).stdout.splitlines()]
    statuses = {entry["distribution"]: entry["status"] for entry in listed}
    assert statuses["mmdisco-cli"] == "loaded"
    assert statuses["mmdisco-broken"] == "failed"
