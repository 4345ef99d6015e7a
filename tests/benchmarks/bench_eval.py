"""What `mmdisco eval` costs a clip, and that its memory does not grow with the number of clips.

    python tests/benchmarks/bench_eval.py [COUNT ...]      # default 250 1000

Every count is measured in a process of its own, on fresh clips of 1.6 s (16 frames of 256 x 256, sound at 16 kHz)
that differ from one another, without a cache. Prints one JSON object a count: seconds a clip, those of the processor,
peak memory in MiB, and time and memory as ratios of the first count. The page of 36 clips is part of it.

On one core of a busy machine: 250 clips 0.107 CPU seconds a clip and 794 MiB, 1,000 clips 0.088 and 815 MiB. Most of
the memory is that of the libraries; what a clip leaves behind is its row and three vectors.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def make_clips(folder: Path, count: int) -> None:
    """Write real clips of bounce, each different."""
    from mmdisco_cli.data.media import write_mp4
    from mmdisco_cli.toys.bounce.dataset import Bounce
    from mmdisco_cli.toys.bounce.options import BounceOptions

    data = Bounce(BounceOptions()).split("heldout")
    folder.mkdir()
    for index in range(count):
        media = data.media([index], ("audio", "video"))
        write_mp4(folder / f"{index:05d}.mp4", media["video"][0], media["audio"][0], 10, 16000, scale=4)


def measure(folder: Path, count: int) -> dict[str, float]:
    """Evaluate a folder of clips against itself in a process of its own."""
    code = (
        "import resource, sys, time, json; from mmdisco_cli.app import run; import mmdisco_cli.evaluation.run;"
        "start = time.perf_counter(); code = run(sys.argv[1:]); seconds = time.perf_counter() - start;"
        "used = resource.getrusage(resource.RUSAGE_SELF); peak = used.ru_maxrss / 1024; cpu = used.ru_utime;"
        "print(json.dumps({'code': int(code), 'seconds': seconds, 'cpu': cpu, 'peak': peak}))"
    )
    out = folder.parent / f"out-{count}"
    arguments = ["eval", "--samples", str(folder), "--reference", str(folder), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--cache", str(out / "cache")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0, done.stderr
    return found


def main(counts: list[int]) -> None:
    """Measure each count and print what was found."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        for count in counts:
            folder = Path(place) / f"clips-{count}"
            make_clips(folder, count)
            found = measure(folder, count)
            shown = {
                "clips": count,
                "seconds_per_clip": round(found["seconds"] / count, 4),
                "cpu_seconds_per_clip": round(found["cpu"] / count, 4),
                "peak_mib": round(found["peak"], 1),
            }
            first = first or shown
            shown |= {
                "time_ratio": round(shown["seconds_per_clip"] / first["seconds_per_clip"], 3),
                "memory_ratio": round(shown["peak_mib"] / first["peak_mib"], 3),
            }
            print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [250, 1000])
