"""Whatever says how to install the project's distributions names a path in a clone: their names are on no index."""

import re
from pathlib import Path

import pytest

from mmdisco_cli.registry.installing import how_to_install, providers

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for folder in ("mmdisco_cli", "plugins", "recipes", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".yaml", ".toml", ""} and path.is_file()
)
INSTALLS = re.compile(r"\binstall [^`]+")
BY_NAME = re.compile(r"(?<![\w./-])mmdisco-\w+")


def by_name(text: str) -> list[str]:
    """Return the lines that install one of the distributions by its name alone."""
    commands = (line.split("#")[0] if not line.startswith("#") else line for line in text.splitlines())
    shown = (line for line in commands if "pip install" in line or line.startswith("install "))
    return [found for line in shown for found in INSTALLS.findall(line) if BY_NAME.search(found)]


@pytest.mark.parametrize(
    "line",
    ["pip install mmdisco-diffusers", '#   pip install "mmdisco-cli[eval-nets]"', "pip install -e . mmdisco-example"],
)
def test_a_bare_name_would_be_found(line: str) -> None:
    assert by_name(line)


@pytest.mark.parametrize("path", [ROOT / "README.md", *TEXTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_installed_by_a_bare_name(path: Path) -> None:
    assert by_name(path.read_text(errors="replace")) == []


@pytest.mark.parametrize("distribution", providers("backbone"))
def test_the_hint_names_a_folder_that_is_there(distribution: str) -> None:
    command = how_to_install(distribution)
    folder = ROOT / command.rpartition(" ")[2]
    assert f'name = "{distribution}"' in (folder / "pyproject.toml").read_text()
