"""What training a discriminator on VGGSound costs with each recipe of two real base models, counted, not measured.

    python tests/benchmarks/costs.py [--clips 180000] [--flops 990e12] [--utilisation 0.4] [--pair NAME]

Operations of matrix products, convolutions and attention are counted on the meta device at the models' real sizes
(`real_models.py`): nothing is computed, no weights are needed. Hours are those of one GPU that reaches --utilisation of
--flops, by default 40 % of an H100's 990 TFLOP/s in bfloat16, everything in that format; decoding of media, text
encoders (once a caption) and waiting are not in them.

- cache: the encoder of each codec, once a clip, and float16 latents on disk.
- fakes: one sample of each base model for each clip, by the recipe's sampler and number of steps, without
  classifier-free guidance (train.fake_cfg=1). Of use to recipes with train.fakes=generated; others re-pair.
- training: the recipe's steps and batch: base models once a tuple (twice where the discriminator reads their x_0 and
  fakes are generated), and the discriminator's logit, gradient and second backward for real tuples, logit and backward
  for fakes.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from real_models import PAIRS, settings, write


def main() -> None:
    """Count and print the table."""
    args = arguments().parse_args()
    rate = args.flops * args.utilisation
    print(f"{args.clips} clips; hours of one GPU at {args.utilisation:.0%} of {args.flops / 1e12:.0f} TFLOP/s")
    columns = ("cache", "fakes", "training", "latents", "TFLOP: codecs", "audio", "video", "discriminator", "a step")
    print("| recipe | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    with tempfile.TemporaryDirectory() as place:
        for pair in args.pair or PAIRS:
            for model in PAIRS[pair]:
                write(model, Path(place), filled=False)
            show(pair, count(pair, Path(place)), args.clips, rate)


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=180_000)
    parser.add_argument("--flops", type=float, default=990e12)
    parser.add_argument("--utilisation", type=float, default=0.4)
    parser.add_argument("--pair", action="append", choices=tuple(PAIRS))
    return parser


def show(pair: str, found: Mapping[str, float], clips: int, rate: float) -> None:
    """Print a recipe's row."""
    bases = found["audio"] + found["video"]
    hours = {
        "cache": clips * found["codecs"] / rate / 3600,
        "fakes": clips * bases * found["evaluations"] / rate / 3600,
        "training": found["steps"] * found["step"] / rate / 3600,
    }
    counted = [found[key] / 1e12 for key in ("codecs", "audio", "video", "discriminator", "step")]
    cells = [
        *(f"{h:.1f} h" if h < 100 else f"{h:,.0f} h" for h in hours.values()),
        f"{clips * found['bytes'] / 1e9:.0f} GB",
    ]
    print(f"| `{pair}` | " + " | ".join([*cells, *(f"{c:.3g}" for c in counted)]) + " |", flush=True)


def count(pair: str, folder: Path) -> dict[str, float]:
    """Return operations of every part at batch 1, bytes of a clip's latents, and how often each is used."""
    import torch

    from mmdisco_cli.assembly import assemble, build_discriminator
    from mmdisco_cli.recipes import recipe as recipes

    recipe = recipes.load(pair, settings(pair, folder))
    assembly = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    found: dict[str, float] = {"codecs": 0.0}
    for base in assembly.bases:
        model = base.backbone.wrapped  # type: ignore[attr-defined]
        (modality,) = base.modalities
        outline(model)
        plan = base.plan.modalities[modality]
        found[modality] = operations(lambda model=model, plan=plan: predict(model, plan))
        found["codecs"] += operations(lambda model=model, plan=plan: encode(model, plan))
    with torch.device("meta"):
        module = build_discriminator(recipe.discriminator, assembly.shapes, assembly.pooled)
    twice = operations(lambda: real_tuple(module, assembly))
    once = operations(lambda: fake_tuple(module, assembly))
    config, bases = recipe.train, found["audio"] + found["video"]
    predicted = 2 if config.fakes != "shuffled" and getattr(module, "reads_x0", False) else 1
    values = sum(torch.Size(shape).numel() for shape in assembly.shapes.values())
    calls = {"dpmpp_3s": 3, "dpm_3s": 3}.get(recipe.sample.sampler, 1) * recipe.sample.steps
    return {
        **found,
        "discriminator": twice + once,
        "step": config.batch_size * (predicted * bases + twice + once),
        "steps": config.steps,
        "evaluations": calls,
        "bytes": 2.0 * values,
    }


