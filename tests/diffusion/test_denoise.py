from collections.abc import Mapping

import pytest
import torch
from diffusion_oracles import DPMSolverMultistepScheduler
from torch import Tensor
from toy_backbones import Toy, ToyPair, base_of

from mmdisco_cli.diffusion.backbone import Base, Condition, Request
from mmdisco_cli.diffusion.denoise import Given, Prediction, clip_to_quantile, make_denoiser, threshold
from mmdisco_cli.diffusion.guidance import Guidance
from mmdisco_cli.diffusion.prediction import add_noise, to_x0_eps
from mmdisco_cli.diffusion.schedules import Levels, make_schedule

LEVELS = {"audio": make_schedule("cosine").grid(4).at(2), "video": make_schedule("flow").grid(4).at(2)}
STATE = {m: torch.randn(2, 3, generator=torch.Generator().manual_seed(i)) for i, m in enumerate(LEVELS)}


def _native(m: str, added: Tensor | float = 0.0) -> Tensor:
    return torch.tanh(STATE[m] + LEVELS[m].t) + added


def _agree(x: Mapping[str, Tensor], logs: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None) -> Tensor:
    return (x["audio"] * x["video"]).sum(1) * (1 if pooled is None else pooled["audio"][:, 0])


def test_native_outputs_become_x0_and_epsilon() -> None:
    bases = [base_of(Toy("audio", "v")), base_of(Toy("video", "flow", make_schedule("flow")))]
    prediction = make_denoiser(bases)(STATE, LEVELS)
    for m, kind in (("audio", "v"), ("video", "flow")):
        expected = to_x0_eps(_native(m), STATE[m], LEVELS[m].alpha, LEVELS[m].sigma, kind)
        torch.testing.assert_close((prediction.x0[m], prediction.epsilon[m]), expected)
    assert prediction.logit is None


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {"c": c}])
def test_cfg_combines_both_native_outputs_of_one_batch(wrap: type) -> None:
    positive, negative = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.25]])
    toy = Toy()
    bases = [base_of(toy, Condition(wrap(positive), wrap(negative)))]
    for cfg, scale in (({"audio": 3.0}, 3.0), (None, toy.info.cfg_scale), ({"audio": 1.0}, 1.0)):
        prediction = make_denoiser(bases, cfg=cfg)(STATE, LEVELS)
        native = _native("audio", negative + scale * (positive - negative))
        expected = to_x0_eps(native, STATE["audio"], LEVELS["audio"].alpha, LEVELS["audio"].sigma, "v")
        torch.testing.assert_close((prediction.x0["audio"], prediction.epsilon["audio"]), expected)
    assert toy.batches == [4, 4, 2]


def test_guidance_of_a_models_own_takes_the_place_of_cfg() -> None:
    class Squared(Toy):
        def guided(self, x, t, positive, negative, scale, plan):  # type: ignore[no-untyped-def]
            return scale**2 * self.predict(x, t, positive, plan) + negative

    class SquaredPair(ToyPair):
        def guided(self, x, t, positive, negative, scales, plan):  # type: ignore[no-untyped-def]
            return {m: scales[m] * v + negative[m] for m, v in self.predict(x, t, positive, plan).items()}

    positive, negative = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.25]])
    one, own = base_of(Squared(), Condition(positive, negative)), _native("audio", positive)
    for scale, native in ((3.0, 9 * own + negative), (1.0, own)):
        prediction = make_denoiser([one], cfg={"audio": scale})(STATE, LEVELS)
        expected, _ = to_x0_eps(native, STATE["audio"], LEVELS["audio"].alpha, LEVELS["audio"].sigma, "v")
        torch.testing.assert_close(prediction.x0["audio"], expected)
    pair = SquaredPair()
    both = Base(pair, pair.plan(Request()), dict.fromkeys(("audio", "video"), Condition(positive, negative)))
    epsilon = make_denoiser([both], cfg={"audio": 2.0, "video": 1.0})(STATE, LEVELS).epsilon
    torch.testing.assert_close(epsilon["audio"], 2 * (torch.tanh(STATE["video"]) + positive) + negative)
    torch.testing.assert_close(epsilon["video"], torch.tanh(STATE["audio"]) + positive + positive)


def test_mixed_conditions_are_refused() -> None:
    base = base_of(Toy(), Condition(torch.ones(2, 1), {"c": torch.ones(2, 1)}))
    with pytest.raises(TypeError, match="must have the same type"):
        make_denoiser([base])(STATE, LEVELS)


