"""What training from a cache waits for its data, and what its memory is with many rows beside few.

    python tests/benchmarks/waiting.py [--rows 200 20000] [--steps 20] [--folder DIR]

Each row of the table is a process of its own: a discriminator (`energy`, width 144, depth 5, as of the recipe bounce)
beside the shipped base models, 64 tuples a step, trained from a cache of that many random latents of their shapes.
Caches are written in DIR and kept there. "Waiting" is the time in which a step reads its tuples, beside all of it;
"memory" the peak of the process. With --large rows are of the size of AnimateDiff's and AudioLDM's latents (147 kB)
and only read, not trained on: their memory is what would grow.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LARGE = {"audio": (8, 64, 16), "video": (4, 16, 32, 32)}


def main() -> None:
    """Train from a cache of each size and print the table."""
    args = arguments().parse_args()
    if args.alone:
        print(json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as place:
        args.folder = args.folder or Path(place)
        peaks = []
        for rows in args.rows:
            found = alone(args, rows)
            peaks.append(found["memory"])
            wait, step = 1e3 * found["wait"], 1e3 * found["step"]
            print(f"{rows} rows, {found['disk']:.0f} MB of cache", end=": ")
            print(f"{wait:.2f} ms of {step:.0f} ms a step are waiting, {100 * wait / step:.2f} %", end="; ")
            print(f"memory {found['memory']:.0f} MB; load {os.getloadavg()[0]:.1f}")
        print(f"memory of {args.rows[-1]} rows above that of {args.rows[0]}: {peaks[-1] - peaks[0]:.0f} MB")


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 20000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    return parser


def alone(args: argparse.Namespace, rows: int) -> dict[str, Any]:
    """Return the figures of one size, from a process that makes the cache and then from one that reads it."""
    large = ["--large"] if args.large else []
    more = ["--steps", str(args.steps), "--batch", str(args.batch), "--folder", str(args.folder), *large]
    command = [sys.executable, __file__, "--alone", str(rows), *more]
    for _ in range(2):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Noise:
    """Random latents in the place of clips."""

    shapes: Mapping[str, tuple[int, ...]]
    length: int
    fingerprint: str = "noise"

    def media(self, indices: Any, modalities: Any) -> dict[str, Tensor]:
        """Return noise that depends on the first index."""
        draw = torch.Generator().manual_seed(indices[0])
        return {m: torch.randn(len(indices), *self.shapes[m], generator=draw) for m in modalities}


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Make the cache, or read it: seconds of a step and of its reading, and megabytes."""
    from mmdisco_cli.assembly import assemble, build_discriminator
    from mmdisco_cli.cache.content import Content, part_of
    from mmdisco_cli.cache.making import complete, is_complete, make_shards
    from mmdisco_cli.cache.reading import open_cache
    from mmdisco_cli.diffusion.backbone import ModalityPlan
    from mmdisco_cli.recipes.recipe import load
    from mmdisco_cli.training.data import from_banks
    from mmdisco_cli.training.discriminator import discriminator_loss
    from mmdisco_cli.training.loop import step_generator

    recipe = load("bounce", ["train.dtype=float32"])
    assembly = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    shapes = LARGE if args.large else assembly.shapes
    plans = {m: ModalityPlan(shape, shape, None, 0.0) for m, shape in shapes.items()}
    folder = args.folder / f"{'large' if args.large else 'small'}-{args.alone}"
    part = part_of(Noise(shapes, args.alone), args.alone, tuple(shapes))
    content = Content({"train": part}, plans, dict.fromkeys(plans, "none"), dict)
    if not is_complete(folder, content):
        make_shards(folder, content)
        complete(folder, content)
        return {}
    cache, waited = open_cache(folder), [0.0]
    real = from_banks(cache.rows("train").latents)

    def timed(count: int, generator: torch.Generator) -> Any:
        begun = time.perf_counter()
        batch = real(count, generator)
        waited[0] += time.perf_counter() - begun
        return batch

    assert recipe.discriminator is not None
    module = build_discriminator(recipe.discriminator, assembly.shapes, assembly.pooled)
    loss = discriminator_loss(module, assembly, recipe, timed, None, args.batch)
    begun = time.perf_counter()
    for step in range(args.steps):
        if args.large:
            timed(args.batch, step_generator(0, 0, step))
        else:
            loss(step_generator(0, 0, step))[0].backward()
    seconds, memory = time.perf_counter() - begun, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "step": seconds / args.steps, "wait": waited[0] / args.steps, "memory": memory / 1e6, "disk": cache.size / 1e6
    }  # fmt: skip


if __name__ == "__main__":
    main()
