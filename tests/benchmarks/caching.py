"""How fast a cache is made beside a bare PyAV decode of the same clips, in one run on one machine.

    python tests/benchmarks/caching.py [--clips 200] [--seconds 4] [--size 256] [--like FILE] [--to 128] [--workers N]
        [--rounds 3]

Clips are H.264 with AAC, made here or copies of an .mp4 file, no two alike, and read whole: one window each, scaled to
half their size or to that of `--to`. The codec is a mean of some pixels and samples, so that reading is all there is to
measure. "Bare" is one process that decodes every frame of both streams and does nothing with them; the
rate of the cache is that of `make_shards`, with and without the time until its workers have begun. The ratio is to
`workers` times the bare rate, or to as many as there are cores, if those are fewer. One worker is this process itself:
then the ratio of processor time is printed too, which no other process disturbs.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.cache.content import Content, part_of
from mmdisco_cli.cache.making import make_shards
from mmdisco_cli.data.clips import ClipsDataset, build
from mmdisco_cli.data.contract import as_float
from mmdisco_cli.data.index.probes import available_cores
from mmdisco_cli.data.media import probe
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.diffusion.backbone import ModalityPlan, Request

FPS, RATE = 25, 16000


def main() -> None:
    """Make the clips, decode and cache them in turn, and print the ratios."""
    args = arguments().parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = make(Path(place) / "data", args)
        data = opened(root, args)
        info, (_, rows, columns) = data.windows[0].info, data.media([0], ["video"])["video"].shape[2:]
        print(
            f"{args.clips} clips of {float(info.span().stop):.1f} s, {info.width} x {info.height} to "
            f"{columns} x {rows}, {args.workers} workers"
        )
        for round_ in range(args.rounds):
            data = opened(root, args)  # which keeps in memory what it has read
            begun, busy = Begun(), [time.process_time()]
            bare = args.clips / timed(lambda: decode_all(root))
            busy.append(time.process_time())
            seconds = timed(
                lambda n=round_, begun=begun, data=data: cache(data, Path(place) / f"cache-{n}", args, begun)
            )
            busy.append(time.process_time())
            whole, steady = args.clips / seconds, begun.rate(args.clips)
            limit = min(args.workers, available_cores()) * bare
            print(
                f"bare {bare:.1f} clips/s a process; cache {whole:.1f} clips/s, {steady:.1f} once its workers run: "
                f"{whole / limit:.2f} and {steady / limit:.2f} of workers x bare; load {os.getloadavg()[0]:.1f}"
                + (f"; {(busy[1] - busy[0]) / (busy[2] - busy[1]):.2f} by processor time" * (args.workers == 1))
            )


def arguments() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--like", type=Path)
    parser.add_argument("--to", type=int)
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--rounds", type=int, default=3)
    return parser


class Begun:
    """When the first clips came, and how many they were."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None
        self.last = 0.0

    def __call__(self, done: int, total: int) -> None:
        self.last = time.perf_counter()
        self.first = self.first or (self.last, done)

    def rate(self, total: int) -> float:
        """Return the clips a second from then on."""
        begun, done = self.first or (0.0, 0)
        return (total - done) / max(self.last - begun, 1e-9)


def timed(work: object) -> float:
    """Return the seconds that a function takes."""
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


def make(root: Path, args: argparse.Namespace) -> Path:
    """Write the clips: one is encoded or given, the others are it with a number of their own in an empty box."""
    root.mkdir()
    first = args.like or root / "00000.mp4"
    if not args.like:
        encode_clip(first, args)
    content = first.read_bytes()
    for index in range(args.clips):
        number = b"%020d" % index
        (root / f"{index:05d}.mp4").write_bytes(content + (8 + len(number)).to_bytes(4, "big") + b"free" + number)
    return root


def encode_clip(path: Path, args: argparse.Namespace) -> None:
    """Encode moving noise and a tone."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (args.size * 2, args.size * 2, 3), np.uint8)
    with av.open(str(path), "w") as file:
        video, audio = file.add_stream("libx264", FPS), file.add_stream("aac", RATE, layout="mono")
        video.width = video.height = args.size
        video.pix_fmt = "yuv420p"
        for k in range(args.seconds * FPS):
            image = noise[k : k + args.size, 2 * k : 2 * k + args.size] // 4 + 64
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
        tone = np.sin(np.arange(args.seconds * RATE) * 0.17).astype(np.float32)
        for k in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, k : k + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, k, Fraction(1, RATE)
            file.mux(audio.encode(frame))
        for stream in (video, audio):
            file.mux(stream.encode(None))


def opened(root: Path, args: argparse.Namespace) -> ClipsDataset:
    """Open the clips as a recipe would, in one window each."""
    options = ClipsOptions(path=str(root), cache=str(root.parent / "memory"), check=0, windows=1)
    info = probe(next(root.iterdir()))
    span, rate = info.span(), info.rate or FPS
    edge = args.to or args.size // 2
    frames = int((span.stop - span.start) * rate) - 2
    return build(options, Request(frames=frames, fps=float(rate), height=edge, width=edge), sample_rate=RATE)


def decode_all(root: Path) -> None:
    """Decode every frame of every clip."""
    for path in sorted(root.glob("*.mp4")):
        with av.open(str(path)) as file:
            for _ in file.decode(file.streams.video[0], file.streams.audio[0]):
                pass


def cache(data: ClipsDataset, folder: Path, args: argparse.Namespace, begun: Begun) -> None:
    """Make a cache of all clips."""
    item = data.media([0], ("audio", "video"))
    plans = {m: ModalityPlan((4,), tuple(x.shape[1:]), None, 0.0) for m, x in item.items()}
    content = Content(
        {"train": part_of(data, args.clips, ("audio", "video"))}, plans, dict.fromkeys(plans, "mean"), encode
    )
    make_shards(folder, content, workers=args.workers, report=begun)


def encode(media: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return four numbers a clip; floats, of which this codec needs few, are made on the codec's device."""
    return {m: torch.stack([as_float(x.flatten(1)[:, k::1000]).mean(1) for k in range(4)], 1) for m, x in media.items()}


if __name__ == "__main__":
    main()
