"""Which samples this process makes: every n-th, by `--shard` and by torchrun's ranks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mmdisco_cli.errors import UsageError
from mmdisco_cli.ranks import ranks_of


@dataclass(frozen=True)
class Shard:
    """Samples index, index + count, index + 2 * count, ..."""

    index: int = 0
    count: int = 1

    def of(self, n: int) -> range:
        """Return the indices of this shard among n samples."""
        return range(self.index, n, self.count)


def this_shard(asked: tuple[int, int] | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return what this process has to do: the share that was asked for, shared out again among torchrun's ranks.

    Raises:
        UsageError: the index does not lie below the count, or the environment describes no rank.
    """
    index, count = asked or (0, 1)
    if not 0 <= index < count:
        raise UsageError(f"shard {index}/{count}: the index must lie between 0 and {count - 1}")
    ranks = ranks_of(environment)
    return Shard(index + count * ranks.rank, count * ranks.world)


def share_note(shard: Shard, n: int, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return what to say where variables of the environment, and no option, leave this process a part of n samples."""
    ranks = ranks_of(environment)
    if ranks.world == 1:
        return []
    return [f"rank {ranks.rank} of {ranks.world}, by RANK and WORLD_SIZE: makes {len(shard.of(n))} of {n} samples"]
