"""A plugin's protocol is named by a recipe, measures and reports without anything in the package knowing of it."""

import json

import pytest

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.errors import ExitCode

pytestmark = pytest.mark.usefixtures("in_empty_folder")
PLUGIN = """
from mmdisco_cli.hookspecs import ProtocolSpec, hookimpl, lazy

@hookimpl
def mmdisco_protocols():
    yield ProtocolSpec("sizes", "how many steps a recipe takes", lazy("mmdisco_sizes:build"), api_version=1)

def evaluate(recipe, options, ranks):
    from mmdisco_cli.evaluation.protocol import Report
    print("a plugin prints")
    if not ranks.first:
        return None
    metrics = {"steps": recipe.sample.steps, "seed": recipe.eval.seed}
    return Report(recipe.eval.n, metrics, {"seed": recipe.eval.seed, "out": options.out.is_dir()}, ["steps!"])

def build():
    from mmdisco_cli.evaluation.protocol import Protocol
    return Protocol(("steps", "seed"), evaluate, takes_samples=TAKES)
"""
ARGUMENTS = ["eval", "--recipe", "gaussians", "--set", "eval.protocol=sizes", "--set", "eval.n=3"]


@pytest.fixture
def plugin(make_plugin, monkeypatch):
    monkeypatch.delenv("MMDISCO_PLUGINS", raising=False)
    make_plugin("mmdisco-sizes", PLUGIN.replace("TAKES", "False"))


def said_of(capsys, *arguments):
    code = mmdisco([*ARGUMENTS, *arguments])
    return code, capsys.readouterr().err


def refused(capsys, *arguments):
    code, said = said_of(capsys, *arguments)
    assert code == ExitCode.USAGE
    return said


def test_a_plugins_protocol_measures(plugin, capsys):
    assert mmdisco([*ARGUMENTS, "--json", "--metrics", "steps", "--set", "sample.steps=7"]) == ExitCode.OK
    printed = capsys.readouterr()
    content = json.loads(printed.out.splitlines()[-1])
    assert (content["recipe"], content["n"], content["metrics"]) == ("gaussians", 3, {"steps": 7})
    assert content["protocol"] == {"name": "sizes", "seed": 0, "out": True}
    assert "steps!" in printed.err
    assert mmdisco(["plugins"]) == ExitCode.OK
    listed = capsys.readouterr().out
    assert "protocol      sizes               how many steps a recipe takes" in listed
    assert all(f"protocol      {name} " in listed for name in ("bounce", "clips", "gaussians", "gaussians-ablation"))


def test_what_a_protocol_does_not_take_is_refused(plugin, capsys):
    said = "eval.protocol: sizes measures no clips: --samples would do nothing"
    assert said in refused(capsys, "--samples", "x")
    assert "--metrics step: unknown (did you mean steps? known: steps, seed)" in refused(capsys, "--metrics", "step")
    assert "--extractor measures clips" in refused(capsys, "--extractor", "effnet")


def test_an_unknown_protocol_names_those_that_are_close(plugin, capsys):
    for name, close in (("size", "sizes"), ("gausians", "gaussians")):
        code, said = said_of(capsys, "--set", f"eval.protocol={name}")
        assert code == ExitCode.PLUGIN
        assert f"eval.protocol: unknown protocol '{name}' (did you mean {close}" in said
    assert "eval.protocol: expected text, got '3'" in refused(capsys, "--set", "eval.protocol=3")


def test_a_protocol_that_fails_takes_no_other_down(make_plugin, capsys):
    make_plugin("mmdisco-sizes", PLUGIN.replace("TAKES", "1 / 0"))
    code, said = said_of(capsys)
    assert code == ExitCode.PLUGIN
    assert "plugin mmdisco-sizes 1.0: 'sizes': ZeroDivisionError" in said
