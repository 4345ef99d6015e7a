"""Operations are counted from shapes alone, and as the shapes say."""

import torch
from torch import nn

from mmdisco_cli.diffusion.operations import count_operations


class Net(nn.Module):
    """A product of (B, 6) with 6 x 10, then one of 10 x 2, of a sum over what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.second(torch.relu(self.first(x["a"] + x["b"])))


FORWARD = 2 * 3 * (6 * 10 + 10 * 2)


def test_products_are_counted_twice_for_multiplication_and_sum() -> None:
    module = Net()
    before = [p.clone() for p in module.parameters()]
    assert count_operations(module, lambda: ({m: torch.empty(3, 6) for m in "ab"},)) == FORWARD
    assert all(p.equal(q) and not p.is_meta for p, q in zip(module.parameters(), before, strict=True))


def test_a_gradient_by_the_inputs_costs_as_much_again() -> None:
    inputs = dict.fromkeys("ab", (3, 6))

    def made() -> tuple[dict[str, torch.Tensor]]:
        return ({m: torch.empty(shape, requires_grad=True) for m, shape in inputs.items()},)

    assert count_operations(Net(), made) == 2 * FORWARD


def test_convolutions_are_counted_without_any_weights() -> None:
    with torch.device("meta"):
        module = nn.Conv2d(3, 5, 3, padding=1)
    assert count_operations(module, lambda: (torch.empty(2, 3, 8, 8),)) == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
