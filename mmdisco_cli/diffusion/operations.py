"""Floating-point operations of a network, counted from shapes: nothing is computed, and no weights are needed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    """Add up the operations of products and convolutions as torch counts them: two for a multiplication and a sum."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def count_operations(module: nn.Module, inputs: Callable[[], tuple[Any, ...]]) -> int:
    """Return the operations of calling a module with what `inputs` makes, on the meta device: tensors of some shapes.

    Where any of them, alone or in a mapping, requires a gradient, those of the gradient of the sum are counted too.
    """
    with torch.device("meta"), _Counter() as counter:
        state = {name: torch.empty_like(x, device="meta") for name, x in _tensors_of(module)}
        arguments = inputs()
        wanted = [x for argument in arguments for x in _members(argument) if x.requires_grad]
        with torch.set_grad_enabled(bool(wanted)):
            out = functional_call(module, state, arguments)
        if wanted:
            torch.autograd.grad(out.sum(), wanted, allow_unused=True)
    return int(counter.total)


def _tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _members(argument: Any) -> list[Tensor]:
    found = argument.values() if isinstance(argument, Mapping) else [argument]
    return [x for x in found if isinstance(x, Tensor)]
