"""The README is the product's face: its commands run, and what can be set is written in it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from reference_page import page  # beside this file

from mmdisco_cli import hookspecs
from mmdisco_cli.app import run
from mmdisco_cli.errors import ExitCode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "mmdisco_cli" / "docs"
PLUGINS = ("mmdisco-diffusers", "mmdisco-mmdiffusion", "mmdisco-example")
# Sampling is made shorter here, by an option that the README explains.
SHORTER = {
    "mmdisco sample --recipe bounce --n 4 --seed 7 --out runs/seven --json": "--set sample.steps=10",
    "mmdisco sample --recipe bounce --n 4 --independent": "--set sample.steps=10",
    "mmdisco sample --recipe bounce --n 4 --format webm --out runs/webm --sheet": "--set sample.steps=10",
    "mmdisco sample --recipe bounce --n 2 --given video=runs/bounce/independent": "--set sample.steps=10",
}


def commands() -> list[str]:
    text = "\n".join([README, *(path.read_text() for path in sorted(DOCS.glob("*.md")))])
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
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
    (folder / "tests").symlink_to(ROOT / "tests")
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


@pytest.mark.slow
def test_the_readmes_python_runs_as_printed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    assert Path("bounce.mp4").is_file()


def test_the_reference_is_what_the_code_says() -> None:
    assert (DOCS / "reference.md").read_text() == page(), (
        "python tests/reference_page.py > mmdisco_cli/docs/reference.md"
    )


def test_every_page_and_hook_is_named() -> None:
    assert all(f"({path.relative_to(ROOT)})" in README for path in DOCS.glob("*.md"))
    assert all(f"`{name}`" in README for name in vars(hookspecs) if name.startswith("mmdisco_"))


def test_every_recipe_stands_in_the_table() -> None:
    cells = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} <= named


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda path: path.name)
def test_links_to_files_of_the_project_lead_somewhere(file: Path) -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", file.read_text())
    assert targets or file.parent == DOCS
    assert all((file.parent / target).exists() for target in targets)


def test_every_page_of_the_documentation_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "--docs", "list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == sorted(path.stem for path in DOCS.glob("*.md"))
    assert run(["info", "--docs", "speed"]) == 0
    assert capsys.readouterr().out.strip() == (DOCS / "speed.md").read_text().strip()
    assert run(["info", "--docs", "spede"]) == ExitCode.USAGE
    assert "did you mean speed" in capsys.readouterr().err