def outline(model: Any) -> None:
    """Give a model its denoiser and codec on the meta device."""
    import torch

    parts, roles = model.parts, model.stage.roles
    with torch.device("meta"):
        for name in (*parts.elsewhere, *roles.denoiser, roles.codec[0]):
            if parts.has(name) and name != "vocoder" and not parts.is_loaded(name):
                part = parts.empty(name)
                made = parts._made.get(name) if parts.has("motion_adapter") else None
                parts._loaded[name] = (made(parts, part) if made else part).eval().requires_grad_(False)
    model.stage.to(torch.device("meta"))


def predict(model: Any, plan: Any) -> None:
    """Call a model's denoiser on one meta sample, with conditions of the shape that its text encoders give."""
    import torch

    with torch.device("meta"):
        x, t = torch.empty(1, *plan.latent_shape), torch.zeros(1)
        if hasattr(model.family, "_noised_silence"):  # of a whole training image
            model.family._noised_silence = lambda x, t: x.new_empty(1, 4, 128 - x.shape[2], 32)
    with torch.no_grad():
        model.family.predict(x, t, conditions(model, plan), plan)


def conditions(model: Any, plan: Any) -> dict[str, Any]:
    """Return one row's conditions on the meta device; its shapes come from the real text encoders' widths."""
    import torch

    with torch.no_grad():
        row, _ = model.family.text("", None, plan, torch.device("cpu"))
    whole = {key: value[None].to("meta") for key, value in row.items()}
    return {key: value.float() if value.is_floating_point() else value for key, value in whole.items()}


def encode(model: Any, plan: Any) -> None:
    """Call a model's codec on one clip of zeros on the meta device."""
    import torch

    with torch.no_grad():
        model.stage._prepare_codec()
        model.family.encode(torch.empty(1, *plan.media_shape, device="meta"), plan)


def inputs(assembly: Any, *, graded: bool) -> tuple[Any, ...]:
    """Return what a discriminator is called with, for one tuple."""
    import torch

    x = {m: torch.empty(1, *shape, device="meta", requires_grad=graded) for m, shape in assembly.shapes.items()}
    level = {m: torch.zeros(1, device="meta") for m in x}
    pooled = {m: torch.empty(1, width, device="meta") for m, width in assembly.pooled.items() if width} or None
    return x, level, pooled, {m: torch.empty(1, *s, device="meta") for m, s in assembly.shapes.items()}


def logit(module: Any, given: tuple[Any, ...]) -> Any:
    """Call a discriminator."""
    return module(*given) if getattr(module, "reads_x0", False) else module(*given[:3])


def real_tuple(module: Any, assembly: Any) -> None:
    """Do what both losses do for a real tuple: logit, its gradient, and the backward pass through both."""
    import torch

    given = inputs(assembly, graded=True)
    value = logit(module, given)
    gradient = torch.autograd.grad(value.sum(), tuple(given[0].values()), create_graph=True)
    (value.sum() + sum(g.square().sum() for g in gradient)).backward()


def fake_tuple(module: Any, assembly: Any) -> None:
    """Do what the classification loss does for a fake tuple."""
    logit(module, inputs(assembly, graded=False)).sum().backward()


def operations(work: Callable[[], object]) -> float:
    """Return the operations of matrix products, convolutions and attention in a call."""
    from guidance import operations as counted

    return counted(work)


if __name__ == "__main__":
    main()
