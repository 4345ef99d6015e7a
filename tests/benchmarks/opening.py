"""What opening a data set of many clips costs, the first time and again, beside a bare walk that stats every file.

    python tests/benchmarks/opening.py [--clips 20000] [--layout folder|table|tars] [--workers N] [--folder DIR]

Clips are copies of a small one with a number of their own at the end, so that no two are the same; each has a caption.
They are made in DIR and kept there. Every opening is a process of its own, whose imports are not counted; files are in
the page cache, for they were just written. Tars are beside a walk over the tars. "Memory" is what
the peak of the process grew by from before the opening.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ASSET = Path(__file__).parents[1] / "assets" / "synth_static_silent_25.mp4"
A_FOLDER = 500
A_SHARD = 1000


def main() -> None:
    """Make the clips, open them twice and print the table."""
    args = arguments().parse_args()
    if args.row:
        print(json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as place:
        args.folder = args.folder or Path(place)
        root = make(args.folder / f"{args.layout}-{args.clips}", args)
        cache = tempfile.mkdtemp(dir=args.folder)
        walk = min(stat_walk(root) for _ in range(3))
        print(f"{args.clips} clips, layout {args.layout}, {args.workers or os.cpu_count()} workers")
        print(f"bare walk with os.stat: {walk:.2f} s")
        for row in ("first", "second", "third"):
            found = alone(args, root, cache)
            rate, ratio = args.clips / found["seconds"], found["seconds"] / walk
            print(f"{row} opening: {found['seconds']:.2f} s ({found['cpu']:.2f} s of this process)", end=", ")
            print(f"{rate:.0f} clips/s, {ratio:.0f} x the walk", end=", ")
            print(f"{found['windows']} windows, memory {found['memory']:.0f} MB, fingerprint {found['fingerprint']}")


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20000)
    parser.add_argument("--layout", choices=("folder", "table", "tars"), default="folder")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    return parser


def make(root: Path, args: argparse.Namespace) -> Path:
    """Write the clips, unless they are there; return what to open."""
    whole = root / "whole"
    if not whole.exists():
        root.mkdir(parents=True, exist_ok=True)
        (make_tars if args.layout == "tars" else make_files)(root / "data", args)
        whole.touch()
    return root / "data"


def numbered(index: int) -> bytes:
    """Return a clip that no other is the same as: an empty box, which players skip, ends it."""
    number = b"%020d" % index
    return ASSET.read_bytes() + (8 + len(number)).to_bytes(4, "big") + b"free" + number


def make_files(root: Path, args: argparse.Namespace) -> None:
    """Write clips in folders, with side texts or a table."""
    rows = []
    for index in range(args.clips):
        path = root / f"{index // A_FOLDER:03d}" / f"{index:06d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbered(index))
        rows.append({"file_name": path.relative_to(root).as_posix(), "text": f"clip {index}"})
        if args.layout == "folder":
            path.with_suffix(".txt").write_text(rows[-1]["text"])
    if args.layout == "table":
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def make_tars(root: Path, args: argparse.Namespace) -> None:
    """Write clips as WebDataset."""
    root.mkdir(parents=True)
    for first in range(0, args.clips, A_SHARD):
        with tarfile.open(root / f"train-{first // A_SHARD:06d}.tar", "w") as shard:
            for index in range(first, min(first + A_SHARD, args.clips)):
                for suffix, content in (("mp4", numbered(index)), ("txt", b"clip %d" % index)):
                    info = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    info.size = len(content)
                    shard.addfile(info, io.BytesIO(content))


def stat_walk(root: Path) -> float:
    """Return the seconds that it takes to find and stat every file."""
    begun = time.perf_counter()
    for folder, _, names in os.walk(root):
        for name in names:
            os.stat(f"{folder}/{name}")  # noqa: PTH116
    return time.perf_counter() - begun


def alone(args: argparse.Namespace, root: Path, cache: str) -> dict[str, Any]:
    """Return what an opening costs in a process of its own."""
    workers = ["--workers", str(args.workers)] if args.workers else []
    command = [sys.executable, __file__, *workers, "--row", str(root), cache]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Open the data and return seconds, growth in megabytes and fingerprint."""
    from mmdisco_cli.data.clips import build
    from mmdisco_cli.data.options import ClipsOptions
    from mmdisco_cli.diffusion.backbone import Request

    path, cache = args.row
    options = ClipsOptions(path=path, cache=cache, workers=args.workers)
    before, begun, used = peak(), time.perf_counter(), time.process_time()
    data = build(options, Request(frames=8, fps=10, height=16, width=16))
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    assert data.captions([0], ["audio"])["audio"][0].startswith("clip ")
    memory, windows = (peak() - before) / 1e6, len(data.windows)
    return {"seconds": seconds, "cpu": used, "memory": memory, "windows": windows, "fingerprint": data.fingerprint}


def peak() -> int:
    """Return the most bytes that this process has had in memory."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
