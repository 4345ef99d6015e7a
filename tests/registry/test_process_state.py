"""What a plugin changes of the whole process is set back and said: no other recipe hangs on what is installed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.registry.process_state import undisturbed

CHANGES = {
    "torch's default dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "torch's default device": "import torch; torch.set_default_device('meta')",
    "torch's grad mode": "import torch; torch.set_grad_enabled(False)",
    "torch's deterministic algorithms": "import torch; torch.use_deterministic_algorithms(True)",
    "torch's precision of matrix products": "import torch; torch.set_float32_matmul_precision('medium')",
    "torch's choice of convolutions": "import torch; torch.backends.cudnn.benchmark = True",
    "torch's anomaly detection": "import torch; torch.autograd.set_detect_anomaly(True)",
    "numpy's way with errors": "import numpy; numpy.seterr(all='raise')",
    "the working directory": "import os; os.chdir('/')",
    "handlers of signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
}
KNOWN_LATER = {
    "torch's threads": "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch's random numbers": "import torch; torch.manual_seed(5)",
}
"""What nobody knows the beginning of where the plugin is the first to import torch."""
TONE = """
from dataclasses import dataclass
from mmdisco_cli.hookspecs import BackboneSpec, hookimpl, lazy

@dataclass(frozen=True)
class Options:
    pitch: float = 440.0

@hookimpl
def mmdisco_backbones():
    yield BackboneSpec("tone", "", Options, lazy("tone_model:build"), api_version=1)
"""
FIRST = """
import sys
from mmdisco_cli.registry.plugins import load_registry
statuses = {plugin.distribution: plugin.status for plugin in load_registry().plugins}
assert statuses["mmdisco-odd"] == "loaded", statuses
if "torch" in sys.modules:
    import torch
    print(torch.get_default_dtype(), torch.zeros(1).device, torch.is_grad_enabled(), torch.is_anomaly_enabled())
    print(torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision())
"""


def state() -> tuple[object, ...]:
    """Return all that is looked at, read otherwise than by the code that is tested."""
    return (
        torch.get_default_dtype(), torch.zeros(1).device, torch.zeros(1).dtype, torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(), torch.get_num_threads(),
        torch.backends.cudnn.benchmark, torch.is_anomaly_enabled(), torch.get_rng_state().tolist(), np.geterr(),
        Path.cwd(), signal.getsignal(signal.SIGTERM),
    )  # fmt: skip


@pytest.mark.parametrize("name", [*CHANGES, *KNOWN_LATER])
def test_what_loading_changes_is_set_back_and_the_plugin_named(make_plugin, monkeypatch, capsys, name):
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-odd")
    make_plugin("mmdisco-odd", {**CHANGES, **KNOWN_LATER}[name] + TONE, version="2.5")
    before = state()
    assert load_registry().find("backbone", "tone").owner == "mmdisco-odd 2.5"
    assert state() == before
    said = f"warning: plugin mmdisco-odd 2.5 changed {name}, which other recipes share: set back\n"
    assert capsys.readouterr().err == said
    load_registry()
    assert capsys.readouterr().err == ""


def test_a_plugin_that_breaks_off_is_set_back_too(make_plugin, monkeypatch, capsys):
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-odd")
    make_plugin("mmdisco-odd", "\n".join([*CHANGES.values(), "raise RuntimeError"]))
    before = state()
    assert {plugin.distribution: plugin.status for plugin in load_registry().plugins}["mmdisco-odd"] == "failed"
    assert state() == before
    (line,) = capsys.readouterr().err.splitlines()
    assert all(name in line for name in CHANGES)


@pytest.mark.parametrize("place", ["", "def build(label, options=None):\n    "])
def test_what_building_changes_is_set_back_too(make_plugin, tmp_path, monkeypatch, capsys, place):
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-odd")
    monkeypatch.delitem(sys.modules, "tone_model", raising=False)
    indent = "    " if place else ""
    changes = place + f"\n{indent}".join(CHANGES.values())
    built = "\n    return label\n" if place else "\ndef build(label, options=None):\n    return label\n"
    (tmp_path / "tone_model.py").write_text(changes + built)
    make_plugin("mmdisco-odd", TONE)
    spec = load_registry().find("backbone", "tone")
    before = state()
    assert spec.factory()("audio") == "audio"
    assert state() == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: plugin mmdisco-odd 1.0 changed ")
    assert all(name in line for name in CHANGES)


def test_random_weights_of_a_build_are_no_fault(make_plugin, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-odd")
    monkeypatch.delitem(sys.modules, "tone_model", raising=False)
    (tmp_path / "tone_model.py").write_text("import torch\ndef build():\n    return torch.nn.Linear(2, 2)\n")
    make_plugin("mmdisco-odd", TONE)
    load_registry().find("backbone", "tone").factory()()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("body", "loads"), [("\n".join(CHANGES.values()), True), ("", False)])
def test_in_a_process_of_its_own(make_plugin, tmp_path, body, loads):
    make_plugin("mmdisco-odd", body + TONE)
    source = str(Path(load_registry.__code__.co_filename).parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{tmp_path}", "MMDISCO_PLUGINS": "mmdisco-odd"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("torch.float32 cpu True False\nFalse highest\n" if loads else "")
    assert all(name in done.stderr for name in (CHANGES if loads else ()))
    assert bool(done.stderr) == loads


def test_what_the_user_chose_before_stays_chosen():
    reported: list[list[str]] = []
    torch.set_default_dtype(torch.float64)
    try:
        with undisturbed(reported.append):
            torch.set_default_dtype(torch.float16)
        assert torch.get_default_dtype() == torch.float64
        with torch.device("meta"), undisturbed(reported.append):
            assert torch.zeros(1).device.type == "meta"
        assert reported == [["torch's default dtype"]]
    finally:
        torch.set_default_dtype(torch.float32)
