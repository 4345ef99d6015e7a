"""The share of the work of this process, by torchrun's environment variables and by `--shard`.

Only this module reads them, and refuses contradictory ones: left-over variables must not lose samples.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mmdisco_cli.errors import UsageError

LEFT_OVER = "unset what another launch has left over"


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among `world` processes."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Return whether this is the first process, which writes the files."""
        return self.rank == 0


def ranks_of(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Return this process's rank by RANK and WORLD_SIZE, a single process where neither is set.

    Raises:
        UsageError: one of them is missing or no whole number, or the rank is not below the number of processes.
    """
    rank, world = (_whole(name, environment) for name in ("RANK", "WORLD_SIZE"))
    if rank is None and world is None:
        return Ranks()
    if rank is None or world is None:
        there, absent = ("RANK", "WORLD_SIZE") if world is None else ("WORLD_SIZE", "RANK")
        raise UsageError(f"{there}={environment[there]} without {absent}: set both, as torchrun does, or {LEFT_OVER}")
    if rank >= world:
        raise UsageError(f"RANK={rank} is not below WORLD_SIZE={world}: {LEFT_OVER}")
    return Ranks(rank, world)


def local_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return this process's number on its machine, by LOCAL_RANK; errors as for `ranks_of`."""
    rank, count = (_whole(name, environment) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if rank is not None and count is not None and rank >= count:
        raise UsageError(f"LOCAL_RANK={rank} is not below LOCAL_WORLD_SIZE={count}: {LEFT_OVER}")
    return rank or 0


def local_world(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes of this launch share this machine, by LOCAL_WORLD_SIZE; errors as for `ranks_of`."""
    return _whole("LOCAL_WORLD_SIZE", environment) or 1


def require_meeting_place(ranks: Ranks, environment: Mapping[str, str] = os.environ) -> None:
    """Raise UsageError where several processes are to join and MASTER_ADDR or MASTER_PORT is missing."""
    if ranks.world == 1:
        return
    if absent := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]:
        raise UsageError(
            f"WORLD_SIZE={ranks.world} without {' and '.join(absent)}: start processes with torchrun, or {LEFT_OVER}"
        )
    port = _whole("MASTER_PORT", environment)
    if port is None or port > 65535:
        raise UsageError(f"MASTER_PORT={port}: expected a port from 0 to 65535")


@dataclass(frozen=True)
class Shard:
    """Samples index, index + count, index + 2 * count, ..."""

    index: int = 0
    count: int = 1

    def of(self, n: int) -> range:
        """Return the indices of this shard among n samples."""
        return range(self.index, n, self.count)


def this_shard(requested: tuple[int, int] | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return this process's shard: the requested one, divided again among torchrun's ranks.

    Raises:
        UsageError: the index does not lie below the count, or the environment describes no rank.
    """
    index, count = requested or (0, 1)
    if not 0 <= index < count:
        raise UsageError(f"shard {index}/{count}: the index must lie between 0 and {count - 1}")
    ranks = ranks_of(environment)
    return Shard(index + count * ranks.rank, count * ranks.world)


def share_note(shard: Shard, n: int, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a note where environment variables, and no option, give this process a part of n samples."""
    ranks = ranks_of(environment)
    if ranks.world == 1:
        return []
    return [f"rank {ranks.rank} of {ranks.world}, by RANK and WORLD_SIZE: makes {len(shard.of(n))} of {n} samples"]


def _whole(name: str, environment: Mapping[str, str]) -> int | None:
    """Return a variable that must be an integer from 0 on, None where it is not set."""
    text = environment.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UsageError(f"{name}={text!r}: expected a whole number from 0 on, or {LEFT_OVER}")
    return int(text)
