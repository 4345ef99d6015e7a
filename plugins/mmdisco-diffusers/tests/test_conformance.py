"""The conformance kit on every family, and what the kit cannot see: gradients, and what stays in memory."""

import pytest
import torch
from frozen import assert_frozen
from test_against_pipelines import request_of
from tiny import BUILDERS

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import Base, Plan, Request, as_joint
from mmdisco_cli.diffusion.coupling import INDEX
from mmdisco_cli.testing import check_backbone
from mmdisco_cli.training.conditions import Conditions


@pytest.mark.parametrize("family", BUILDERS)
def test_it_conforms(family, backbone):
    check_backbone(backbone(family, pooled=True), request_of(family), ["a dog", "heavy rain"], steps=2)


@pytest.mark.parametrize("family", BUILDERS)
def test_no_gradient_reaches_a_base_model_nor_are_its_activations_kept(family, backbone):
    assert_frozen(backbone(family), request_of(family))


def test_a_short_stable_audio_conforms_too(backbone):
    check_backbone(backbone("stable-audio", full=False), Request(seconds=0.5), steps=2)


@pytest.mark.parametrize("family", BUILDERS)
def test_a_prompt_gives_the_same_whatever_its_batch(family, backbone):
    model = backbone(family, pooled=True)
    plan = model.plan(request_of(family))
    together = model.encode_prompt(["a dog", "heavy rain on a roof"], None, plan)
    alone = model.encode_prompt(["a dog"], None, plan)
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(1, *plan.latent_shape, generator=generator), torch.tensor([500.0])
    if family in ("longcat", "audioldm2"):
        assert together.positive["tokens"].shape[1] > alone.positive["tokens"].shape[1]
    for side in ("positive", "negative"):
        beside, by_itself = getattr(together, side), getattr(alone, side)
        first = {key: value[:1] for key, value in beside.items()}
        assert (model.predict(x, t, first, plan) - model.predict(x, t, by_itself, plan)).abs().max() < 1e-5
    assert (together.pooled[:1] - alone.pooled).abs().max() < 1e-6
    assert (together.pooled_negative[:1] - alone.pooled_negative).abs().max() < 1e-6
    assert (together.pooled[0] - together.pooled[1]).abs().max() > 1e-4


@pytest.mark.parametrize("family", ["stable-audio", "audioldm2"])
def test_parts_leave_and_come_back_and_texts_encoded_alone_go_together(family, backbone):
    model, words = backbone(family, pooled=True), ["a dog", "heavy rain on a roof"]
    plan = model.plan(request_of(family))
    media = 0.1 * torch.randn(1, *plan.media_shape, generator=torch.Generator().manual_seed(0))
    before, together = model.encode(media, plan), model.encode_prompt(words, None, plan)
    assembly = Assembly({"audio": Base(as_joint(model), Plan({"audio": plan}))}, INDEX, torch.device("cpu"))
    conditions = Conditions(assembly)
    joined = conditions.of({"audio": words})["audio"]
    model.release(("codec", "text"))
    assert not any(model.parts.is_loaded(name) for name in (*model.family.roles.codec, *model.family.roles.text))
    x, t = torch.randn(2, *plan.latent_shape, generator=torch.Generator().manual_seed(1)), torch.full((2,), 500.0)
    ours, theirs = (model.predict(x, t, c.positive, plan) for c in (joined, together))
    assert (ours - theirs).abs().max() < 1e-5
    assert not any(model.parts.is_loaded(name) for name in (*model.family.roles.codec, *model.family.roles.text))
    assert (joined.pooled - together.pooled).abs().max() < 1e-6
    assert torch.equal(model.encode(media, plan), before)
