from typing import get_args

import pytest
import torch

from mmdisco_cli.diffusion.prediction import PredictionType, add_noise, from_x0_eps, to_x0_eps

KINDS = get_args(PredictionType)
# (alpha, sigma): variance preserving, flow, EDM, and the two ends
INNER = [(0.6, 0.8), (0.7, 0.3), (1.0, 40.0), (0.01, 0.99995)]
ENDS = [(0.0, 1.0), (1.0, 0.0)]


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 5, generator=generator), torch.randn(3, 2, 5, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", INNER)
def test_a_native_output_gives_back_what_it_was_made_of(kind: PredictionType, level: tuple[float, float]) -> None:
    alpha, sigma = map(torch.tensor, level)
    x0, eps = _pair()
    x = add_noise(x0, eps, alpha, sigma)
    found = to_x0_eps(from_x0_eps(x0, eps, alpha, sigma, kind), x, alpha, sigma, kind)
    torch.testing.assert_close(found, (x0, eps), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["v", "flow", "flow_reversed"])
@pytest.mark.parametrize("level", ENDS)
def test_both_are_known_at_the_ends_from_a_velocity(kind: PredictionType, level: tuple[float, float]) -> None:
    alpha, sigma = map(torch.tensor, level)
    x0, eps = _pair()
    x = add_noise(x0, eps, alpha, sigma)
    found = to_x0_eps(from_x0_eps(x0, eps, alpha, sigma, kind), x, alpha, sigma, kind)
    torch.testing.assert_close(found, (x0, eps))


def test_what_the_ends_do_not_tell_is_zero() -> None:
    x0, eps = _pair()
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    unknown_x0, same_eps = to_x0_eps(eps, eps, zero, one, "epsilon")
    assert torch.equal(same_eps, eps)
    assert not unknown_x0.any()
    same_x0, unknown_eps = to_x0_eps(x0, x0, one, zero, "sample")
    assert torch.equal(same_x0, x0)
    assert not unknown_eps.any()
    torch.testing.assert_close(to_x0_eps(x0, eps, zero, one, "sample"), (x0, eps))
    torch.testing.assert_close(to_x0_eps(eps, x0, one, zero, "epsilon"), (x0, eps))


@pytest.mark.parametrize("kind", KINDS)
def test_each_sample_has_its_own_level(kind: PredictionType) -> None:
    alpha, sigma = torch.tensor([0.6, 0.2, 1.0]), torch.tensor([0.8, 0.5, 3.0])
    native, x = _pair()
    together = to_x0_eps(native, x, alpha, sigma, kind)
    for i in range(3):
        alone = to_x0_eps(native[i : i + 1], x[i : i + 1], alpha[i], sigma[i], kind)
        torch.testing.assert_close(tuple(part[i : i + 1] for part in together), alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_state_is_always_recomposed_in_float32(kind: PredictionType, dtype: torch.dtype) -> None:
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    native, x = _pair()
    x0, eps = to_x0_eps(native.to(dtype), x, alpha, sigma, kind)
    assert x0.dtype == eps.dtype == torch.float32
    torch.testing.assert_close(add_noise(x0, eps, alpha, sigma), x, rtol=1e-5, atol=1e-5)


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown prediction 'noise'"):
        to_x0_eps(*_pair(), torch.tensor(1.0), torch.tensor(1.0), "noise")  # type: ignore[arg-type]
