"""A recipe under a name of its own: what its training writes is what the copy samples with."""

import json
import re
import shlex
from pathlib import Path

PLAIN = re.compile(r"[\w./-]+")
"""What YAML reads as it is written, in a line or in braces."""


def renamed(text: str, name: str, copy: Path) -> str:
    """Return the text of recipe `name` as that of the file `copy`: of its own runs, and its commands name the file.

    Paths of other recipes' runs, such as those of base models, stay as they are.
    """
    if copy.stem == name:
        return text
    return "".join(_line(line, name, copy) for line in text.splitlines(keepends=True))


def _line(line: str, name: str, copy: Path) -> str:
    own = re.escape(f"runs/{name}/")
    if line.lstrip().startswith("#"):
        named = re.sub(rf"(?<=--recipe ){re.escape(name)}(?![\w-])", lambda _: shlex.quote(str(copy)), line)
        return re.sub(rf"(?<![\w/.-]){own}", lambda _: f"runs/{copy.stem}/", named)
    return re.sub(rf"(?<=: ){own}([\w./-]+)", lambda found: _scalar(f"runs/{copy.stem}/{found[1]}"), line)


def _scalar(path: str) -> str:
    return path if PLAIN.fullmatch(path) else json.dumps(path, ensure_ascii=False)
