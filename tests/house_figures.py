"""Print the figures of the package's plan: `python tests/house_figures.py`; nothing here is a test.

Sizes come from the sources, the way of one sample from a run of the bounce recipe with few steps: the files of the
package that any function is called in, from the command to the .mp4, and of these from the first batch on.
"""

import ast
import contextlib
import io
import statistics
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import mmdisco_cli

PACKAGE = Path(mmdisco_cli.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> list[tuple[Path, Function]]:
    """Return every function of the package with its file."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    return [(p, node) for p, tree in trees.items() for node in ast.walk(tree) if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Return how many lines a function takes, without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def parameters(function: Function) -> int:
    """Return how many parameters a function has, `self` left out."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


class Visited:
    """Note the files in which functions are called, in all and since the first batch."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.batch: set[str] = set()
        self.begun = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note a call; a profile function."""
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(str(PACKAGE)) or frame.f_code.co_name == "<module>":
            return
        name = str(Path(path).relative_to(PACKAGE))
        self.begun = self.begun or (name, frame.f_code.co_name) == ("sampling/draw.py", "draw")
        self.files.add(name)
        if self.begun:
            self.batch.add(name)


def way_of_a_sample() -> Visited:
    """Run `mmdisco sample --recipe bounce --n 1` and return where it went; the gallery comes after the .mp4."""
    from mmdisco_cli import app
    from mmdisco_cli.sampling import run

    visited, write = Visited(), run.write_sample

    def last(*arguments: Any) -> Any:
        written = write(*arguments)
        sys.setprofile(None)
        return written

    run.write_sample = last
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = ["sample", "--recipe", "bounce", "--n", "1", "--out", folder, "--set", "sample.steps=4"]
        sys.setprofile(visited)
        app.run(arguments)
    sys.setprofile(None)
    return visited


def main() -> None:
    """Print the figures."""
    found = functions()
    lengths = sorted(body_lines(f) for _, f in found)
    folders = {str(p.relative_to(PACKAGE)): len(list(p.glob("*.py"))) for p in PACKAGE.rglob("*") if p.is_dir()}
    widest = max((parameters(f), f"{p.name}:{f.name}") for p, f in found if p.parent.name == "training")
    files = list(PACKAGE.rglob("*.py"))
    print(f"{len(files)} files, {sum(len(p.read_text().splitlines()) for p in files)} lines")
    print(f"files a folder, the most first: {sorted(folders.items(), key=lambda item: -item[1])[:6]}")
    most = lengths[len(lengths) * 9 // 10]
    print(f"functions: {len(found)}, median {statistics.median(lengths):g} lines, 90 % within {most}")
    print(f"most parameters in training: {widest[0]} ({widest[1]})")
    visited = way_of_a_sample()
    print(f"one sample, command to .mp4: {len(visited.files)} files, of which from the batch on {len(visited.batch)}")


if __name__ == "__main__":
    main()
