"""Auffusion and VideoCrafter 2, which the paper joined: read from what their authors saved, beside stock pipelines."""

import json
import math

import diffusers
import pytest
import tiny
import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from frozen import assert_frozen
from safetensors.torch import load_file, save_file
from torch import nn

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.denoise import make_denoiser
from mmdisco_cli.diffusion.guidance import cfg_combine
from mmdisco_cli.diffusion.samplers import ddim
from mmdisco_cli.diffusion.schedules import betas_scaled_linear
from mmdisco_cli.errors import DataError
from mmdisco_cli.testing import check_backbone
from mmdisco_diffusers.auffusion import build as build_auffusion
from mmdisco_diffusers.hifigan import folded, read_hifigan
from mmdisco_diffusers.options import AuffusionOptions, VideoCrafter2Options
from mmdisco_diffusers.videocrafter2 import build as build_videocrafter2
from mmdisco_diffusers.videocrafter2 import trained_schedule

STEPS, SCALE = 4, 3.0
VOCODER = {
    "resblock": "1", "num_mels": 256, "sampling_rate": 16000, "upsample_initial_channel": 16,
    "upsample_rates": [5, 4, 4, 2], "upsample_kernel_sizes": [10, 8, 8, 4], "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
}  # fmt: skip


def authors_generator(config):
    """Build a HiFi-GAN (Kong et al. 2020) as its paper draws it: an oracle, with the names of the released code."""

    def normed(layer):
        return nn.utils.weight_norm(layer)

    class Block(nn.Module):
        def __init__(self, channels, size, dilations):
            super().__init__()
            self.convs1 = nn.ModuleList(
                normed(nn.Conv1d(channels, channels, size, dilation=d, padding=d * (size - 1) // 2)) for d in dilations
            )
            self.convs2 = nn.ModuleList(
                normed(nn.Conv1d(channels, channels, size, padding=(size - 1) // 2)) for _ in dilations
            )

        def forward(self, x):
            for first, second in zip(self.convs1, self.convs2, strict=True):
                x = x + second(nn.functional.leaky_relu(first(nn.functional.leaky_relu(x, 0.1)), 0.1))
            return x

    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            width, rates = config["upsample_initial_channel"], config["upsample_rates"]
            kinds = list(zip(config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True))
            self.conv_pre = normed(nn.Conv1d(config["num_mels"], width, 7, padding=3))
            self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
            for i, (rate, size) in enumerate(zip(rates, config["upsample_kernel_sizes"], strict=True)):
                odd, channels = (size - rate) % 2, width // 2 ** (i + 1)
                layer = nn.ConvTranspose1d(2 * channels, channels, size, rate, (size - rate) // 2 + odd, odd)
                self.ups.append(normed(layer))
                self.resblocks.extend(Block(channels, *kind) for kind in kinds)
            self.conv_post = normed(nn.Conv1d(width // 2 ** len(rates), 1, 7, padding=3))
            self.kinds = len(kinds)

        def forward(self, x):
            x = self.conv_pre(x)
            for i, layer in enumerate(self.ups):
                x = layer(nn.functional.leaky_relu(x, 0.1))
                x = sum(block(x) for block in self.resblocks[i * self.kinds : (i + 1) * self.kinds]) / self.kinds
            return torch.tanh(self.conv_post(nn.functional.leaky_relu(x)))

    return Generator()


def save_vocoder(folder, config, seed=0):
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    generator = authors_generator(config).eval()
    with torch.no_grad():
        for weight in generator.parameters():  # norms that are not those of the directions
            weight.mul_(1 + 0.3 * torch.rand(weight.shape))
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"generator": generator.state_dict()}, folder / "vocoder.pt")
    return generator


@pytest.mark.parametrize("sizes", [[10, 8, 8, 4], [11, 8, 8, 4], [16, 16, 8, 4]])
def test_an_authors_vocoder_plays_the_same(tmp_path, sizes):
    config = {**VOCODER, "upsample_kernel_sizes": sizes}
    generator = save_vocoder(tmp_path / "vocoder", config)
    vocoder = read_hifigan(tmp_path / "vocoder").eval()
    mel = torch.randn(2, 12, 256) * 3
    with torch.no_grad():
        expected = generator(mel.transpose(1, 2))[:, 0]
        assert expected.std() > 1e-4
        assert (vocoder(mel) - expected).abs().max() < 1e-6 * max(1, float(expected.abs().max()))


def test_a_vocoder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has no config\.json of a vocoder"):
        read_hifigan(tmp_path)
    save_vocoder(tmp_path / "other", VOCODER)
    torch.save({"generator": {"conv_pre.bias": torch.zeros(2)}}, tmp_path / "other" / "vocoder.pt")
    with pytest.raises(DataError, match=r"vocoder\.pt: cannot be loaded"):
        read_hifigan(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps({**VOCODER, "resblock": "2"}))
    with pytest.raises(DataError, match="blocks of kind '2' is not known"):
        read_hifigan(tmp_path / "other")
    assert folded({"a.bias": torch.ones(1)}) == {"a.bias": torch.ones(1)}


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """Save a tiny Stable Diffusion with a vocoder beside it, as Auffusion is published."""
    folder = tmp_path_factory.mktemp("auffusion")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), norm_num_groups=2, layers_per_block=1, scaling_factor=0.7,
        down_block_types=4 * ("DownEncoderBlock2D",), up_block_types=4 * ("UpDecoderBlock2D",),
    )  # fmt: skip
    tiny.shake(unet)
    diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=tiny.clip_text(8), tokenizer=tiny.clip_tokenizer(), unet=unet, safety_checker=None,
        scheduler=tiny.latent_scheduler(beta_start=0.00085, beta_end=0.012), feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    save_vocoder(folder / "vocoder", VOCODER)
    return folder


def test_auffusion_predicts_and_ends_as_its_stable_diffusion(painter):
    model = build_auffusion("audio", AuffusionOptions(path=str(painter), padded=False), Request())
    plan = model.plan(Request(seconds=0.64))
    assert plan.latent_shape == (4, 8, 32)
    noise = torch.randn(1, *plan.latent_shape, generator=torch.Generator().manual_seed(0))
    condition = model.encode_prompt(["rain fall"], None, plan)
    assert not condition.negative["tokens"].any()
    pipeline = diffusers.DiffusionPipeline.from_pretrained(painter, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    steps, step = [], pipeline.scheduler.step

    def recorded(output, t, sample, *args, **kwargs):
        steps.append((t, sample, output))
        return step(output, t, sample, *args, **kwargs)

    pipeline.scheduler.step = recorded
    end = pipeline(
        "rain fall", height=256, width=64, num_inference_steps=STEPS, guidance_scale=SCALE, output_type="latent",
        negative_prompt_embeds=torch.zeros_like(condition.positive["tokens"]), latents=noise.transpose(2, 3),
    ).images  # fmt: skip
    for t, sample, expected in steps:
        times = t.float().expand(1)
        positive, negative = (
            model.predict(sample.transpose(2, 3), times, c, plan) for c in (condition.positive, condition.negative)
        )
        found = cfg_combine(positive, negative, SCALE).transpose(2, 3)
        assert (found - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))
    joint = as_joint(model)
    base = Base(joint, joint.plan(Request(seconds=0.64)), {"audio": condition})
    denoise = make_denoiser([base], cfg={"audio": SCALE})
    found = ddim(denoise, {"audio": noise}, joint.grid(STEPS, base.plan))["audio"].transpose(2, 3)
    assert (found - end).abs().max() <= 1e-4 * max(1, float(end.abs().max()))


def test_auffusion_decodes_any_length_as_it_is_planned(painter):
    model = build_auffusion("audio", AuffusionOptions(path=str(painter), padded=False), Request())
    check_backbone(model, Request(frames=9, fps=8), steps=2)  # 18000 samples: 112.5 mel frames
    for request in [Request(frames=n, fps=24) for n in (1, 2, 13, 49)] + [Request(seconds=0.001)]:
        plan = model.plan(request)
        sound = model.decode(torch.randn(1, *plan.latent_shape), plan)
        assert sound.shape == (1, *plan.media_shape)
        assert model.encode(sound, plan).shape == (1, *plan.latent_shape)
        assert plan.latent_shape[1] == -(-(plan.media_shape[1] // 160) // 8)


def test_auffusion_hears_silence_after_a_short_sound(painter):
    plain, padded = (
        build_auffusion("audio", AuffusionOptions(path=str(painter), padded=flag), Request()) for flag in (False, True)
    )
    short, whole = (plain.plan(Request(seconds=s)) for s in (0.64, 10.24))
    assert padded.plan(Request(seconds=20.0)).notes == (
        "audio: seconds 20 becomes 10.24: the most that this model was trained on",
    )
    x, t = torch.randn(2, *short.latent_shape), torch.tensor([700.0, 200.0])
    silence = plain.encode(torch.zeros(1, 1, 16000 * 96 // 10), plain.plan(Request(seconds=9.6)))
    kept = (1 - betas_scaled_linear()).cumprod(0)[t.long()].float()[:, None, None, None]
    rest = [torch.randn(silence.shape[1:], generator=torch.Generator().manual_seed(int(time))) for time in t]
    filled = torch.cat([x, kept.sqrt() * silence + (1 - kept).sqrt() * torch.stack(rest)], 2)
    expected = plain.predict(filled, t, None, whole)[:, :, : x.shape[2]]
    found = padded.predict(x, t, None, short)
    assert (found - expected).abs().max() < 1e-4
    assert (found - plain.predict(x, t, None, short)).abs().max() > 1e-4
    check_backbone(padded, Request(seconds=0.64), steps=2)
    assert_frozen(padded, Request(seconds=0.64))


def test_auffusion_paints_low_tones_at_the_bottom_and_plays_them_back(painter):
    model = build_auffusion("audio", AuffusionOptions(path=str(painter), normalise=False), Request())
    painted, played = [], []

    class Glass:
        config = type("Config", (), {"scaling_factor": 1.0})

        def encode(self, image):
            painted.append(image)
            cells = nn.functional.avg_pool2d(image, 8)[:, [0, 0, 0, 0]]
            return type("Out", (), {"latent_dist": type("Dist", (), {"mode": staticmethod(lambda: cells)})})

        def decode(self, cells):
            return type("Out", (), {"sample": painted[-1].expand(len(cells), -1, -1, -1)})

    def play(mel):
        played.append(mel)
        return torch.zeros(len(mel), mel.shape[1] * 160)

    class Both:
        def __init__(self, parts):
            self.parts = parts

        def get(self, name):
            return {"vae": Glass(), "vocoder": play}.get(name) or self.parts.get(name)

    family = model.family
    plan = family.plan(Request(seconds=0.64))
    family.parts = Both(family.parts)
    tone = 0.5 * (2 * math.pi * 300 * torch.arange(10240) / 16000).sin()[None, None]
    family.decode(family.encode(tone, plan), plan)
    from mmdisco_diffusers.auffusion import FORM
    from mmdisco_diffusers.mel import log_mel

    expected = log_mel(tone[:, 0], FORM)
    brightest = painted[0][0, 0].mean(1).argmax()
    assert painted[0].shape == (1, 3, 256, 64)
    assert painted[0].abs().max() <= 1
    assert brightest > 200  # of 256 rows from the top
    assert (played[0] - expected.clamp(math.log(1e-5), math.log(200))).abs().max() < 1e-3


@pytest.fixture(scope="module")
def crafter(tmp_path_factory, models):
    """Save a tiny U-Net of VideoCrafter beside the tiny ModelScope."""
    folder, base = tmp_path_factory.mktemp("videocrafter"), models("text-to-video-sd")
    torch.manual_seed(1)
    embedding = TimestepEmbedding(8, 32, act_fn="silu")
    weights = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    weights |= {f"fps_embedding.{name}": weight for name, weight in embedding.state_dict().items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text((base / "unet" / "config.json").read_text())
    return folder, base, embedding.eval()


def test_videocrafter_is_conditioned_on_the_frame_rate(crafter):
    folder, base, embedding = crafter
    options = VideoCrafter2Options(path=str(base), unet=str(folder), conditioning_fps=12.0, mismatch=True)
    model = build_videocrafter2("video", options, Request())
    request = Request(frames=3, height=16, width=16)
    plan = model.plan(request)
    noise = torch.randn(1, *plan.latent_shape, generator=torch.Generator().manual_seed(0))
    condition = model.encode_prompt(["rain"], None, plan)
    # The embedding of one frame rate is one vector: a stock U-Net with it in its bias must say the same.
    pipeline = diffusers.DiffusionPipeline.from_pretrained(base, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        rate = embedding(Timesteps(8, True, 0)(torch.tensor([12.0])))[0]
        pipeline.unet.time_embedding.linear_2.bias += rate
    pipeline.scheduler = tiny.latent_scheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", set_alpha_to_one=True
    )
    steps, step = [], pipeline.scheduler.step

    def recorded(output, t, sample, *args, **kwargs):
        steps.append((t, sample, output))
        return step(output, t, sample, *args, **kwargs)

    pipeline.scheduler.step = recorded
    end = pipeline(
        "rain", num_frames=3, height=16, width=16, num_inference_steps=STEPS, guidance_scale=SCALE, latents=noise,
        output_type="latent",
    ).frames  # fmt: skip
    for t, sample, expected in steps:
        x, times = sample[None].transpose(1, 2), t.float().expand(1)
        said = [model.predict(x, times, c, plan) for c in (condition.positive, condition.negative)]
        found = cfg_combine(*said, SCALE).transpose(1, 2)[0]
        assert (found - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))
    joint = as_joint(model)
    whole = joint.plan(request)
    denoise = make_denoiser([Base(joint, whole, {"video": condition})], cfg={"video": SCALE})
    found = ddim(denoise, {"video": noise}, joint.grid(STEPS, whole))["video"]
    assert (found - end).abs().max() <= 1e-4 * max(1, float(end.abs().max()))
    other = VideoCrafter2Options(path=str(base), unet=str(folder), conditioning_fps=24.0, mismatch=True)
    x, t = torch.randn(1, *plan.latent_shape), torch.tensor([500.0])
    changed = build_videocrafter2("video", other, Request()).predict(x, t, condition.positive, plan)
    assert (changed - model.predict(x, t, condition.positive, plan)).abs().max() > 1e-5


def test_videocrafter_conforms_and_walks_the_levels_it_was_trained_on(crafter):
    folder, base, _ = crafter
    model = build_videocrafter2("video", VideoCrafter2Options(path=str(base), unet=str(folder)), Request())
    check_backbone(model, Request(frames=3, height=16, width=16), steps=2)
    assert_frozen(model, Request(frames=3, height=16, width=16))
    schedule = trained_schedule()
    kept = (1 - betas_scaled_linear()).cumprod(0)
    for t, share in ((0, 1.0), (399, 0.7), (400, 0.7), (999, 0.7)):
        level = schedule.levels_at(torch.tensor([t / 999]))
        assert level.t == t
        torch.testing.assert_close(level.alpha.double(), share * kept[t : t + 1].sqrt(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(level.sigma.double(), (1 - kept[t : t + 1]).sqrt(), rtol=1e-5, atol=1e-6)
    level = schedule.levels_at(torch.tensor([400 / 999]))
    assert float(level.alpha.square() + level.sigma.square()) == pytest.approx(0.78, abs=0.01)
    assert schedule.grid(50).t.tolist()[:2] == [981, 961]


def test_a_unet_without_frame_rate_is_refused(crafter, models):
    _, base, _ = crafter
    model = build_videocrafter2("video", VideoCrafter2Options(path=str(base), unet=str(base / "unet")), Request())
    with pytest.raises(DataError, match=r"has no fps_embedding\.\* weights"):
        model.predict(torch.zeros(1, 4, 1, 4, 4), torch.tensor([5.0]), None, model.plan(Request(frames=1)))
