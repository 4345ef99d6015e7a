"""Ranks under `torchrun`: torch.distributed, with gloo on the CPU and NCCL on GPUs.

Gradients are averaged explicitly after `backward`, because DistributedDataParallel does not support the second
derivatives that the denoising loss takes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmdisco_cli.errors import DeviceError
from mmdisco_cli.run.ranks import Ranks, ranks_of, require_meeting_place

__all__ = ["Ranks", "any_rank", "average_gradients", "gathered", "joined_ranks", "same_weights", "wait_for_all"]

LOST = ("gloo/transport", "ncclRemoteError", "DistNetworkError")
"""What errors say that come of the end of another process."""
PATIENCE = timedelta(hours=6)
"""Timeout of collective operations: one rank may still be encoding clips when the others are done."""


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the process group that torchrun's environment describes, for the duration of a block.

    Ranks wait for one another at the end of a block that raised nothing. A single process, or one whose caller has
    joined a group already, joins none.

    Raises:
        UsageError: the environment describes no such process.
        DeviceError: another rank has ended in the middle of the work.
    """
    ranks = ranks_of()
    if ranks.world == 1 or dist.is_initialized():
        yield ranks
        return
    require_meeting_place(ranks)
    # Optimizers import this module, whose functions take the current group as their default and so keep it alive after
    # its end: import it while there is none.
    import torch.distributed.nn  # noqa: F401

    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=ranks.rank, world_size=ranks.world, timeout=PATIENCE)
    failed = True
    try:
        with _lost_ranks_named():
            yield ranks
            dist.barrier()
        failed = False
    finally:
        # A thread of gloo that frees a tensor while the interpreter exits would abort the process, so end the threads
        # first. NCCL has no such threads, and would wait here for ranks that may have failed.
        if backend == "gloo" or not failed:
            dist.destroy_process_group()


@contextmanager
def _lost_ranks_named() -> Iterator[None]:
    """Raise DeviceError, which says what to do, where a connection to another rank breaks."""
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST):
            raise
        text = "another rank has ended, see what it said; the same command goes on from the last checkpoint"
        raise DeviceError(text) from error


def wait_for_all(ranks: Ranks | None) -> None:
    """Wait until every rank has called this."""
    if ranks is not None and ranks.world > 1:
        dist.barrier()


def same_weights(module: nn.Module, ranks: Ranks) -> None:
    """Broadcast the first rank's weights: machines may differ in the last bit of an initialisation from one seed."""
    if ranks.world > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every gradient by its mean over the ranks."""
    if ranks.world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients]) / ranks.world
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def any_rank(flag: bool, ranks: Ranks, device: torch.device) -> bool:
    """Return whether the flag is set on any rank."""
    if ranks.world == 1:
        return flag
    votes: Tensor = torch.tensor(float(flag), device=device)
    dist.all_reduce(votes)
    return bool(votes > 0)


def gathered(number: int, ranks: Ranks, device: torch.device) -> list[int]:
    """Return every rank's whole number, by rank; waits for all."""
    numbers = torch.zeros(ranks.world, dtype=torch.int64, device=device)
    numbers[ranks.rank] = number
    if ranks.world > 1:
        dist.all_reduce(numbers)
    return [int(each) for each in numbers]
