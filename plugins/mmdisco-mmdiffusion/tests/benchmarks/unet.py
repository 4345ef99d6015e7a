"""What one step of MM-Diffusion costs at its real size: ours, with plain loops, in half precision, and guided.

    python tests/benchmarks/unet.py [--device cuda] [--repeat 3] [--pixels 64] [--threads 2]

Every row runs in a process of its own, on random weights, after one unmeasured step. "Loops" replaces the windowed
attention by a Python loop over frames, each with a softmax of its own; "per pixel" also convolves along time as the
released code does, every pixel's frames moved into a row of their own. Peak memory is the process's on the CPU, and
what torch allocated on a GPU; weights are 0.5 GB of it.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

ROWS = {
    "U-Net, float32": {},
    "U-Net with loops over frames": {"loops": True},
    "U-Net with loops, time per pixel": {"loops": True, "pixels": True},
    "U-Net, bfloat16": {"half": True},
    "U-Net and discriminator, float32": {"guided": True},
    "U-Net and discriminator, bfloat16": {"guided": True, "half": True},
}
ALONE = {
    "windowed attention": {"attention": True},
    "windowed attention with loops": {"attention": True, "loops": True},
}
LEVELS = ((256, 2, 1), (384, 4, 4), (512, 8, 8))
"""Channels, how many times smaller the frames are, and window in frames where the network attends."""
FORWARD = 1.329e12
"""Floating-point operations of one forward pass at 16 frames of 64 x 64."""


def main() -> None:
    """Measure every row and print the tables; ratios are to the first row of each."""
    args = arguments().parse_args()
    if args.row is not None:
        print(json.dumps(measure(args, (ROWS | ALONE)[args.row])))
        return
    for table in (ROWS, ALONE):
        show({row: alone(row) for row in table}, args)


def show(rows: Mapping[str, Mapping[str, float]], args: argparse.Namespace) -> None:
    """Print a table."""
    first = next(iter(rows.values()))
    print(f"{'':<36}{'seconds':>9}{'CPU s':>9}{'cost':>7}{'TFLOP/s':>9}{'peak MB':>9}{'memory':>8}")
    for row, found in rows.items():
        cost, memory = found["cpu"] / first["cpu"], found["peak"] / first["peak"]
        known = args.pixels == 64 and "guided" not in ROWS.get(row, {"guided": True})
        rate = f"{FORWARD / found['cpu'] / 1e12:.3f}" if known else ""
        print(f"{row:<36}{found['wall']:9.2f}{found['cpu']:9.2f}{cost:7.2f}{rate:>9}{found['peak']:9.0f}{memory:8.2f}")


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--row", choices=ROWS | ALONE, help=argparse.SUPPRESS)
    return parser


def alone(row: str) -> dict[str, float]:
    """Return what a process of its own measures for one row."""
    command = [sys.executable, __file__, *sys.argv[1:], "--row", row]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def measure(args: argparse.Namespace, how: Mapping[str, bool]) -> dict[str, float]:
    """Return the least wall and CPU seconds of a step, and the peak memory in MB."""
    import torch

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    step = step_of(args, how, device)
    step()
    walls, cpus = [], []
    for _ in range(args.repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    on_gpu = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated() / 1e6 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    )
    return {"wall": min(walls), "cpu": min(walls if on_gpu else cpus), "peak": peak}


def step_of(args: argparse.Namespace, how: Mapping[str, bool], device: Any) -> Callable[[], object]:
    """Return one denoising step at the real size."""
    import torch

    from mmdisco_cli.diffusion.guidance import Guidance, guide
    from mmdisco_cli.diffusion.prediction import to_x0_eps
    from mmdisco_cli.diffusion.schedules import Levels
    from mmdisco_cli.paper import build_discriminator
    from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig

    torch.manual_seed(0)
    make_plain(how)
    if how.get("attention"):
        return attention_of(args.pixels, device)
    unet = CoupledUNet(UNetConfig()).eval().requires_grad_(False).to(device)
    state = {"video": torch.randn(1, 3, 16, args.pixels, args.pixels), "audio": torch.randn(1, 1, 25600)}
    state = {m: x.to(device) for m, x in state.items()}
    t = torch.tensor([500], device=device)
    shifts = torch.full((1, len(unet.windows)), 3, device=device)
    levels = {m: Levels(torch.tensor(500.0), torch.tensor(0.2789), torch.tensor(0.9603)) for m in state}
    discriminator = build_discriminator("mmdiffusion_landscape").eval().requires_grad_(False).to(device)
    # Its last layers begin at zero, and a gradient of zeros could be had for less.
    for parameter in discriminator.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, device=device))

    def step() -> object:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bool(how.get("half"))):
            epsilon = dict(zip(("video", "audio"), unet(state["video"], state["audio"], t, shifts), strict=True))
            if not how.get("guided"):
                return epsilon
            epsilon = {m: e.float() for m, e in epsilon.items()}
            x0 = {m: to_x0_eps(e, state[m], levels[m].alpha, levels[m].sigma, "epsilon")[0] for m, e in epsilon.items()}
            return guide(Guidance(discriminator), state, x0, epsilon, levels)

    return step


def attention_of(pixels: int, device: Any) -> Callable[[], object]:
    """Return one windowed attention at each level."""
    import torch

    from mmdisco_mmdiffusion.attention import CrossAttention

    inputs = []
    for channels, factor, window in LEVELS:
        block = CrossAttention(channels, 64, window).requires_grad_(False).to(device)
        video = torch.randn(1, 16, pixels // factor, pixels // factor, channels, device=device)
        audio = torch.randn(1, 25600 // factor**2, channels, device=device)
        inputs.append((block, video, audio, torch.tensor([3], device=device)))
    return lambda: [block(video, audio, shift) for block, video, audio, shift in inputs]


def make_plain(how: Mapping[str, bool]) -> None:
    """Replace parts of the network by their plain forms."""
    from mmdisco_mmdiffusion import attention, layers

    if how.get("loops"):
        attention._windowed = looped
    if how.get("pixels"):
        layers.FrameConv.forward = per_pixel


def looped(video: Any, audio: Any, shift: Any, window: int, heads: int) -> Any:
    """Return what `_windowed` does, frame by frame."""
    import torch

    (qv, kv, vv), (qa, ka, va) = video, audio
    frames, length = qv.shape[1], qa.shape[1]
    chunk = length // frames
    seen, heard = [], []
    for i in range(frames):
        first = i + int(shift[0])
        samples = torch.arange(first * chunk, (first + window) * chunk, device=qv.device) % length
        seen.append(softmaxed(qv[:, i], ka.index_select(1, samples), va.index_select(1, samples), heads))
        around = torch.arange(first, first + window, device=qv.device) % frames
        keys, values = (x.index_select(1, around).flatten(1, 2) for x in (kv, vv))
        end = length if i == frames - 1 else (i + 1) * chunk
        heard.append(softmaxed(qa[:, i * chunk : end], keys, values, heads))
    return torch.stack(seen, 1), torch.cat(heard, 1)


def softmaxed(q: Any, k: Any, v: Any, heads: int) -> Any:
    """Return attention with its weights written out."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return ((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)


def per_pixel(self: Any, x: Any) -> Any:
    """Return what a `FrameConv` does, each pixel's frames being a sequence of its own."""
    import torch.nn.functional as F

    spatial, temporal = self.video_conv_spatial, self.video_conv_temporal
    batch, frames, height, width, _ = x.shape
    planes = x.flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    y = F.conv2d(planes, spatial.weight, spatial.bias, padding=1)
    rows = y.unflatten(0, (batch, frames)).permute(0, 3, 4, 2, 1).flatten(0, 2).contiguous()
    z = F.conv1d(rows, temporal.weight, temporal.bias, padding=1)
    return z.unflatten(0, (batch, height, width)).permute(0, 4, 1, 2, 3).contiguous()


if __name__ == "__main__":
    main()
