"""The plan of the rooms: imports point down, and no folders import each other in a circle."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mmdisco_cli

PACKAGE = Path(mmdisco_cli.__file__).parent
FLOORS = (
    ("app", "__main__", "builtin"),
    ("commands", "api"),
    ("toys", "studies"),
    ("evaluation", "training", "sampling", "conversion", "testing"),
    ("page",),
    ("extractors",),
    ("measures", "kinds"),
    ("cache",),
    ("assembly", "data", "discriminators", "paper", "backbones"),
    ("blocks", "diffusion"),
    ("recipes",),
    ("registry", "devices", "weights_file", "tensors", "fetching"),
    ("run",),
    ("hookspecs", "schema", "errors", "__init__"),
)
"""From the roof down; a room imports from its own floor and from those below it."""
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MOST_FILES = 20


def imports_of(source: str) -> set[str]:
    """Return the modules of the package that a source imports, anywhere in it, as dotted names below the package."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mmdisco_cli":
            below = node.module.split(".")[1:]
            found |= {".".join(below) or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("mmdisco_cli.")}
    return found


def room_of(dotted: str) -> str:
    """Return the room that a module lies in; what stands in the package itself is named after it."""
    room = dotted.split(".")[0]
    return room if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file() else "__init__"


def arrows() -> dict[tuple[str, str], list[str]]:
    """Return, for each pair of rooms of which one imports the other, the files that do so."""
    found = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        here = path.relative_to(PACKAGE)
        room = room_of(here.parts[0].removesuffix(".py"))
        if here.as_posix() == "__init__.py":
            continue  # it names the API for type checkers, and imports it only when it is used
        for there in {room_of(name) for name in imports_of(path.read_text(encoding="utf-8"))}:
            if there != room:
                found[room, there].append(here.as_posix())
    return found


def rising(found: dict[tuple[str, str], list[str]]) -> list[str]:
    """Name every import that points up."""
    return [f"{files}: {a} -> {b}" for (a, b), files in sorted(found.items()) if FLOOR[a] > FLOOR[b]]


def circle(pairs: set[tuple[str, str]]) -> list[str]:
    """Return the rooms of a circle, none where there is none."""
    graph = defaultdict(set)
    for a, b in pairs:
        graph[a].add(b)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(path.relative_to(PACKAGE).parts[0].removesuffix(".py")) for path in PACKAGE.rglob("*.py")}
    assert rooms == FLOOR.keys()


def test_no_import_points_up() -> None:
    assert rising(arrows()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circle(set(arrows())) == []


def test_no_folder_holds_more_files_than_can_be_surveyed() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__")]
    crowded = {str(f.relative_to(PACKAGE)): n for f in folders if (n := len(list(f.glob("*.py")))) > MOST_FILES}
    assert crowded == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from mmdisco_cli.run.files import replacing", {"run.files"}),
        ("def f():\n    from mmdisco_cli import paper, __version__", {"paper", "__version__"}),
        ("import mmdisco_cli.devices\nimport json", {"devices"}),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, expected: set[str]) -> None:
    assert imports_of(source) == expected


def test_what_breaks_the_plan_is_named() -> None:
    assert rising({("diffusion", "sampling"): ["diffusion/x.py"]}) == ["['diffusion/x.py']: diffusion -> sampling"]
    assert set(circle({("data", "paper"), ("paper", "backbones"), ("backbones", "data")})) == {
        "data",
        "paper",
        "backbones",
    }
