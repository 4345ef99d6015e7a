"""A warning fails a test where our code does what is warned of, and not where libraries warn one another."""

import tomllib
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = (DeprecationWarning, FutureWarning, UserWarning, RuntimeWarning)


def library(kind: type[Warning]) -> None:
    """Do what a library does that is called in a way of old: warn of the line that called it."""
    warnings.warn("the old way goes with the next release", kind, stacklevel=2)


def call_from(module: str, kind: type[Warning]) -> None:
    exec("library(kind)", {"__name__": module, "library": library, "kind": kind})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "module", ["mmdisco_cli", "mmdisco_cli.data.media", "mmdisco_diffusers.wan", "tests.data.test_bank", "small_models"]
)
def test_what_our_code_calls_in_a_way_of_old_fails(module: str, kind: type[Warning]) -> None:
    with pytest.raises(kind, match="the old way"):
        call_from(module, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_test_that_calls_in_a_way_of_old_fails(kind: type[Warning]) -> None:
    with pytest.raises(kind, match="the old way"):
        library(kind)


@pytest.mark.parametrize("module", ["diffusers.pipelines.audioldm2", "torch.nn.modules.module", "small_models_too"])
def test_what_a_library_calls_in_a_way_of_old_only_warns(module: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        call_from(module, FutureWarning)
    assert [warning.category for warning in caught] == [FutureWarning]


def test_plugins_are_held_to_the_same() -> None:
    files = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    options = [tomllib.loads(file.read_text())["tool"]["pytest"]["ini_options"] for file in files]
    assert len(options) == 4
    assert all(found["filterwarnings"] == options[0]["filterwarnings"] for found in options)
