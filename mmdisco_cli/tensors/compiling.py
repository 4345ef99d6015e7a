"""`train.compile`: networks that only predict, compiled by torch.compile.

A discriminator is not: the denoising loss takes second derivatives of it, which compiled networks do not have ("torch.
compile with aot_autograd does not currently support double backward", torch 2.11). Base models predict without
gradients, and most of a step's time is theirs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from mmdisco_cli.errors import describe

X = TypeVar("X")
Y = TypeVar("Y")


class Compiling:
    """Calls `work`, whose outermost networks it compiles after the first call, when they are loaded and in their place.

    Where that fails, as without a C++ compiler, it says so once, and goes on without.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._networks: list[nn.Module] = []
        self._tried = False

    def __call__(self, work: Callable[[X], Y]) -> Callable[[X], Y]:
        """Return `work`, which must not depend on how often it is called, compiled."""

        def worked(x: X) -> Y:
            if not self._tried:
                return self._first(work, x)
            try:
                return work(x)
            except Exception as error:  # compilers raise errors of many kinds
                if not self._networks:
                    raise
                self._give_up(describe(error))
                return work(x)

        return worked

    def _first(self, work: Callable[[X], Y], x: X) -> Y:
        self._tried = True
        with _outermost() as networks:
            out = work(x)
        self._networks = networks
        for network in networks:
            network.compile()
        return out

    def _give_up(self, why: str) -> None:
        self._say(f"note: train.compile: base models run uncompiled: {why}")
        for network in self._networks:
            network._compiled_call_impl = None
        self._networks = []


@contextmanager
def _outermost() -> Iterator[list[nn.Module]]:
    """Note the networks that are called inside the block, without those that they call themselves."""
    found: list[nn.Module] = []
    depth = 0

    def enter(module: nn.Module, arguments: Any) -> None:
        nonlocal depth
        if depth == 0 and module not in found:
            found.append(module)
        depth += 1

    def leave(module: nn.Module, arguments: Any, out: Any) -> None:
        nonlocal depth
        depth -= 1

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
