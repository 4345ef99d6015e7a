"""Comparisons and error messages of the conformance checks."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Payload, State

Found = TypeVar("Found")


def expect(condition: bool, otherwise: str) -> None:
    """Raise AssertionError unless the condition holds."""
    # Not an assert statement, which python -O would drop.
    if not condition:
        raise AssertionError(otherwise)


def expect_state(state: State, like: Mapping[str, Tensor], call: str) -> None:
    """Expect finite float32 tensors without a graph, of the very modalities and shapes of `like`."""
    expect(set(state) == set(like), f"{call} gives {sorted(state)}, not {sorted(like)}")
    for name, value in state.items():
        expected = tuple(like[name].shape)
        expect(tuple(value.shape) == expected, f"{name}: {call} gives {tuple(value.shape)}, not {expected}")
        expect(value.dtype == torch.float32, f"{name}: {call} gives {value.dtype}, not torch.float32")
        expect(bool(value.isfinite().all()), f"{name}: {call} gives values that are not finite")
        expect(not value.requires_grad, f"{name}: {call} builds a graph: run it under torch.no_grad()")


def expect_close(found: State, expected: Mapping[str, Tensor], tolerance: float, otherwise: str) -> None:
    """Expect values to differ by at most `tolerance` times the largest of them, or times 1."""
    for name, value in expected.items():
        error = float((found[name] - value).abs().max())
        expect(error <= tolerance * max(1.0, float(value.abs().max())), f"{name}: {otherwise} (by {error:.2g})")


def noise(shapes: Mapping[str, tuple[int, ...]], batch: int) -> State:
    """Return the same standard normal noise (batch, *shape) at every call."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()}


def row(state: Mapping[str, Tensor], i: int) -> State:
    """Return one sample of a batch, still with its batch axis."""
    return {name: value[i : i + 1] for name, value in state.items()}


def row_of(payload: Payload, i: int) -> Payload:
    """Return one sample's part of a condition."""
    if isinstance(payload, Mapping):
        return row(payload, i)
    return None if payload is None else payload[i : i + 1]


def tensors_of(payload: Payload, name: str) -> State:
    """Return the tensors of a condition, under names for error messages."""
    if isinstance(payload, Mapping):
        return {f"{name} {key}": value for key, value in payload.items()}
    return {} if payload is None else {name: payload}


def unchanged(call: Callable[[], State], tensors: Mapping[str, Tensor]) -> State:
    """Return the result of a call, and expect it to leave the caller's tensors unchanged."""
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    result = call()
    for name, tensor in tensors.items():
        expect(torch.equal(before[name], tensor), f"the caller's {name} were written to")
    return result


def undrawn(call: Callable[[], Found]) -> Found:
    """Return the result of a call that must not use torch's global generator; a first call may, to load."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(283)  # in a state that nobody would set
        before = torch.get_rng_state()
        result = call()
        expect(torch.equal(torch.get_rng_state(), before), "torch's global generator was drawn from, or seeded")
    return result
