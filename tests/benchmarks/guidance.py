"""What one evaluation of the paper's guidance costs at its real size: logit and gradient by audio and video.

    python tests/benchmarks/guidance.py [--peer PATH] [--device cuda] [--repeat 3] [--threads 2] [--weights small]

Two of the released discriminators: MM-Diffusion's, and that of AudioLDM and AnimateDiff, whose gradient is a
classifier-free combination of one with texts and one without. PATH is a checkout of the authors' repository; its
modules are imported from there, run as their sampler runs them, and stand first. Every row is a process of its own,
after one unmeasured evaluation; rows take turns --repeat times, and each shows its least. All rows have the same
weights, made from the names of the tensors as the recorded vectors are, and load them from a file as their users do.
Ours run as `mmdisco sample` runs them, large blocks of memory kept on a CPU. "Error" is the relative L2 distance of the
gradients from those of our float32, "operations" are those of the matrix products and convolutions, counted while it
runs; the rate is of these, beside the best that this machine did in a matrix product of the same type, by any path.
Peak memory is the whole process's on a CPU, imports and weights included, and what torch allocated on a GPU.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CONFIGS = ("mmdiffusion_landscape", "audioldm_animediff_vggsound")
ROWS = {"authors, float32": "peer", "ours, float32": "float32", "ours, bfloat16": "bfloat16"}
TIME = 500


def main() -> None:
    """Measure both discriminators and print the tables; ratios are to the first row of each."""
    args = arguments().parse_args()
    if args.row is not None:
        print(json.dumps(measure(args)))
        return
    peaks = {dtype: alone(args, "peak", "", dtype, Path())["rate"] for dtype in ("float32", "bfloat16")}
    shown = ", ".join(f"{dtype} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in peaks.items())
    print(f"threads {args.threads}; matrix product: {shown}; weights {args.weights}")
    rows = {row: how for row, how in ROWS.items() if args.peer is not None or how != "peer"}
    for config in CONFIGS:
        with tempfile.TemporaryDirectory() as place:
            alone(args, "weights", config, "", Path(place) / "weights.pt")
            found: dict[str, dict[str, float]] = {}
            for _ in range(args.repeat):
                for row, how in rows.items():
                    again = alone(args, "row", config, how, Path(place) / how)
                    kept = found.setdefault(row, again)
                    found[row] = {k: max(v, again[k]) if k == "peak" else min(v, again[k]) for k, v in kept.items()}
            errors = {row: distance(Path(place) / how, Path(place) / "float32") for row, how in rows.items()}
        show(config, found, errors, {row: peaks.get(how, peaks["float32"]) for row, how in rows.items()})


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--weights", choices=("fanin", "std002"), default="std002")
    for hidden in ("--row", "--config", "--how", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    return parser


def show(
    config: str, rows: Mapping[str, Mapping[str, float]], errors: Mapping[str, float], peaks: Mapping[str, float]
) -> None:
    """Print a table."""
    first = next(iter(rows.values()))
    columns = ("seconds", "CPU s", "speed", "CPU", "GFLOP", "GFLOP/s", "of peak", "peak MB", "memory", "error")
    print(f"\n{config}\n{'':<18}" + "".join(f"{column:>9}" for column in columns))
    for row, found in rows.items():
        rate = found["operations"] / found["wall"]
        cells = (
            f"{found['wall']:.2f}",
            f"{found['cpu']:.2f}",
            f"{first['wall'] / found['wall']:.2f}x",
            f"{first['cpu'] / found['cpu']:.2f}x",
            f"{found['operations'] / 1e9:.1f}",
            f"{rate / 1e9:.0f}",
            f"{rate / peaks[row]:.0%}",
            f"{found['peak']:.0f}",
            f"{found['peak'] / first['peak']:.2f}x",
            f"{errors[row]:.1e}",
        )
        print(f"{row:<18}" + "".join(f"{cell:>9}" for cell in cells), flush=True)


def alone(args: argparse.Namespace, row: str, config: str, how: str, out: Path) -> dict[str, float]:
    """Return what a process of its own measures for one row."""
    hidden = ["--row", row, "--config", config, "--how", how, "--out", str(out)]
    command = [sys.executable, __file__, *sys.argv[1:], *hidden]
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )
    return found


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Return wall and CPU seconds of one evaluation, its operations and the peak memory in MB, and write the gradients.

    For the row `peak`, return the rate of a matrix product; for `weights`, write them and return nothing.
    """
    import torch

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if args.row == "peak":
        return {"rate": matmul_rate(getattr(torch, args.how), device)}
    if args.row == "weights":
        return make_weights(args)
    evaluate = theirs(args, device) if args.how == "peer" else ours(args, device)
    gradients = evaluate()
    spent = timed(evaluate, device)
    on_gpu = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated() / 1e6 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    )
    torch.save({m: g.float().cpu() for m, g in gradients.items()}, args.out)
    return {**spent, "peak": peak, "operations": operations(evaluate)}


