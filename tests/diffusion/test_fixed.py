"""Beside states that stay the same a separable discriminator reads them once, and guides as before."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.fixed import ReadsFixedOnce, beside_fixed
from mmdisco_cli.diffusion.guidance import Guidance, guidance_gradient, logit, logit_and_gradient
from mmdisco_cli.diffusion.schedules import Levels

LEVELS = {m: Levels(torch.full((3,), 0.5), torch.full((3,), 0.8), torch.full((3,), 0.6)) for m in ("a", "b", "c")}


class Products(nn.Module):
    """A logit of products of what is read of each modality, which counts the readings."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterDict({m: torch.randn(2, 4, generator=draw) for m in ("a", "b", "c")})
        self.readings: list[str] = []

    def read(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        self.readings += x
        shift = pooled["a"].sum(1, keepdim=True) if pooled else 0.0
        return {m: (s @ self.weights[m] + log_snr[m][:, None] + shift).sin() for m, s in x.items()}

    def compare(self, read: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(read.values())).prod(0).sum(-1)

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        return self.compare(self.read(x, log_snr, pooled))


def states(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {m: torch.randn(3, 2, generator=draw) for m in LEVELS}


def test_fixed_states_are_read_once_and_the_rest_each_time() -> None:
    network, fixed = Products(), states(0)["b"]
    kept = beside_fixed(network, {"b"})
    assert isinstance(kept, ReadsFixedOnce)
    for step in range(3):
        x = {**states(step), "b": fixed}
        expected, whole = logit_and_gradient(network, x, LEVELS)
        network.readings.clear()
        with torch.inference_mode():
            value, gradient = logit_and_gradient(kept, x, LEVELS, by=("a", "c"))
        assert network.readings == (["b"] if step == 0 else []) + ["a", "c"]
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, {m: whole[m] for m in ("a", "c")})


def test_first_read_in_inference_mode_they_still_take_part_in_gradients() -> None:
    kept, x = beside_fixed(Products(), {"b"}), states(0)
    with torch.inference_mode():
        first = logit(kept, x, LEVELS).clone()
    torch.testing.assert_close(logit_and_gradient(kept, x, LEVELS, by=("a",))[0], first)


def test_batches_that_cfg_doubles_are_kept_apart() -> None:
    network, x = Products(), states(0)
    texts, negatives = {"a": torch.ones(3, 1)}, {"a": torch.full((3, 1), -0.5)}
    guide = Guidance(network, cfg={"a": 3.0, "c": 3.0})
    kept = Guidance(beside_fixed(network, {"b"}), cfg=guide.cfg)
    value, whole = guidance_gradient(guide, x, LEVELS, texts, negatives)
    for _ in range(2):
        plain = logit_and_gradient(kept.discriminator, x, LEVELS, texts, by=("a", "c"))[0]
        torch.testing.assert_close(plain, logit_and_gradient(network, x, LEVELS, texts)[0])
        found, gradient = guidance_gradient(kept, x, LEVELS, texts, negatives, by=("a", "c"))
        torch.testing.assert_close(found, value)
        torch.testing.assert_close(gradient, {m: whole[m] for m in ("a", "c")})


@pytest.mark.parametrize("fixed", [(), ("b",)])
def test_others_stay_as_they_are(fixed: tuple[str, ...]) -> None:
    class Whole(nn.Module):
        def forward(self, x: Mapping[str, Tensor], *_: object) -> Tensor:
            return x["a"].sum(1)

    network = Whole()
    assert beside_fixed(network, fixed) is network
    separable = Products()
    assert (beside_fixed(separable, fixed) is separable) == (not fixed)


def test_a_logit_that_depends_on_none_of_the_wanted_states_has_a_gradient_of_zero() -> None:
    network = Products().requires_grad_(False)
    value, gradient = logit_and_gradient(ReadsFixedOnce(network, frozenset({"a", "b"})), states(0), LEVELS, by=("a",))
    torch.testing.assert_close(value, network(states(0), {m: torch.full((3,), 0.287682) for m in LEVELS}))
    assert not gradient["a"].any()
