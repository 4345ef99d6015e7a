"""What guidance must leave alone: no gradient reaches a base model, and nothing of its activations is kept."""

import torch

from mmdisco_cli.diffusion.backbone import Base, as_joint
from mmdisco_cli.diffusion.denoise import make_denoiser
from mmdisco_cli.diffusion.guidance import Guidance


def assert_frozen(model, request):
    joint = as_joint(model)
    plan = joint.plan(request)
    base = Base(joint, plan, joint.encode_prompt(["a dog"], None, plan))
    x = {m: torch.randn(1, *p.latent_shape) for m, p in plan.modalities.items()}
    level = {m: levels.at(1) for m, levels in joint.grid(3, plan).items()}
    weight, saved = torch.ones((), requires_grad=True), []

    class Pull(torch.nn.Module):
        def forward(self, x, log_snr, pooled=None):
            return torch.stack([(state * weight).flatten(1).sum(1) for state in x.values()]).sum(0)

    guidance = Guidance(Pull(), dict.fromkeys(x, 1.0), dict.fromkeys(x, (-20.0, 20.0)))
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: saved.append(kept.numel()) or kept, lambda kept: kept):
        make_denoiser([base], guidance)(x, level)
    # What the discriminator keeps for its own gradient: twice the states at most, and nothing of the model.
    assert 0 < sum(saved) <= 2 * sum(state.numel() for state in x.values()) + 16
    roles, parts = model.stage.roles, model.parts
    loaded = [parts.get(name) for name in roles.all if parts.has(name)]
    parameters = [parameter for part in loaded for parameter in part.parameters()]
    assert len(parameters) > 10
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in parameters)
