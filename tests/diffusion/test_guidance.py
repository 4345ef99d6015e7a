from collections.abc import Mapping

import pytest
import torch
from diffusion_oracles import JointGaussian
from torch import Tensor, nn

from mmdisco_cli.diffusion.guidance import Guidance, cfg_combine, guide, logit, logit_and_gradient
from mmdisco_cli.diffusion.prediction import add_noise
from mmdisco_cli.diffusion.schedules import Levels, make_schedule

LEVELS = {
    "a": Levels(torch.tensor(0.3), torch.tensor(1.0), torch.tensor(2.0)),
    "b": Levels(torch.tensor(0.5), torch.tensor(0.5), torch.tensor(0.5)),
}
PAIR = JointGaussian("ab", [0.3, -0.2], [[1.0, 0.6], [0.6, 0.8]])


class Small(nn.Module):
    """Mix both modalities, their log-SNR and a condition without any symmetry; count the calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.calls = nn.Sequential(nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 1)), 0

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        self.calls += 1
        assert log_snr["a"].shape == log_snr["b"].shape == x["a"].shape[:1]
        extra = pooled["a"] if pooled else torch.zeros(len(x["a"]), 1)
        parts = [x["a"], x["b"].flatten(1), log_snr["a"][:, None], log_snr["b"][:, None], extra]
        return self.mix(torch.cat(parts, 1))[:, 0]


def _states(n: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"a": torch.randn(n, 2, generator=generator), "b": torch.randn(n, 2, 2, generator=generator)}


def _predictions(x: dict[str, Tensor], levels: Mapping[str, Levels]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return some x_0 and the epsilon that recomposes x with it."""
    x0 = {m: torch.sin(s) for m, s in x.items()}
    return x0, {m: (x[m] - levels[m].alpha * x0[m]) / levels[m].sigma for m in x}


def test_the_discriminator_sees_unit_variance_and_clamped_log_snr() -> None:
    seen: dict[str, Tensor] = {}

    def discriminator(x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object) -> Tensor:
        seen.update({"x": x["a"], "lam": lam["a"]})
        return x["a"].sum(1).bfloat16()

    x = {"a": torch.full((2, 1), 5.0)}
    value = logit(discriminator, x, {"a": Levels(torch.zeros(2), torch.tensor([3.0, 0.0]), torch.tensor([4.0, 1.0]))})
    assert seen["x"].flatten().tolist() == [1, 5]
    torch.testing.assert_close(seen["lam"], torch.tensor([-0.287682, -20.0]))
    assert value.dtype == torch.float32


def test_the_gradient_is_that_of_the_unscaled_state() -> None:
    network, x = Small().double(), {m: s.double() for m, s in _states().items()}
    levels = {m: Levels(*(value.double() for value in level)) for m, level in LEVELS.items()}
    _, gradient = logit_and_gradient(network, x, levels)
    for m, step in (("a", (0, 1)), ("b", (2, 1, 0))):
        shifted = [{**x, m: x[m].clone()} for _ in range(2)]
        for sign, state in zip((1, -1), shifted, strict=True):
            state[m][step] += sign * 1e-5
        up, down = (logit(network, state, levels)[step[0]] for state in shifted)
        torch.testing.assert_close(gradient[m][step], ((up - down) / 2e-5).detach(), rtol=1e-6, atol=1e-9)


def test_guidance_is_eq_3_and_keeps_x0_consistent() -> None:
    network, x = Small(), _states()
    x0, eps = _predictions(x, LEVELS)
    _, gradient = logit_and_gradient(network, x, LEVELS)
    new_x0, new_eps, value = guide(Guidance(network, {"a": 2.0, "b": 0.5}), x, x0, eps, LEVELS)
    for m, weight in (("a", 2.0), ("b", 0.5)):
        level = LEVELS[m]
        torch.testing.assert_close(new_eps[m], eps[m] - weight * level.sigma * gradient[m])
        torch.testing.assert_close(add_noise(new_x0[m], new_eps[m], level.alpha, level.sigma), x[m])
    torch.testing.assert_close(value, logit(network, x, LEVELS).detach())


