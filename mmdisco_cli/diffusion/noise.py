"""Noise that depends on the sample only, to the bit: not on batch size, shard, device, threads or resuming."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Levels


def sample_noise(seed: int, index: int, modality: str, stream: str, shape: Sequence[int]) -> Tensor:
    """Return standard normal noise of one sample on the CPU, keyed by (seed, index, modality, stream)."""
    generator = torch.Generator().manual_seed(_key(seed, index, modality, stream))
    return torch.randn(tuple(shape), generator=generator)


def sample_keys(seed: int, indices: Sequence[int], model: str) -> Tensor:
    """Return an integer key (len(indices),) for each sample, to seed a model's own random numbers (`Keyed`)."""
    return torch.tensor([_key(seed, index, model, "draws") for index in indices])


def initial_noise(seed: int, index: int, modality: str, shape: Sequence[int], run: str = "") -> Tensor:
    """Return the noise (*shape) that sample `index` starts from; a further `run` of the sampler has its own noise."""
    return sample_noise(seed, index, modality, f"{run}initial", shape)


def initial_state(
    seed: int,
    indices: Sequence[int],
    shapes: Mapping[str, Sequence[int]],
    first: Mapping[str, Levels],
    device: torch.device | str = "cpu",
    run: str = "",
) -> State:
    """Return the states (len(indices), *shape) at the first level of the grid, of variance alpha^2 + sigma^2."""
    noise = {m: torch.stack([initial_noise(seed, i, m, shape, run) for i in indices]) for m, shape in shapes.items()}
    scale = {m: torch.hypot(first[m].alpha, first[m].sigma) for m in shapes}
    return {m: (x * per_sample(scale[m], x)).to(device) for m, x in noise.items()}


@dataclass(frozen=True)
class GeneratorNoise:
    """Draw fresh noise from one generator of the caller's, whole batches at a time, modality after modality.

    The noise of a sample depends on its batch and on all that was drawn before, unlike that of `StepNoise`. `axes`
    gives, by modality, the order of axes in which numbers are drawn, as a permutation of the state's.
    """

    generator: torch.Generator
    order: Sequence[str]
    axes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __call__(self, step: int, state: Mapping[str, Tensor]) -> State:
        """Return noise shaped, typed and placed like the state."""
        return {m: self._like(m, state[m]) for m in self.order}

    def _like(self, modality: str, x: Tensor) -> Tensor:
        axes = list(self.axes.get(modality, range(x.ndim)))
        shape = [x.shape[axis] for axis in axes]
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return drawn.permute([axes.index(axis) for axis in range(x.ndim)]).to(x)


@dataclass(frozen=True)
class StepNoise:
    """Draw the fresh noise of stochastic samplers for the samples `indices` of a batch; `run` as in `initial_noise`."""

    seed: int
    indices: Sequence[int]
    run: str = ""

    def __call__(self, step: int, state: Mapping[str, Tensor]) -> State:
        """Return noise shaped, typed and placed like the state, the same whenever this step is taken."""
        return {m: self._like(step, m, x) for m, x in state.items()}

    def _like(self, step: int, modality: str, x: Tensor) -> Tensor:
        draws = [sample_noise(self.seed, i, modality, f"{self.run}step {step}", x.shape[1:]) for i in self.indices]
        return torch.stack(draws).to(x)


def _key(seed: int, index: int, name: str, stream: str) -> int:
    digest = hashlib.sha256(f"{seed}:{index}:{name}:{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
