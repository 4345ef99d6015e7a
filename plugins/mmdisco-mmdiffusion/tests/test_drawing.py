"""What the model draws by itself depends on the sample and the time, and on nothing else."""

import torch

from mmdisco_mmdiffusion.drawing import drawn_shifts, enlargement_noise, fixed_shifts

LIMITS = [15, 12, 8, 0]


def test_shifts_follow_the_key_and_the_time_alone() -> None:
    together = drawn_shifts([3, 5, 3], [999, 500, 999.0], LIMITS)
    assert torch.equal(together[0], together[2])
    assert torch.equal(together[1:2], drawn_shifts([5], [500], LIMITS))
    assert not torch.equal(drawn_shifts([3], [500], LIMITS), together[:1])
    assert not torch.equal(drawn_shifts([5], [999], LIMITS), together[:1])


def test_every_shift_within_its_limit_is_drawn_equally_often() -> None:
    shifts = drawn_shifts(range(4000), [7] * 4000, LIMITS)
    for column, limit in zip(shifts.T, LIMITS, strict=True):
        share = torch.bincount(column, minlength=limit + 1) / len(column)
        assert len(share) == limit + 1
        # Five standard deviations of a share.
        assert float((share - 1 / (limit + 1)).abs().max()) <= 5 * (1 / (limit + 1) / 4000) ** 0.5


def test_what_the_global_generator_does_changes_nothing() -> None:
    torch.manual_seed(0)
    first = drawn_shifts([1], [2], LIMITS), enlargement_noise([1], (3, 4, 4))
    torch.manual_seed(1)
    again = drawn_shifts([1], [2], LIMITS), enlargement_noise([1], (3, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(enlargement_noise([2], (3, 4, 4)), first[1])


def test_a_fixed_shift_is_cut_to_each_limit() -> None:
    assert fixed_shifts(2, 10, LIMITS).tolist() == [[10, 10, 8, 0]] * 2
