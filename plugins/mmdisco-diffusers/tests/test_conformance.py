"""The conformance kit on every family, and what the kit cannot see: gradients, and what stays in memory."""

import pytest
import torch
from test_against_pipelines import request_of
from tiny import BUILDERS

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.denoise import make_denoiser
from mmdisco_cli.diffusion.guidance import Guidance
from mmdisco_cli.testing import check_backbone


@pytest.mark.parametrize("family", BUILDERS)
def test_it_conforms(family, backbone):
    check_backbone(backbone(family, pooled=True), request_of(family), ["a dog", "heavy rain"], steps=2)


@pytest.mark.parametrize("family", BUILDERS)
def test_no_gradient_reaches_a_base_model_nor_are_its_activations_kept(family, backbone):
    model = backbone(family)
    joint = as_joint(model)
    plan = joint.plan(request_of(family))
    (name,) = plan.modalities
    base = Base(joint, plan, joint.encode_prompt(["a dog"], None, plan))
    x = torch.randn(1, *plan.modalities[name].latent_shape)
    level = {m: levels.at(1) for m, levels in joint.grid(3, plan).items()}

    class Pull(torch.nn.Module):
        def forward(self, x, log_snr, pooled=None):
            return (x[name] * weight).flatten(1).sum(1)

    weight, saved = torch.ones((), requires_grad=True), []
    guidance = Guidance(Pull(), {name: 1.0}, {name: (-20.0, 20.0)})
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: saved.append(kept.numel()) or kept, lambda kept: kept):
        make_denoiser([base], guidance)({name: x}, level)
    # What the discriminator keeps for its own gradient: twice the state at most, and nothing of the model.
    assert 0 < sum(saved) <= 2 * x.numel() + 8
    parts = [model.parts.get(name) for name in model.family.roles.all if model.parts.has(name)]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    assert len(parameters) > 10
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in parameters)


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