def timed(evaluate: Callable[[], object], device: Any) -> dict[str, float]:
    """Return wall and CPU seconds of one evaluation."""
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    evaluate()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def operations(evaluate: Callable[[], object]) -> float:
    """Return the floating-point operations of matrix products and convolutions, forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    total = 0.0

    class Counter(TorchDispatchMode):  # torch's own counter knows no gradient by a leaf inside of what it counts
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total
            out = func(*args, **(kwargs or {}))
            if (count := flop_registry.get(func.overloadpacket)) is not None:
                total += count(*args, **(kwargs or {}), out_val=out)
            return out

    with Counter():
        evaluate()
    return total


def matmul_rate(dtype: Any, device: Any) -> float:
    """Return the best rate of matrix products of this type, as such and as the convolution of kernel 1 that it is."""
    import torch

    best = 0.0
    for n in (1024, 2048):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        paths = [lambda a=a, b=b: a @ b, lambda a=a, b=b: torch.conv2d(a[None, :, :, None], b[:, :, None, None])]
        for product in paths:
            product()
            for _ in range(5):
                best = max(best, 2 * n**3 / timed(product, device)["wall"])
    return best


def inputs(config: str, device: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return states, texts and negative texts of one sample, in our order of axes."""
    from released_weights import drawn

    from mmdisco_cli import paper

    released = paper.configuration(config)
    x = {m: drawn(f"input.{m}", (1, *shape)).to(device) for m, shape in released.shapes.items()}
    texts, negative = (
        {m: drawn(f"input.{m}_text{end}", (1, size)).to(device) for m, size in released.texts.items()}
        for end in ("", "_neg")
    )
    return x, texts, negative


def make_weights(args: argparse.Namespace) -> dict[str, float]:
    """Write a discriminator's weights as its authors do, and converted beside them."""
    import torch

    prepare()
    from released_weights import weights

    from mmdisco_cli.conversion.discriminators import discriminator_shapes
    from mmdisco_cli.conversion.run import convert
    from mmdisco_cli.paper.configs import RELEASED
    from mmdisco_cli.run.options import ConvertOptions

    source = Path(args.out)
    torch.save(weights(discriminator_shapes(RELEASED[args.config]), args.weights), source)
    convert(ConvertOptions(source, source.with_suffix(".safetensors"), args.config))
    return {}


def ours(args: argparse.Namespace, device: Any) -> Callable[[], dict[str, Any]]:
    """Return our guidance, as sampling calls it."""
    import torch

    prepare()
    from mmdisco_cli import paper
    from mmdisco_cli.devices import keep_large_blocks
    from mmdisco_cli.diffusion.guidance import Guidance, guidance_gradient
    from mmdisco_cli.diffusion.schedules import Levels

    released = paper.configuration(args.config)
    x, texts, negative = inputs(args.config, device)
    discriminator = paper.load_discriminator(Path(args.out).with_name("weights.safetensors")).to(device)
    guidance = Guidance(discriminator, form="released", cfg=released.cfg)
    levels = {
        m: Levels(torch.tensor(float(TIME)), (1 - s**2).sqrt()[0], s[0])
        for m, s in discriminator.sigmas(torch.tensor([TIME])).items()
    }

    if device.type == "cpu":
        keep_large_blocks()

    def evaluate() -> dict[str, Any]:
        with torch.autocast(device.type, torch.bfloat16, enabled=args.how == "bfloat16"):
            return guidance_gradient(guidance, x, levels, texts, negative)[1]

    return evaluate


def theirs(args: argparse.Namespace, device: Any) -> Callable[[], dict[str, Any]]:
    """Return the authors' guidance: with and without texts one after the other, each with a gradient of its own."""
    import torch

    prepare()
    from mmdisco_cli import paper
    from mmdisco_cli.diffusion.guidance import cfg_combine

    released = paper.configuration(args.config)
    x, texts, negative = inputs(args.config, device)
    network = peer_module(args.peer.resolve(), args.config).eval().requires_grad_(False)
    network.load_state_dict(torch.load(Path(args.out).with_name("weights.pt"), weights_only=True))
    network.to(device)
    one, channels_first = torch.ones((), device=device), bool(released.texts)

    def residual(texts: Mapping[str, Any]) -> dict[str, Any]:
        video = x["video"].clone() if channels_first else x["video"].transpose(1, 2).contiguous()
        found = network(
            video, None, x["audio"].clone(), None, torch.tensor([TIME], device=device), texts.get("video"),
            texts.get("audio"), score_factor={"video": one, "audio": one}, video_channel_time_transpose=channels_first,
            audio_spatial_transpose=False, inference=True,
        )  # fmt: skip
        video = found.pred_video if channels_first else found.pred_video.transpose(1, 2)
        return {"video": video.detach(), "audio": found.pred_audio.detach()}

    def evaluate() -> dict[str, Any]:
        positive = residual(texts)
        if not texts:
            return positive
        other = residual(negative)
        return {m: cfg_combine(g, other[m], released.cfg[m]) for m, g in positive.items()}

    return evaluate


def peer_module(checkout: Path, config: str) -> Any:
    """Build the discriminator that a configuration of the authors' names, from their checkout alone."""
    import yaml

    sys.path.insert(0, str(checkout))
    for name in ("mmdisco", "mmdisco.models"):
        # Packages without what they import at once: every base model and its libraries.
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]
        sys.modules[name] = package
    text = (checkout / "conf" / "model" / f"{config}.yaml").read_text()
    return built(yaml.safe_load(text)["residual_predictor"])


def built(value: Any) -> Any:
    """Build what a `_target_` in their configuration names, and what it is given, without its weights."""
    if not isinstance(value, dict) or "_target_" not in value:
        return value
    path = value["_target_"].split(".")
    split = next(i for i, part in enumerate(path) if part[0].isupper())
    target = importlib.import_module(".".join(path[:split]))
    for part in path[split:]:
        target = getattr(target, part)
    return target(**{k: built(v) for k, v in value.items() if k not in ("_target_", "ckpt_path")})


def prepare() -> None:
    """Make this checkout's package, and how the recorded vectors make weights, importable."""
    for folder in (ROOT, ROOT / "tests" / "released"):
        sys.path.insert(0, str(folder))


def distance(found: Path, exact: Path) -> float:
    """Return the greater relative L2 distance of a modality's gradient."""
    import torch

    a, b = (torch.load(path, weights_only=True) for path in (found, exact))
    return max(float((a[m] - b[m]).norm() / b[m].norm()) for m in b)


if __name__ == "__main__":
    main()
