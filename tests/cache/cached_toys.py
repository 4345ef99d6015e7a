"""Data and models for caches: numbers in place of clips, and base models of clips whose codec is a mean.

Run as a program it is `convert` or `train` of the recipe below, in a process of its own.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.cache import layout, making
from mmdisco_cli.cache.content import Content, Part, part_of
from mmdisco_cli.conversion.caching import convert_clips
from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request, State
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.errors import DataError, describe, exit_code_of
from mmdisco_cli.hookspecs import BackboneSpec
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.registry.plugins import Plugin, Registry, load_registry
from mmdisco_cli.run.options import ConvertOptions, TrainOptions
from mmdisco_cli.training.run import train

SCHEDULE = make_schedule("cosine")
PARENT = os.getpid()
RECIPE = """
data: {name: clips, windows: 1, check: 0, max_bad: 0.5}
request: {frames: 8, fps: 10, height: 16, width: 24}
backbones:
  audio: {name: mean}
  video: {name: mean}
discriminator: {name: mlp, width: 8, depth: 1}
train: {steps: 4, batch_size: 4, bank: 100, given_fraction: 0, warmup: 0, checkpoint_every: 2, log_every: 1}
sample: {sampler: ddim, steps: 2, batch_size: 4}
"""


@dataclass(frozen=True)
class Numbers:
    """Clip i is the number i, in the shape (2,) of audio and its negative of video; `broken` ones cannot be read."""

    length: int | None = None
    fingerprint: str = "numbers"
    broken: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()
    requested: list[int] = field(default_factory=list)
    said: bool = False

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        for index in indices:
            if index in self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            if index in self.broken:
                raise DataError(f"{index}.mp4: broken")
        self.requested.extend(indices)
        values = torch.tensor(list(indices), dtype=torch.float32)[:, None].expand(-1, 2)
        return {m: {"audio": values, "video": -values}[m] for m in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        return {m: [f"{m} {i // 2}" if self.said else "" for i in indices] for m in modalities}

    def labels(self, indices: Sequence[int]) -> list[str]:
        return [f"kind {i % 2}" if self.said else "" for i in indices]


@dataclass(frozen=True)
class Failing(Numbers):
    """Fails at clip 7 in another way than a broken clip does; here, where worker processes find it."""

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        if 7 in indices:
            raise KeyError("audio")
        return super().media(indices, modalities)


def encode(media: Mapping[str, Tensor]) -> State:
    return {m: x + 0.1 for m, x in media.items()}


def content(count: int, data: Numbers, model: str = "m", encode: Callable[..., State] = encode, max_bad: float = 0.2):
    """Return what a cache of numbers holds."""
    plan = ModalityPlan((2,), (2,), None, 0.0)
    names = ("audio", "video")
    part: Part = part_of(data, count, names, max_bad)  # type: ignore[arg-type]
    return Content({"train": part}, dict.fromkeys(names, plan), dict.fromkeys(names, model), encode)


@dataclass(frozen=True)
class MeanOptions:
    """What stands for the weights, and whether the discriminator is given the prompts."""

    weights: str = "first"
    pooled: bool = True


class Mean:
    """The exact denoiser of a unit Gaussian, on latents (2,) that are means of a clip's halves."""

    takes_prompts = True

    def __init__(self, modality: str, options: MeanOptions, request: Request) -> None:
        self.modality, self.options, self.request = modality, options, request
        self.fingerprint, self.released = options.weights, list[str]()

    @property
    def info(self) -> ModalityInfo:
        return ModalityInfo(self.modality, "epsilon", 2, self.plan(self.request).rate, 3 * self.options.pooled)

    def plan(self, request: Request) -> ModalityPlan:
        frames, height, width = request.frames or 8, request.height or 16, request.width or 24
        seconds = frames / (request.fps or 10)
        if self.modality == "audio":
            return ModalityPlan((2,), (1, round(8000 * seconds)), 8000, seconds)
        return ModalityPlan((2,), (3, frames, height, width), request.fps or 10, seconds)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return SCHEDULE.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return SCHEDULE.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        assert "text" not in self.released
        rows = torch.tensor([[len(p), sum(map(ord, p)) % 97, ord((p or " ")[-1])] for p in prompts]) / 100
        return Condition(
            {"tokens": rows[:, None].expand(-1, 4, 3), "mask": rows > 0}, pooled=rows if self.options.pooled else None
        )

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        return SCHEDULE.levels_at(t.double()).sigma.float()[:, None] * x

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        assert "codec" not in self.released
        flat = media.flatten(1)
        return torch.stack([part.mean(1) for part in flat.chunk(2, 1)], 1)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        raise NotImplementedError

    def release(self, parts: Sequence[str]) -> None:
        self.released.extend(parts)


def registry() -> Registry:
    """Return everything there is, and the base model of means."""
    base = BackboneSpec("mean", "means", MeanOptions, lambda: Mean, 1)
    return Registry((*load_registry().plugins, Plugin("toys", "0", "loaded", (("backbone", base),))))


def load(folder: Path, *settings: str) -> Recipe:
    """Return the recipe, with settings changed."""
    path = folder / "means.yaml"
    path.write_text(RECIPE)
    return recipes.load(str(path), settings, registry=registry())


def main(command: str, data: str, out: str, *settings: str) -> int:
    """Convert or train."""
    recipe = load(Path(out).parent, f"data.path={data}", *settings)
    try:
        if command == "convert":
            convert_clips(recipe, ConvertOptions(Path(data), Path(out)))
        else:
            train(recipe, TrainOptions(out=Path(out)))
    except Exception as error:
        print(f"error: {describe(error)}", file=sys.stderr)
        return exit_code_of(error)
    return 0


def in_small_shards() -> None:
    """Let this process write small shards; with DIES_AFTER=N in the environment be killed as the N-th is written."""
    left = int(os.environ.get("DIES_AFTER", "-1"))
    write = making.write_tensors

    def counted(path: Path, *rest: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, *rest)  # type: ignore[arg-type]

    making.write_tensors = counted
    making.rows_a_chunk = lambda shapes: 1
    layout.MOST_ROWS = 2


if __name__ == "__main__":
    in_small_shards()
    sys.exit(main(*sys.argv[1:]))