def test_a_joint_model_predicts_its_modalities_together() -> None:
    pair = ToyPair()
    conditions = {"audio": Condition(torch.ones(2, 1), torch.zeros(2, 1))}
    base = Base(pair, pair.plan(Request()), conditions)
    prediction = make_denoiser([base], cfg={"audio": 2.0})(STATE, LEVELS)
    torch.testing.assert_close(prediction.epsilon["audio"], torch.tanh(STATE["video"]) + 2)
    torch.testing.assert_close(prediction.epsilon["video"], torch.tanh(STATE["audio"]) + 1)


def test_guidance_is_added_and_sees_the_conditions() -> None:
    condition = Condition(None, None, torch.full((2, 1), 3.0))
    bases = [base_of(Toy("audio"), condition), base_of(Toy("video"))]
    base, guided = make_denoiser(bases)(STATE, LEVELS), make_denoiser(bases, Guidance(_agree))(STATE, LEVELS)
    scale = {m: torch.hypot(level.alpha, level.sigma) for m, level in LEVELS.items()}
    gradient = 3 * STATE["video"] / scale["video"] / scale["audio"]
    torch.testing.assert_close(guided.epsilon["audio"], base.epsilon["audio"] - LEVELS["audio"].sigma * gradient)
    assert guided.logit is not None
    assert guided.logit.shape == (2,)


def test_models_run_in_the_chosen_type_and_the_rest_in_float32() -> None:
    types = []

    def discriminator(x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object) -> Tensor:
        scores = x["audio"] @ torch.ones(3, 1) + x["video"] @ torch.ones(3, 1)
        types.append(scores.dtype)
        return scores[:, 0]

    bases = [base_of(Toy("audio")), base_of(Toy("video"))]
    prediction = make_denoiser(bases, Guidance(discriminator), dtype=torch.bfloat16)(STATE, LEVELS)
    assert types == [torch.bfloat16]
    tensors = [*prediction.x0.values(), *prediction.epsilon.values(), prediction.logit]
    assert {value.dtype for value in tensors if value is not None} == {torch.float32}
    assert not any(value.requires_grad for value in tensors if value is not None)


def test_a_given_modality_is_held_and_its_model_not_asked() -> None:
    silent = Toy("video")
    given = Given({"video": torch.ones(2, 3)}, {"video": torch.full((2, 3), 0.5)})
    seen: list[Tensor] = []

    def discriminator(x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object) -> Tensor:
        seen.append(torch.cat([x["video"], lam["video"][:, None]], 1).detach())
        return (x["audio"] * x["video"]).sum(1)

    denoise = make_denoiser([base_of(Toy("audio")), base_of(silent)], Guidance(discriminator), given=given)
    prediction = denoise(STATE, LEVELS)
    assert silent.batches == []
    assert prediction.x0["video"] is given.clean["video"]
    assert prediction.epsilon["video"] is given.noise["video"]
    level = LEVELS["video"]
    noisy = add_noise(given.clean["video"], given.noise["video"], level.alpha, level.sigma)
    torch.testing.assert_close(seen[0][:, :3], noisy / torch.hypot(level.alpha, level.sigma))
    clean = Levels(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0.0))
    at_clean = Given(given.clean, given.noise, {"video": clean})
    make_denoiser([base_of(Toy("audio"))], Guidance(discriminator), given=at_clean)(STATE, LEVELS)
    assert seen[1].tolist() == [[1, 1, 1, 20]] * 2


def test_thresholding_is_that_of_diffusers_and_keeps_the_state() -> None:
    x0 = (
        torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
        * torch.tensor([0.1, 1, 3])[:, None, None, None]
    )
    scheduler = DPMSolverMultistepScheduler(thresholding=True, sample_max_value=1e9)
    torch.testing.assert_close(clip_to_quantile(x0, 0.995), scheduler._threshold_sample(x0))
    level = LEVELS["audio"]
    denoise = threshold(
        lambda state, levels: Prediction({"audio": x0, "video": x0}, {"audio": x0, "video": x0}), 0.9, ["audio"]
    )
    prediction = denoise({"audio": x0, "video": x0}, LEVELS)
    recomposed = add_noise(prediction.x0["audio"], prediction.epsilon["audio"], level.alpha, level.sigma)
    torch.testing.assert_close(recomposed, x0)
    assert prediction.x0["audio"].abs().max() <= 1
    assert prediction.x0["video"] is x0
