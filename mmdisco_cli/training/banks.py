"""Banks that all ranks make together: each takes its share of the shards, then everyone reads the whole."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.bank import latent_bank, make_shards
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.training.signals import StopFlag

Show = Callable[[int, int], None]


class Interrupted(Exception):  # noqa: N818 - the ranks still have to agree on it
    """A signal came between two shards."""


def shared_bank(
    dataset: Dataset,
    modality: str,
    count: int,
    encode: Callable[[Tensor], Tensor],
    codec: str,
    root: Path,
    ranks: Ranks,
    stop: StopFlag,
    show: Show | None = None,
) -> Tensor:
    """Return the latents (count, ...) of `latent_bank`, made by all ranks together.

    Raises:
        DataError: as for `latent_bank`.
        Stopped: a signal came; the shards made so far are kept.
    """

    def make(heard: Show) -> None:
        make_shards(dataset, modality, count, encode, codec, root, heard, (ranks.rank, ranks.world))

    together(make, ranks, stop, f"while encoding {modality}", show)
    return latent_bank(dataset, modality, count, encode, codec, root)


def together(make: Callable[[Show], None], ranks: Ranks, stop: StopFlag, where: str, show: Show | None) -> None:
    """Run every rank's share of a long preparation, and wait for all; raise Stopped on all where one was told to stop.

    `make` calls what it is given after each shard.
    """

    def heard(done: int, total: int) -> None:
        if show:
            show(done, total)
        if stop.told and done < total:
            raise Interrupted

    with contextlib.suppress(Interrupted):
        make(heard)
    if stop.agreed(ranks):  # also the point where they wait for one another
        stop.leave_at(where)
