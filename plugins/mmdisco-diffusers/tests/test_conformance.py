"""The conformance kit on every family, and what the kit cannot see: gradients, and what stays in memory."""

import pytest
import torch
from frozen import assert_frozen
from test_against_pipelines import request_of
from tiny import BUILDERS

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.testing import check_backbone


@pytest.mark.parametrize("family", BUILDERS)
def test_it_conforms(family, backbone):
    check_backbone(backbone(family, pooled=True), request_of(family), ["a dog", "heavy rain"], steps=2)


@pytest.mark.parametrize("family", BUILDERS)
def test_no_gradient_reaches_a_base_model_nor_are_its_activations_kept(family, backbone):
    assert_frozen(backbone(family), request_of(family))


def test_a_short_stable_audio_conforms_too(backbone):
    check_backbone(backbone("stable-audio", full=False), Request(seconds=0.5), steps=2)


def test_a_prompt_gives_the_same_whatever_its_batch(backbone):
    model = backbone("audioldm2")
    plan = model.plan(Request(seconds=0.32))
    together = model.encode_prompt(["a dog", "heavy rain on a roof"], None, plan).positive
    alone = model.encode_prompt(["a dog"], None, plan).positive
    x, t = torch.randn(1, *plan.latent_shape), torch.tensor([500.0])
    first = {key: value[:1] for key, value in together.items()}
    assert together["tokens"].shape[1] > alone["tokens"].shape[1]
    assert (model.predict(x, t, first, plan) - model.predict(x, t, alone, plan)).abs().max() < 1e-5
