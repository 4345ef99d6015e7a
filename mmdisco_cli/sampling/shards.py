"""Which samples this process makes: every n-th, by `--shard` and by torchrun's ranks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mmdisco_cli.errors import UsageError


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
        UsageError: the index does not lie below the count.
    """
    index, count = asked or (0, 1)
    if not 0 <= index < count:
        raise UsageError(f"shard {index}/{count}: the index must lie between 0 and {count - 1}")
    rank, world = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    return Shard(index + count * rank, count * world)
