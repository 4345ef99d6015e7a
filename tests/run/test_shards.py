"""Shards cover every sample once, however they are shared out."""

import pytest

from mmdisco_cli.errors import UsageError
from mmdisco_cli.run.ranks import Shard, share_note, this_shard


def ranks(requested: tuple[int, int] | None, world: int) -> list[Shard]:
    return [this_shard(requested, {"RANK": str(rank), "WORLD_SIZE": str(world)}) for rank in range(world)]


def test_alone_a_process_makes_everything() -> None:
    assert list(this_shard(None, {}).of(5)) == [0, 1, 2, 3, 4]


def test_shards_are_interleaved() -> None:
    assert list(this_shard((1, 3), {}).of(8)) == [1, 4, 7]


def test_ranks_share_out_everything_once() -> None:
    made = [index for shard in ranks(None, 4) for index in shard.of(10)]
    assert sorted(made) == list(range(10))
    assert list(ranks(None, 4)[1].of(10)) == [1, 5, 9]


def test_ranks_share_out_a_shard_once() -> None:
    made = [index for shard in ranks((2, 3), 2) for index in shard.of(20)]
    assert sorted(made) == list(range(2, 20, 3))


def test_more_shards_than_samples_leave_some_without_work() -> None:
    assert list(this_shard((4, 8), {}).of(3)) == []


@pytest.mark.parametrize("requested", [(3, 3), (-1, 2)])
def test_an_index_beyond_the_count_is_refused(requested: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="must lie between"):
        this_shard(requested, {})


def test_a_part_that_only_the_environment_asks_for_is_said() -> None:
    environment = {"RANK": "1", "WORLD_SIZE": "3"}
    (line,) = share_note(this_shard((0, 2), environment), 12, environment)
    assert "rank 1 of 3" in line
    assert "makes 2 of 12 samples" in line
    assert share_note(this_shard((0, 2), {}), 12, {}) == []
