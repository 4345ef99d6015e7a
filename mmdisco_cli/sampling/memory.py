"""An estimate of what a run of `mmdisco sample` takes, of memory and of operations, without running it."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import count_parameters, memory_lines, prediction_operations
from mmdisco_cli.diffusion.guidance import reads_x0
from mmdisco_cli.diffusion.operations import count_operations

MEGABYTE = 10**6
WIDTH = 4
"""Bytes of a float32."""


def memory_mb(assembly: Assembly, batch: int) -> dict[str, int]:
    """Return megabytes of weights, and of what guidance keeps of a batch for its backward pass, in float32.

    Backbones with their own `memory` lines are left out: only they know their number format.
    """
    unreported = (base.backbone for base in assembly.bases if not memory_lines(base.backbone))
    parameters = [count_parameters(backbone) or 0 for backbone in unreported]
    loaded = assembly.discriminator
    if loaded is None:
        return {"weights": sum(parameters) * WIDTH // MEGABYTE, "guidance": 0}
    parameters.append(sum(p.numel() for p in loaded.module.parameters()))
    kept = kept_for_backward(loaded.module, assembly.shapes, assembly.pooled)
    return {"weights": sum(parameters) * WIDTH // MEGABYTE, "guidance": kept * batch // MEGABYTE}


def operations(assembly: Assembly) -> dict[str, int | None]:
    """Return the floating-point operations of a step of one sample: of each model by its label, and of guidance.

    None where a model does not say; `guidance` is there where there is a discriminator: its logit and the gradient.
    """
    found = {label: prediction_operations(base) for label, base in assembly.models.items()}
    loaded = assembly.discriminator
    if loaded is None:
        return found
    module, shapes, pooled = loaded.module, assembly.shapes, assembly.pooled

    def inputs() -> tuple[Any, ...]:
        x = {m: torch.empty(1, *shape, requires_grad=True) for m, shape in shapes.items()}
        texts = {m: torch.empty(1, size) for m, size in pooled.items() if size}
        extra = ({m: torch.empty(1, *shape) for m, shape in shapes.items()},) if reads_x0(module) else ()
        return (x, {m: torch.zeros(1) for m in shapes}, texts or None, *extra)

    return {**found, "guidance": count_operations(module, inputs)}


def kept_for_backward(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> int:
    """Return the bytes that autograd keeps for one sample, without the weights, counted on the meta device."""
    ghost = copy.deepcopy(module).to("meta")
    kept: dict[int, Tensor] = {}

    def count(tensor: Tensor) -> Tensor:
        # Kept alive, so that no later tensor reuses the address that identifies it.
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"), torch.enable_grad():
        x = {m: torch.empty(1, *shape, requires_grad=True) for m, shape in shapes.items()}
        lam = {m: torch.zeros(1) for m in shapes}
        texts = {m: torch.empty(1, size) for m, size in pooled.items() if size}
        extra = ({m: torch.empty(1, *shape) for m, shape in shapes.items()},) if reads_x0(module) else ()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            logit = ghost(x, lam, texts or None, *extra)
    del logit
    weights = {tensor.untyped_storage()._cdata for tensor in ghost.state_dict().values()}
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in weights)
