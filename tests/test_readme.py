"""The README is the product's face: its commands run, and what can be set is written in it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from mmdisco_cli import hookspecs
from mmdisco_cli.errors import ExitCode
from mmdisco_cli.recipes.schema import Recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PLUGINS = ("mmdisco-diffusers", "mmdisco-mmdiffusion", "mmdisco-example")
# Sampling is made shorter here, by an option that the README explains.
SHORTER = {
    "mmdisco sample --recipe bounce --n 4 --seed 7 --out runs/seven --json": "--set sample.steps=10",
    "mmdisco sample --recipe bounce --n 4 --independent": "--set sample.steps=10",
    "mmdisco sample --recipe bounce --n 2 --given video=runs/bounce/independent": "--set sample.steps=10",
}


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def mmdisco_commands() -> list[str]:
    return [command for command in commands() if command.startswith("mmdisco ")]


def test_every_console_line_is_a_command_that_is_run_here_or_by_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    others = [command for command in commands() if not command.startswith("mmdisco ")]
    plugins = "pip install " + " ".join(f"./plugins/{name}" for name in PLUGINS)
    tests = "ruff check . && mypy && OMP_NUM_THREADS=1 pytest"
    published = "pip install --no-deps musicnn torchvggish"
    assert others == ["pip install .", 'pip install ".[test]"', published, tests, plugins]
    assert '\ninstall ".[test]"\ninstall --no-deps musicnn torchvggish\n' in script
    assert "for plugin in plugins/*/" in script
    assert {path.name for path in (ROOT / "plugins").iterdir()} == set(PLUGINS)
    assert all(f"\n{step}" in script for step in ("ruff check .", "mypy", "pytest"))
    assert len(mmdisco_commands()) >= 10


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "clips").symlink_to(ROOT / "tests" / "assets")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", mmdisco_commands())
def test_the_readmes_commands_run_as_printed(command: str, workplace: Path) -> None:
    shorter = SHORTER.get(command, "")
    arguments = [*shlex.split(command)[1:], *shlex.split(shorter)]
    done = subprocess.run(
        [sys.executable, "-m", "mmdisco_cli", *arguments],
        cwd=workplace,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or done.stderr.strip()
    assert "Traceback" not in done.stderr


def keys(schema: type, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(schema)
    for field in fields(schema):
        hint: Any = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from keys(hint, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


@pytest.mark.parametrize("key", [*keys(Recipe), "extends"])
def test_every_recipe_key_is_explained(key: str) -> None:
    assert f"| `{key}` |" in README


def test_every_exit_code_variable_and_hook_is_explained() -> None:
    assert all(f"\n| {int(code)} | " in README for code in ExitCode)
    assert all(f"`{name}`" in README for name in ("MMDISCO_PLUGINS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RANK"))
    hooks = [name for name in vars(hookspecs) if name.startswith("mmdisco_")]
    assert len(hooks) == 7
    assert all(name in README for name in hooks)


def test_every_recipe_stands_in_the_table() -> None:
    assert all(f"| `{path.stem}` |" in README for path in (ROOT / "recipes").glob("*.yaml"))


def test_links_to_files_of_the_project_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert all((ROOT / target).exists() for target in targets)