def test_the_optimal_discriminator_turns_the_independent_into_the_joint_score() -> None:
    levels = {"a": make_schedule("cosine").grid(4).at(2), "b": make_schedule("flow").grid(4).at(2)}
    product = PAIR.independent()

    def log_ratio(x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object) -> Tensor:
        raw = {m: s * torch.hypot(levels[m].alpha, levels[m].sigma) for m, s in x.items()}
        return PAIR.log_prob(raw, levels) - product.log_prob(raw, levels)

    x = {"a": torch.randn(8, 1, dtype=torch.float64), "b": torch.randn(8, 1, dtype=torch.float64)}
    base, joint = product.denoiser()(x, levels), PAIR.denoiser()(x, levels)
    x0, eps, _ = guide(Guidance(log_ratio), x, base.x0, base.epsilon, levels)
    for m in x:
        assert not torch.allclose(base.epsilon[m], joint.epsilon[m], atol=0.01)
        torch.testing.assert_close(eps[m], joint.epsilon[m], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(x0[m], joint.x0[m], rtol=1e-5, atol=1e-6)


def test_weight_zero_is_the_base_itself_and_asks_nothing() -> None:
    network, x = Small(), _states()
    x0, eps = _predictions(x, LEVELS)
    only_a = guide(Guidance(network, {"a": 1.0, "b": 0.0}), x, x0, eps, LEVELS)
    assert only_a[0]["b"] is x0["b"]
    assert only_a[1]["b"] is eps["b"]
    none = guide(Guidance(network, {"a": 0.0, "b": 0.0}), x, x0, eps, LEVELS)
    assert none[2] is None
    assert network.calls == 1


def test_each_modality_has_its_own_window() -> None:
    network, x = Small(), _states()
    x0, eps = _predictions(x, LEVELS)  # log-SNR: a at -0.69, b at 0
    guidance = Guidance(network, windows={"a": (-4, -1), "b": (-1, 1)})
    _, new_eps, _ = guide(guidance, x, x0, eps, LEVELS)
    assert new_eps["a"] is eps["a"]
    assert not torch.equal(new_eps["b"], eps["b"])
    guide(Guidance(network, windows={"a": (-4, -1), "b": (1, 2)}), x, x0, eps, LEVELS)
    assert network.calls == 1


def test_the_window_is_kept_sample_by_sample_even_at_the_ends() -> None:
    network, x = Small(), _states()
    u = torch.tensor([1.0, 0.5, 0.0, 0.4])
    levels = {"a": make_schedule("cosine").levels_at(u), "b": make_schedule("flow").levels_at(u)}
    x0, eps = ({m: torch.cos(s) for m, s in x.items()} for _ in range(2))
    for windows, kept in (({}, [0, 2]), ({"a": (-30.0, 30.0), "b": (-30.0, 10.0)}, [0])):
        new_x0, new_eps, _ = guide(Guidance(network, windows=windows), x, x0, eps, levels)
        for m in x:
            assert torch.equal(x0[m][kept], new_x0[m][kept])
            assert torch.equal(eps[m][kept], new_eps[m][kept])
            assert not torch.isclose(eps[m][[1, 3]], new_eps[m][[1, 3]], rtol=1e-7, atol=0).any()


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_of_the_callers_changes_in_any_grad_mode(mode: type) -> None:
    network = Small()
    with mode():
        x = _states()
        before = {m: s.clone() for m, s in x.items()}
        value, gradient = logit_and_gradient(network, x, LEVELS, {"a": torch.ones(4, 1)})
    assert all(torch.equal(x[m], before[m]) and not x[m].requires_grad for m in x)
    assert all(p.grad is None for p in network.parameters())
    assert not value.requires_grad
    assert not any(g.requires_grad for g in gradient.values())
    assert all(g.any() for g in gradient.values())


def test_the_losses_can_differentiate_the_gradient() -> None:
    network, x = Small(), _states()
    value, gradient = logit_and_gradient(network, x, LEVELS, create_graph=True)
    (value.sum() + gradient["a"].square().sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.mix[0].parameters())


def test_conditions_reach_the_discriminator() -> None:
    network, x = Small(), _states()
    with_condition = logit(network, x, LEVELS, {"a": torch.ones(4, 1)})
    assert not torch.allclose(with_condition, logit(network, x, LEVELS))


def test_cfg_on_native_outputs() -> None:
    positive, negative = torch.tensor([3.0]), torch.tensor([1.0])
    assert cfg_combine(positive, negative, 1.0) is positive
    assert [cfg_combine(positive, negative, s).item() for s in (0.0, 2.5)] == [1.0, 6.0]
