"""Converters of plugins: each has its say about a checkpoint, and none takes another down."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from mmdisco_cli import app
from mmdisco_cli.conversion.contract import Candidate
from mmdisco_cli.registry import plugins
from mmdisco_cli.weights_file import any_about

BODY = """
from mmdisco_cli.hookspecs import ConverterSpec, Published, hookimpl

def build(format, shapes, file):
    # build
    from mmdisco_cli.conversion.contract import Candidate
    about = {"kind": "backbone", "architecture": format}
    return [Candidate("a tone", {"pitch": (2,), "loudness": (3,)}, about, note=f"{format} of {file}")]

@hookimpl
def mmdisco_converters():
    yield ConverterSpec("tone", "tones", lambda: build, 1, published=(Published("t.pt", "a tone", "x", "1 kB"),))
"""
TENSORS = {"pitch": torch.ones(2), "loudness": torch.zeros(3)}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMDISCO_PLUGINS", raising=False)
    return tmp_path


def convert(capsys, tensors, *options):
    torch.save(tensors, "x.pt")
    code = app.run(["convert", "x.pt", "y.safetensors", *options])
    return code, capsys.readouterr().err


def test_a_plugin_converts_its_own(make_plugin, capsys, folder):
    make_plugin("mmdisco-tone", BODY)
    code, error = convert(capsys, TENSORS)
    assert (code, error) == (0, "a tone: 2 tensors, 5 parameters\ntone of x.pt\n")
    assert load_file("y.safetensors").keys() == TENSORS.keys()
    about = any_about(folder / "y.safetensors")
    assert (about["architecture"], about["source"]["file"]) == ("tone", "x.pt")
    for name in ("tone", "mmdisco-tone:tone"):
        assert convert(capsys, TENSORS, "--format", name) == (0, "a tone: 2 tensors, 5 parameters\n")


def test_it_is_listed(make_plugin, capsys):
    make_plugin("mmdisco-tone", BODY)
    assert app.run(["plugins", "--json"]) == 0
    rows = {row["distribution"]: row["entries"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["mmdisco-tone"] == [{"kind": "converter", "name": "tone", "summary": "tones", "modalities": []}]
    own = [entry["name"] for entry in rows["mmdisco-cli"] if entry["kind"] == "converter"]
    assert "mmdiffusion_landscape" in own
    assert app.run(["plugins"]) == 0
    assert "  converter     auffusion_videocrafter2_vggsound  the paper's discriminator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise ArithmeticError('no such pitch')", "no such pitch"),
        ("raise KeyError('pitch')", "pitch"),
        ("raise SystemExit(3)", "SystemExit"),
        ("return [1]", "it gives [1], not a sequence of Candidate"),
        ("return iter(())", "not a sequence of Candidate"),
    ],
)
def test_one_that_fails_loses_only_its_own_say(fault, said, make_plugin, capsys):
    make_plugin("mmdisco-broken", BODY.replace('"tone", "tones"', '"hum", "hums"').replace("# build", fault))
    make_plugin("mmdisco-tone", BODY)
    assert convert(capsys, TENSORS)[0] == 0
    code, error = convert(capsys, {"unlike": torch.ones(1)})
    assert code == 4
    assert error.startswith("error: x.pt: looks like a tone, but 3 tensors do not fit")
    code, error = convert(capsys, TENSORS, "--format", "hum")
    assert code == 3
    assert error.startswith("error: plugin mmdisco-broken 1.0: ")
    assert said in error


def test_failures_are_named_where_nothing_else_is_known(make_plugin, capsys):
    make_plugin("mmdisco-broken", BODY.replace("# build", "raise ArithmeticError('no such pitch')"))
    code, error = convert(capsys, TENSORS)
    assert code == 4
    assert "no network that mmdisco knows; its 2 tensors begin with pitch (float32 (2,)), loudness" in error
    assert "converter tone failed: " in error
    assert "no such pitch" in error
    assert error.count("\n") == 1


def test_of_two_that_fit_alike_the_one_that_is_asked_for_is_taken(make_plugin, capsys, folder):
    make_plugin("mmdisco-a", BODY)
    make_plugin("mmdisco-b", BODY.replace('"tone", "tones"', '"hum", "hums"'))
    for name in ("tone", "hum"):
        assert convert(capsys, TENSORS, "--format", name)[0] == 0
        assert any_about(folder / "y.safetensors")["architecture"] == name


def test_two_of_one_name_are_distinguished_by_their_plugins(make_plugin, capsys):
    make_plugin("mmdisco-a", BODY)
    make_plugin("mmdisco-b", BODY)
    code, error = convert(capsys, TENSORS, "--format", "tone")
    assert code == 3
    assert "mmdisco-a:tone or mmdisco-b:tone" in error
    assert convert(capsys, TENSORS, "--format", "mmdisco-b:tone")[0] == 0


def test_without_plugins_it_is_said_that_they_convert_more(monkeypatch, capsys):
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    code, error = convert(capsys, {"input_blocks.0.0.weight": torch.ones(1, 2, 3)})
    assert code == 4
    assert error == (
        "error: x.pt: no network that mmdisco knows; its 1 tensors begin with input_blocks.0.0.weight "
        "(float32 (1, 2, 3)); plugins provide converters for more "
        "(in a clone of mmdisco: pip install ./plugins/mmdisco-mmdiffusion)\n"
    )
    code, error = convert(capsys, TENSORS, "--format", "mmdiffusion-unet")
    assert code == 3
    assert "unknown converter 'mmdiffusion-unet': in a clone of mmdisco: pip install ./plugins/" in error
    code, error = convert(capsys, TENSORS, "--format", "mmdiffusion_landscap")
    assert code == 2
    assert "--format mmdiffusion_landscap: unknown (did you mean mmdiffusion_landscape or " in error


def test_what_is_left_out_or_broken_is_named(make_plugin, monkeypatch, capsys):
    make_plugin("mmdisco-tone", BODY)
    monkeypatch.setenv("MMDISCO_PLUGINS", "")
    code, error = convert(capsys, TENSORS)
    assert code == 4
    assert re.search(r"plugins? [^;]*mmdisco-tone (is|are) left out by MMDISCO_PLUGINS", error)


def test_misfits_are_counted_both_ways():
    candidate = Candidate("a tone", {"pitch": (2,), "loudness": (3,)}, {})
    found = {"pitch": (4,), "extra": (1,)}
    assert candidate.misfits(found) == ["missing loudness", "surplus extra", "pitch is (4,), not (2,)"]
