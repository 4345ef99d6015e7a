"""The README is the guide for authors: its blocks are lines of the files, its commands run, and a copy is a plugin."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmdisco_cli.testing
from mmdisco_cli import hookspecs

FOLDER = Path(__file__).parents[1]
README = (FOLDER / "README.md").read_text()
FILES = {
    "python": [*(FOLDER / "mmdisco_example").glob("*.py"), *(FOLDER / "tests").glob("test_*.py")],
    "toml": [FOLDER / "pyproject.toml"],
    "yaml": [FOLDER / "theremin.yaml"],
}
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line[2:] for kind, block in BLOCKS if kind == "console" for line in block.splitlines()]
INSTALLS = [
    "pip install .",
    "pip install ./plugins/mmdisco-example",
    'cd plugins/mmdisco-example && pip install ".[test]" && mypy && pytest',
]
"""What cannot be run inside a test is what continuous integration does, by its own script."""


def lines_of(text):
    """Return the lines without indentation and empty ones, in which formatters may differ."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize(("kind", "block"), [one for one in BLOCKS if one[0] != "console"])
def test_every_block_is_lines_of_a_file(kind, block):
    assert any(f"\n{lines_of(block)}\n" in f"\n{lines_of(path.read_text())}\n" for path in FILES[kind])


def test_the_commands_run_as_printed(mmdisco):
    ours = [shlex.split(command)[1:] for command in COMMANDS if command.startswith("mmdisco ")]
    assert [command for command in COMMANDS if not command.startswith("mmdisco ")] == INSTALLS
    assert {arguments[0] for arguments in ours} == {"plugins", "train", "eval", "sample"}
    for arguments in ours:
        done = mmdisco(*arguments)
        assert done.stdout.strip() or done.stderr.strip()


def test_every_check_and_hook_is_named():
    assert all(f"`{name}" in README for name in mmdisco_cli.testing.__all__ if name.startswith("check_"))
    table = (hookspecs.__doc__ or "") + README
    assert all(f"`{name}`" in table for name in vars(hookspecs) if name.startswith("mmdisco_"))


def test_every_file_and_section_that_it_names_is_there():
    for name in re.findall(r"`(mmdisco_example/[\w/.]+)`", README):
        assert (FOLDER / name).is_file()
    core = Path(mmdisco_cli.testing.__file__).parents[2]
    for name in re.findall(r"`(mmdisco_cli/[\w/.]+)`", README):
        assert (core / name).is_file()
    sections = {line.lstrip("# ").lower().replace(" ", "-") for line in README.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([\w-]+)\)", README)) <= sections


# In two words, so that renaming leaves them: a copy has no need to be copied.
ORIGINAL = "-".join(("mmdisco", "example"))


@pytest.mark.skipif(FOLDER.name != ORIGINAL or shutil.which("perl") is None, reason="a copy itself, or no perl")
def test_a_copy_under_another_name_is_a_plugin(tmp_path):
    caches = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(FOLDER, tmp_path / "plugins" / FOLDER.name, ignore=caches)
    copying = re.findall(r"^ {4}((?:cp|grep) .*)$", README, flags=re.MULTILINE)
    assert len(copying) == 2
    subprocess.run(["bash", "-ec", "\n".join(copying)], cwd=tmp_path, check=True)
    named = [path for path in (tmp_path / "mmdisco-mine").rglob("*") if path.is_file()]
    assert len(named) > 15
    assert not any(re.search("mmdisco[-_]example", f"{path.name} {path.read_text()}") for path in named)
    tmp_path = tmp_path / "mmdisco-mine"
    info = tmp_path / "mmdisco_mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmdisco-mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mmdisco]\nmine = mmdisco_mine\n")
    command = [sys.executable, "-m", "mmdisco_cli", "train", "--recipe", str(FOLDER / "theremin.yaml"), "--dry-run"]
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MMDISCO_PLUGINS": "mmdisco-mine", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
