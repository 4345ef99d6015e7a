"""A step of discriminator training beside its floor: what no trainer of these losses can leave out.

    python tests/benchmarks/step.py [--recipe bounce | --pair] [--batch 64] [--repeat 9] [--threads 1]

The floor is, with the same shapes and number format, the base models' forward passes for the tuples of a step, one
forward and double backward of the discriminator for as many, and one forward and backward for their fakes, each timed
alone; the step is everything that `mmdisco train` does from one update to the next, drawing, losses, update and average
included. Both take turns; every figure is the least CPU time of --repeat. The ratio without the fakes is printed too,
which cannot come near 1: a classifier must see both, and for `bounce` the fakes alone take 0.34 of the rest. One pass
of real and fake tuples together takes no less than two. --pair is AudioLDM with AnimateDiff from the plugin's tiny
pipelines, with captions.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "mmdisco-diffusers"), str(ROOT / "plugins/mmdisco-diffusers/tests")]

PAIR = """
request: {{frames: 8, fps: 8, height: 64, width: 64}}
backbones:
  audio: {{name: "mmdisco-diffusers:audioldm", path: {models}/audioldm, pooled: true}}
  video: {{name: "mmdisco-diffusers:animatediff", path: {models}/animatediff, pooled: true}}
discriminator: {{name: energy, width: 64, depth: 2, heads: 2, steps: 16}}
train: {{fakes: shuffled, batch_size: 16}}
"""
TEXTS = tuple(f"a dog that barks {'again ' * (k % 3)}loudly" for k in range(256))


def main() -> None:
    """Measure and print."""
    from mmdisco_cli.devices import keep_large_blocks

    args = arguments().parse_args()
    torch.set_num_threads(args.threads)
    keep_large_blocks()  # as training does
    with tempfile.TemporaryDirectory() as place:
        step, floor = parts(args, Path(place))
        for work in (step, *floor.values()):
            work()
        least = {name: float("inf") for name in ("step", *floor)}
        for _ in range(args.repeat):
            for name, work in {"step": step, **floor}.items():
                begun = time.process_time()
                work()
                least[name] = min(least[name], time.process_time() - begun)
    whole = sum(least[name] for name in floor)
    without = whole - least["discriminator, fakes"]
    for name, seconds in least.items():
        print(f"{name:<28}{1e3 * seconds:9.1f} ms CPU   {seconds / whole:5.2f} of the floor")
    print(f"step / floor: {least['step'] / whole:.2f}; without the fakes {least['step'] / without:.2f}")


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bounce")
    parser.add_argument("--pair", action="store_true")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--dtype")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def parts(args: argparse.Namespace, place: Path) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """Return a training step, and the parts of its floor."""
    from mmdisco_cli.assembly import assemble
    from mmdisco_cli.devices import DTYPES
    from mmdisco_cli.recipes import recipe as recipes
    from mmdisco_cli.training.checkpoint import TrainState
    from mmdisco_cli.training.discriminator import _untrained, discriminator_loss
    from mmdisco_cli.training.loop import Ranks, _optimizer, _step

    changed = [f"train.batch_size={args.batch}"] * bool(args.batch) + [f"train.dtype={args.dtype}"] * bool(args.dtype)
    recipe = recipes.load(written_pair(place) if args.pair else args.recipe, changed)
    dtype = DTYPES[recipe.train.dtype]
    assembly = assemble(recipe, torch.device("cpu"), dtype, with_discriminator=False)
    module, batch = _untrained(recipe, assembly), recipe.train.batch_size
    loss = discriminator_loss(module, assembly, recipe, tuples(assembly, captioned=args.pair), None, batch)
    state = TrainState(module, _optimizer(module, recipe.train), 0)
    module.train()

    def step() -> None:
        _step(state, loss, recipe.train, Ranks(), recipe.train.steps)

    return step, floor(module, assembly, batch, dtype, captioned=args.pair)


def written_pair(place: Path) -> str:
    """Write the tiny pipelines and their recipe; return its path."""
    import tiny

    for family in ("audioldm", "animatediff"):
        tiny.make(family, place)
    (place / "pair.yaml").write_text(PAIR.format(models=place))
    return str(place / "pair.yaml")


def tuples(assembly: Any, *, captioned: bool) -> Any:
    """Return a source of random latents, with texts of few kinds where the clips are captioned."""
    from mmdisco_cli.training.captioned import CaptionedClips
    from mmdisco_cli.training.data import from_banks, latents_in
    from mmdisco_cli.training.pairing import Captions

    generator = torch.Generator().manual_seed(0)
    banks = {m: torch.randn(len(TEXTS), *shape, generator=generator).half() for m, shape in assembly.shapes.items()}
    if not captioned:
        return from_banks(banks)
    return CaptionedClips(Captions(dict.fromkeys(banks, TEXTS)), latents_in(banks), 0.1, len(banks))


def floor(
    module: Any, assembly: Any, batch: int, dtype: torch.dtype, *, captioned: bool
) -> dict[str, Callable[[], object]]:
    """Return the base models' forward passes, and the discriminator's forward and double backward, each alone."""
    from mmdisco_cli.diffusion.denoise import predict_bases, unguided_scales
    from mmdisco_cli.diffusion.guidance import logit, logit_and_gradient, reads_x0
    from mmdisco_cli.training.batch import LevelSampler
    from mmdisco_cli.training.conditions import Conditions, conditioned

    generator = torch.Generator().manual_seed(0)
    x = {m: torch.randn(batch, *shape, generator=generator) for m, shape in assembly.shapes.items()}
    levels = LevelSampler(assembly.bases, assembly.coupling, _config()).draw(batch, generator)
    texts = {m: list(TEXTS[:batch]) for m in x} if captioned else {}
    conditions = Conditions(assembly).of(texts)
    bases = conditioned(assembly.bases, conditions)
    pooled = {m: c.pooled for m, c in conditions.items() if c.pooled is not None} or None
    x0 = x if reads_x0(module) else None

    def predicted() -> object:
        return predict_bases(bases, x, levels, unguided_scales(x), dtype)

    def twice() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value, gradient = logit_and_gradient(module, x, levels, pooled, create_graph=True, x0=x0)
            total = value.sum() + _squares(gradient)
        module.zero_grad(set_to_none=True)
        total.backward()

    def once() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = logit(module, x, levels, pooled, x0=x0).sum()
        module.zero_grad(set_to_none=True)
        value.backward()

    return {"base models, forward": predicted, "discriminator, twice": twice, "discriminator, fakes": once}


def _squares(gradient: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([g.square().mean() for g in gradient.values()]).sum()


def _config() -> Any:
    from mmdisco_cli.recipes.schema import LevelDistributionConfig

    return LevelDistributionConfig()


if __name__ == "__main__":
    main()
