"""What a training step and a guided step of base models at their real sizes take, beside what was estimated.

    python tests/benchmarks/real_size.py [--pair audioldm-animatediff] [--dtype bfloat16] [--threads 1] [--folder DIR]

Weights are random (`real_models.py`), made in DIR and kept there. On a GPU where there is one, else on the CPU. Every
row is a process of its own, so that its peak of memory is its own: of the whole process on a CPU, imports included,
and what torch allocated on a GPU. The training step is of --batch tuples with generated fakes: predictions of the base
models, both losses and the update. The guided step is one sample's: both halves of classifier-free guidance, the
discriminator's gradient and the solver's step; neither encodes nor decodes media.
The first step of each is measured, after the weights are on the device, whose loading has a peak of its own; --repeat
takes the least of several. "Estimated" is `mmdisco train --dry-run`'s memory, with the activations of base models left
out, and for the guided step the weights and what guidance keeps; on a CPU both with what the process itself occupies.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from real_models import PAIRS, settings, write

ROWS = ("estimated", "training step", "guided step")


def main() -> None:
    """Measure pairs and print a table."""
    args = arguments().parse_args()
    if args.row:
        print(json.dumps(measure(args)))
        return
    with tempfile.TemporaryDirectory() as place:
        args.folder = args.folder or Path(place)
        for pair in args.pair or PAIRS:
            for model in PAIRS[pair]:
                write(model, args.folder, filled=True)
            found = {row: alone(args, pair, row) for row in ROWS}
            show(pair, args, found)


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="append", choices=tuple(PAIRS))
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    for hidden in ("--row", "--one"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser


def show(pair: str, args: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    """Print the rows of a pair."""
    estimated = found["estimated"]
    print(f"\n{pair}, {estimated['device']}, {args.dtype}, {args.threads} threads, {args.batch} tuples a step")
    for row, key in (("training step", "train"), ("guided step", "sample")):
        took = found[row]
        print(
            f"{row:<15} {took['seconds']:8.1f} s {took['cpu']:8.1f} CPU s   peak {took['peak']:8.0f} MB   "
            f"estimated {estimated[key]:8.0f} MB   loading {took['before']:8.0f} MB",
            flush=True,
        )


def alone(args: argparse.Namespace, pair: str, row: str) -> dict[str, Any]:
    """Return what a process of its own measures."""
    hidden = ["--row", row, "--one", pair, "--folder", str(args.folder)]
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], *hidden], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return one row's figures."""
    import torch

    from mmdisco_cli.devices import DTYPES, choose_device
    from mmdisco_cli.recipes import recipe as recipes

    torch.set_num_threads(args.threads)
    device = choose_device()
    changed = [
        f"backbones.audio.dtype={args.dtype}", f"backbones.video.dtype={args.dtype}", f"train.dtype={args.dtype}",
        f"train.batch_size={args.batch}", "train.fakes=generated", f"sample.dtype={args.dtype}",
    ]  # fmt: skip
    recipe = recipes.load(args.one, [*settings(args.one, args.folder), *changed])
    if args.row == "estimated":
        return estimated(recipe, device)
    from mmdisco_cli.assembly import assemble

    assembly = assemble(recipe, device, DTYPES[args.dtype], with_discriminator=False)
    work = training_step(recipe, assembly) if args.row == "training step" else guided_step(recipe, assembly)
    for base in assembly.bases:
        base.backbone.wrapped.stage.settle()  # type: ignore[attr-defined]
    before = peak(device)
    forget_peak(device)
    times = [timed(work, device) for _ in range(args.repeat)]
    return {
        "seconds": min(t[0] for t in times),
        "cpu": min(t[1] for t in times),
        "peak": peak(device),
        "before": before,
    }


def estimated(recipe: Any, device: Any) -> dict[str, Any]:
    """Return the memory in MB that dry runs estimate for training and sampling."""
    from mmdisco_cli.assembly import assemble
    from mmdisco_cli.assembly.models import LoadedDiscriminator
    from mmdisco_cli.devices import process_mb
    from mmdisco_cli.sampling.memory import memory_mb
    from mmdisco_cli.training.discriminator import DiscriminatorJob, _untrained

    assembly = assemble(recipe, device, with_discriminator=False)
    module = _untrained(recipe, assembly)
    job = DiscriminatorJob(recipe, assembly, module, NoClips(), recipe.train.batch_size)
    joined = replace(assembly, discriminator=LoadedDiscriminator(module, {}, Path(), ""))
    guided = memory_mb(joined, 2)  # both halves of classifier-free guidance
    counts = {label: base.backbone.wrapped.stage.parts.count(names(base)) for label, base in assembly.models.items()}
    weights = sum(job._width(label) * count for label, count in counts.items()) / 1e6
    train = job.overview["memory_mb"]
    own = process_mb(device).get("process_mb", 0)
    return {"train": train + own, "sample": weights + sum(guided.values()) + own, "device": str(device)}


def names(base: Any) -> list[str]:
    """Return the parts of a model that a step needs."""
    stage = base.backbone.wrapped.stage
    return [*stage.roles.denoiser, *(name for name in stage.parts.elsewhere if name not in stage.roles.all)]


class NoClips:
    """Stands for a data set, of which only the length counts here."""

    length, fingerprint, report = 1, "", ()

    def split(self, part: str) -> "NoClips":
        """Return itself."""
        return self


def training_step(recipe: Any, assembly: Any) -> Callable[[], None]:
    """Return one step of training on random latents."""
    import torch

    from mmdisco_cli.training.batch import Batch
    from mmdisco_cli.training.checkpoint import TrainState
    from mmdisco_cli.training.discriminator import _untrained, discriminator_loss
    from mmdisco_cli.training.loop import Ranks, _optimizer, _step

    module = _untrained(recipe, assembly)

    def drawn(count: int, generator: torch.Generator) -> Batch:
        return Batch({m: torch.randn(count, *shape, generator=generator) for m, shape in assembly.shapes.items()})

    def fake(real: Batch, generator: torch.Generator) -> Batch:
        return drawn(len(real), generator)

    loss = discriminator_loss(module, assembly, recipe, drawn, fake, recipe.train.batch_size)
    state = TrainState(module, _optimizer(module, recipe.train), 0)

    def step() -> None:
        _step(state, loss, recipe.train, Ranks(), recipe.train.steps)

    return step


def guided_step(recipe: Any, assembly: Any) -> Callable[[], None]:
    """Return one guided step of one sample, its prompt encoded."""
    from mmdisco_cli.assembly.models import LoadedDiscriminator
    from mmdisco_cli.sampling.draw import draw
    from mmdisco_cli.training.discriminator import _untrained

    module = _untrained(recipe, assembly).eval().requires_grad_(False)
    joined = replace(assembly, discriminator=LoadedDiscriminator(module, {}, Path(), ""))
    config = replace(recipe.sample, steps=1, joint_steps=1, gibbs=(), window=(-20.0, 20.0))

    def step() -> None:
        draw(joined, config, 0, range(1), prompts=("a dog barks",))

    return step


def timed(work: Callable[[], None], device: Any) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak(device: Any) -> float:
    """Return the most memory in MB so far."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3


def forget_peak(device: Any) -> None:
    """Begin the measurement of the most memory again: loading takes more than the weights that are left of it."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
