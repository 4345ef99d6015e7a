"""The backbone `latent-gaussian`: its denoiser by hand, its samples, its two generators, and their files."""

import math
from dataclasses import asdict, replace

import pytest
import torch
from alone import sampled
from torch import nn

from mmdisco_cli.backbones import token
from mmdisco_cli.backbones.image_generators import ImageGAN, ImageVAE
from mmdisco_cli.backbones.latent_gaussian import LatentGaussian, build
from mmdisco_cli.backbones.options import LatentGaussianOptions, TokenOptions
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.prediction import to_x0_eps
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.testing import check_backbone
from mmdisco_cli.weights_file import save_weights

REQUEST = Request(height=8, width=8)
SMALL = {"latent_channels": 3, "width": 4}


class Shear(nn.Module):
    """A generator of someone else's: pairs of numbers from pairs of numbers."""

    latent_shape = media_shape = (2,)
    kind, rate = "vector", None

    @property
    def module(self):
        return self

    def encode(self, media):
        return torch.stack([media[:, 0], media[:, 1] - media[:, 0]], 1)

    def decode(self, z):
        return torch.stack([z[:, 0], z[:, 1] + z[:, 0]], 1)


def made(name):
    torch.manual_seed(0)
    backbone = build("image", LatentGaussianOptions(generator=name, **SMALL), REQUEST)
    backbone.module.eval().requires_grad_(False)
    return backbone


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_contract(name):
    check_backbone(made(name), REQUEST)


def test_contract_of_any_generator():
    check_backbone(LatentGaussian("pair", Shear(), "shear-1"), Request())


@pytest.mark.parametrize("u", [0.0, 0.4, 1.0])
def test_the_prediction_is_the_conditional_mean_of_a_standard_normal(u):
    backbone = LatentGaussian("pair", Shear(), "shear-1")
    x, t = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.full((4,), u)
    alpha, sigma = math.cos(math.pi * u / 2), math.sin(math.pi * u / 2)
    epsilon = backbone.predict(x, t, None, backbone.plan(Request()))
    # Epsilon and x are jointly normal with covariance sigma and variances 1, x_0 and x with covariance alpha.
    torch.testing.assert_close(epsilon, sigma * x)
    if alpha > 1e-6:
        x0, _ = to_x0_eps(epsilon, x, torch.tensor(alpha), torch.tensor(sigma), backbone.info.prediction)
        torch.testing.assert_close(x0, alpha * x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 200), ("ddpm", 200), ("dpmpp_3s", 20)])
def test_samples_are_standard_normal(sampler, steps):
    n = 4000
    found = sampled(LatentGaussian("pair", Shear(), "shear-1"), n, sampler, steps).double()
    # Five standard errors, and what so many steps leave of the discretisation.
    assert float(found.mean(0).abs().max()) < 5 / math.sqrt(n)
    covariance = torch.cov(found.T)
    assert float((covariance - torch.eye(2)).abs().max()) < 5 * math.sqrt(2 / n) + 0.015
    fourth = (found.flatten() ** 4).mean()
    assert abs(float(fourth) - 3) < 5 * math.sqrt(96 / (2 * n)) + 0.1


def test_ddim_turns_a_latent_by_the_angle_of_each_step():
    """With epsilon = sigma x, a step from angle a to b of the cosine schedule multiplies x by cos(a - b)."""
    backbone = LatentGaussian("pair", Shear(), "shear-1")
    begin = torch.randn(8, 2, generator=torch.Generator().manual_seed(5))
    found = sampled(backbone, 8, "ddim", 10)
    torch.testing.assert_close(found, begin * math.cos(math.pi / 20) ** 10, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_a_file_holds_everything(tmp_path, name):
    trained = made(name)
    about = {"kind": "backbone", "modality": "image", "options": asdict(trained.options), "request": asdict(REQUEST)}
    save_weights(tmp_path / "w.safetensors", trained.module.state_dict(), about)
    options = LatentGaussianOptions(weights=str(tmp_path / "w.safetensors"))
    loaded = build("image", options, Request())
    z = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.decode(z, None), trained.decode(z, None), atol=5e-3, rtol=5e-3)
    assert loaded.fingerprint != "untrained"
    with pytest.raises(DataError, match="was trained on image, not on photo"):
        build("photo", options, Request())
    save_weights(
        tmp_path / "w.safetensors", trained.module.state_dict(), about | {"options": {"generator": "vae", "x": 1}}
    )
    with pytest.raises(DataError, match="its description does not fit"):
        build("image", options, Request())


@pytest.mark.parametrize("request_", [Request(), Request(height=8), Request(height=10, width=8)])
def test_a_size_of_no_whole_cells_is_refused(request_):
    with pytest.raises(UsageError, match="needs height and width in multiples of 4"):
        build("image", LatentGaussianOptions(**SMALL), request_)


def test_a_width_that_the_norms_cannot_divide_is_refused():
    with pytest.raises(UsageError, match="width: 6 is not a multiple of 4"):
        build("image", replace(LatentGaussianOptions(), width=6), REQUEST)


@pytest.mark.parametrize(("name", "other"), [("latent-gaussian", "token"), ("token", "latent-gaussian")])
def test_weights_of_another_backbone_are_refused_by_its_name(tmp_path, name, other):
    path = tmp_path / "a.safetensors"
    about = {"kind": "backbone", "modality": "image", "options": {}, "request": {}}
    save_weights(path, {"x": torch.zeros(1)}, {**about, "recipe": {"backbones": {"image": {"name": other}}}})
    make = build if name == "latent-gaussian" else token.build
    options = (LatentGaussianOptions if name == "latent-gaussian" else TokenOptions)(weights=str(path))
    with pytest.raises(DataError, match=f"a.safetensors: holds weights of the backbone {other}, not of {name}"):
        make("image", options, Request())


def images(n, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_vae_draws_the_same_z_for_the_same_image_and_others_for_others():
    vae, media = made("vae").generator, images(6)
    z = vae.encode(media)
    assert torch.equal(vae.encode(media[2:3])[0], z[2])
    mean, log_std = vae.encoder(media).chunk(2, 1)
    noise = (z - mean) / log_std.exp()
    assert float(torch.cdist(noise, noise).fill_diagonal_(9).min()) > 0.1


def test_the_bound_of_a_vae_is_that_of_its_definition():
    torch.manual_seed(1)
    vae, media = ImageVAE((1, 8, 8), 3, 4), images(5)
    loss, figures = vae.loss(media, torch.Generator().manual_seed(7))
    mean, log_std = vae.encoder(media).chunk(2, 1)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(7))
    grey = torch.distributions.Bernoulli(logits=vae.decoder(mean + log_std.exp() * noise), validate_args=False)
    posterior, prior = torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    apart = torch.distributions.kl_divergence(posterior, prior).sum()
    expected = (apart - grey.log_prob((media + 1) / 2).sum()) / media.numel()
    torch.testing.assert_close(loss, expected)
    assert math.isclose(figures["kl"], float(apart.detach()) / 5, rel_tol=1e-4)


def test_no_network_of_a_gan_pulls_at_anothers_weights():
    torch.manual_seed(1)
    gan = ImageGAN((1, 8, 8), 3, 4)
    media = images(6)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(7))
    gan.loss(media, torch.Generator().manual_seed(7))[0].backward()
    found = [p.grad.clone() for p in gan.decoder.parameters()]
    gan.zero_grad()
    # Only how real the critic finds its images moves the generator.
    nn.functional.softplus(-gan.critic(gan.decode(z))).mean().backward()
    for mine, theirs in zip(found, (p.grad for p in gan.decoder.parameters()), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
