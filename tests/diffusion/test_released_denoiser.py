"""Texts reach the discriminator on both sides of classifier-free guidance, and thresholding comes after guidance."""

import torch
from toy_backbones import Toy, base_of

from mmdisco_cli.diffusion.backbone import Condition
from mmdisco_cli.diffusion.denoise import clip_to_quantile, make_denoiser, predict_bases
from mmdisco_cli.diffusion.guidance import ALL_LEVELS, Guidance, cfg_combine, logit_and_gradient
from mmdisco_cli.diffusion.schedules import make_schedule

LEVELS = {"audio": make_schedule("cosine").grid(4).at(2)}
STATE = {"audio": torch.randn(2, 3, generator=torch.Generator().manual_seed(0))}
POSITIVE, NEGATIVE = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.25]])


def judge(x, log_snr, pooled=None):
    """Bend the state by the text, so that the two sides' gradients differ."""
    return (x["audio"] * (1 if pooled is None else pooled["audio"])).sin().sum(1)


def guided(condition, cfg=None, weight=1.5, **options):
    guidance = Guidance(judge, {"audio": weight}, {"audio": ALL_LEVELS})
    return make_denoiser([base_of(Toy(), condition)], guidance, cfg, **options)(STATE, LEVELS)


def test_the_residual_follows_the_scale_of_its_base():
    condition = Condition(POSITIVE, NEGATIVE, POSITIVE, NEGATIVE)
    sides = [logit_and_gradient(judge, STATE, LEVELS, {"audio": text})[1]["audio"] for text in (POSITIVE, NEGATIVE)]
    for cfg, scale in (({"audio": 4.0}, 4.0), (None, Toy().info.cfg_scale)):
        base = predict_bases([base_of(Toy(), condition)], STATE, LEVELS, cfg).epsilon["audio"]
        expected = base - 1.5 * LEVELS["audio"].sigma * cfg_combine(*sides, scale)
        torch.testing.assert_close(guided(condition, cfg).epsilon["audio"], expected)


def test_without_a_negative_text_or_a_scale_the_residual_is_that_of_the_text():
    own = logit_and_gradient(judge, STATE, LEVELS, {"audio": POSITIVE})[1]["audio"]
    for condition, cfg in (
        (Condition(POSITIVE, NEGATIVE, POSITIVE), {"audio": 4.0}),
        (Condition(POSITIVE, NEGATIVE, POSITIVE, NEGATIVE), {"audio": 1.0}),
    ):
        base = predict_bases([base_of(Toy(), condition)], STATE, LEVELS, cfg).epsilon["audio"]
        expected = base - 1.5 * LEVELS["audio"].sigma * own
        torch.testing.assert_close(guided(condition, cfg).epsilon["audio"], expected)


def test_the_logit_is_that_of_the_text_itself():
    condition = Condition(POSITIVE, NEGATIVE, POSITIVE, NEGATIVE)
    expected, _ = logit_and_gradient(judge, STATE, LEVELS, {"audio": POSITIVE})
    torch.testing.assert_close(guided(condition).logit, expected)


def test_thresholding_sees_what_guidance_made():
    condition = Condition(POSITIVE, NEGATIVE, POSITIVE)
    free, bounded = (guided(condition, weight=30.0, quantile=q) for q in (0.0, 0.9))
    assert free.x0["audio"].abs().max() > 1
    torch.testing.assert_close(bounded.x0["audio"], clip_to_quantile(free.x0["audio"], 0.9))
    level = LEVELS["audio"]
    torch.testing.assert_close(
        level.alpha * bounded.x0["audio"] + level.sigma * bounded.epsilon["audio"], STATE["audio"]
    )
