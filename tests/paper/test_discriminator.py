"""The paper's discriminators as parts of this tool: errors, inputs left unchanged, dependence on both modalities."""

from dataclasses import replace

import pytest
import torch
from released_weights import drawn, filled, small, texts_of

from mmdisco_cli.diffusion.guidance import ALL_LEVELS, Guidance, guide, logit_and_gradient
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.discriminators.interaction import ADDITIVE, interaction
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.paper.discriminator import build
from mmdisco_cli.paper.options import PaperMelOptions, PaperWaveformOptions

ADDITIVE_CONFIGS = ("mmdiffusion_landscape", "mmdiffusion_aist++", "audioldm_animediff_vggsound")
MIXED = "auffusion_videocrafter2_vggsound"
SHAPES = {
    "mmdiffusion_landscape": {"audio": (1, 320), "video": (3, 4, 8, 8)},
    "mmdiffusion_aist++": {"audio": (1, 320), "video": (3, 4, 8, 8)},
    "audioldm_animediff_vggsound": {"audio": (8, 6, 8), "video": (4, 4, 8, 8)},
    MIXED: {"audio": (4, 6, 8), "video": (4, 4, 8, 8)},
}


@pytest.fixture(scope="module")
def networks():
    return {config: filled(small(config)) for config in RELEASED}


def states(config, batch=2, seed=""):
    return {m: drawn(f"{m}{seed}", (batch, *shape)) for m, shape in SHAPES[config].items()}


def levels(config, batch=2, u=0.5):
    options = RELEASED[config].options
    names = {"audio": options.audio_schedule, "video": options.video_schedule}
    return {m: make_schedule(name).levels_at(torch.full((batch,), u)) for m, name in names.items()}


def gradient(network, config, x):
    texts = texts_of(RELEASED[config], len(x["video"]), False)
    return logit_and_gradient(network, x, levels(config, len(x["video"])), texts)


@pytest.mark.parametrize("config", ADDITIVE_CONFIGS)
def test_swapped_audio_leaves_the_videos_guidance_of_additive_discriminators(config, networks):
    x = states(config)
    swapped = {**x, "audio": x["audio"].flip(0)}
    (before, own), (after, other) = (gradient(networks[config], config, state) for state in (x, swapped))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(own["video"], other["video"], rtol=1e-5, atol=1e-9)
    assert not torch.allclose(own["audio"], other["audio"])


def test_swapped_audio_changes_the_videos_guidance_of_the_transformer(networks):
    x = states(MIXED)
    own, other = (gradient(networks[MIXED], MIXED, s)[1]["video"] for s in (x, {**x, "audio": x["audio"].flip(0)}))
    assert (own - other).norm() > 0.01 * own.norm()


@pytest.mark.parametrize("config", RELEASED)
def test_the_interaction_shows_which_can_align(config, networks):
    x, y = states(config, 6), states(config, 6, " of another")
    level, texts = levels(config, 6), texts_of(RELEASED[config], 6, False)
    with torch.no_grad():
        lam = {m: torch.log(one.alpha / one.sigma) for m, one in level.items()}
        found = interaction(lambda state: networks[config](state, lam, texts), x, y)
    assert (found < ADDITIVE) == (config != MIXED)


@pytest.mark.parametrize("config", RELEASED)
def test_a_batch_of_one_is_the_first_of_a_batch_of_two(config, networks):
    x = states(config)
    both, one = (
        gradient(networks[config], config, x),
        gradient(networks[config], config, {m: s[:1] for m, s in x.items()}),
    )
    torch.testing.assert_close(one[0], both[0][:1], rtol=1e-4, atol=1e-5)
    for m in x:
        assert (one[1][m] - both[1][m][:1]).norm() < 1e-4 * one[1][m].norm()


@pytest.mark.parametrize("config", ["mmdiffusion_landscape", MIXED])
def test_two_clip_lengths_in_one_process(config, networks):
    first = gradient(networks[config], config, states(config))
    video, audio = SHAPES[config]["video"], SHAPES[config]["audio"]
    longer = {
        "video": drawn("v", (2, video[0], 7, 12, 8)),
        "audio": drawn("a", (2, audio[0], audio[1] + 160, *audio[2:])),
    }
    if config == MIXED:
        longer["audio"] = drawn("a", (2, audio[0], 11, *audio[2:]))
    assert gradient(networks[config], config, longer)[1]["video"].shape == longer["video"].shape
    again = gradient(networks[config], config, states(config))
    assert torch.equal(first[1]["video"], again[1]["video"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": torch.tensor([5])}, "batches differ: video 2, audio 2, times 1"),
        ({"t": torch.tensor([5, 6, 7])}, "batches differ: video 2, audio 2, times 3"),
        ({"t": torch.tensor(5)}, "batches differ"),
        ({"audio": drawn("a", (1, 8, 6, 8))}, "batches differ: video 2, audio 1, times 2"),
        ({"video": drawn("v", (1, 4, 4, 8, 8))}, "batches differ: video 1, audio 2"),
        ({"texts": {"video": torch.ones(2, 768), "audio": torch.ones(3, 512)}}, "text of audio 3"),
        ({"texts": {"video": torch.ones(2, 768), "audio": torch.ones(2, 768)}}, r"text of audio is \(2, 768\)"),
        ({"texts": {"video": torch.ones(2, 768)}}, "texts: expected audio and video, got video"),
        ({"texts": None}, "texts: expected audio and video, got none"),
        ({"audio": drawn("a", (2, 4, 6, 8))}, r"audio has the shape \(4, 6, 8\), but .* takes 8 channels"),
        ({"audio": drawn("a", (2, 8, 48))}, r"audio has the shape \(8, 48\)"),
        ({"video": drawn("v", (2, 4, 4, 3, 8))}, "video needs 4 x 4 pixels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(networks, change, message):
    config = "audioldm_animediff_vggsound"
    given = {**states(config), "t": torch.tensor([5, 6]), "texts": texts_of(RELEASED[config], 2, False), **change}
    x = {m: given[m] for m in ("audio", "video")}
    with pytest.raises(ValueError, match=message):
        networks[config].at_times(x, given["t"], given["texts"])


def test_texts_are_averaged_over_their_tokens(networks):
    config = "audioldm_animediff_vggsound"
    x, t, texts = states(config), torch.tensor([5, 6]), texts_of(RELEASED[config], 2, False)
    tokens = drawn("tokens", (2, 9, 768))
    whole = networks[config].at_times(x, t, {**texts, "video": tokens})
    assert torch.equal(whole, networks[config].at_times(x, t, {**texts, "video": tokens.mean(1)}))


def test_more_tokens_than_positions_are_refused_before_and_while_sampling(networks):
    with pytest.raises(ValueError, match=r"16 video frames and 128 audio steps make 146 tokens.*make the clip shorter"):
        build(RELEASED[MIXED].options, {"video": (4, 16, 8, 8), "audio": (4, 128, 8)}, {})
    x = {"video": drawn("v", (1, 4, 16, 4, 4)), "audio": drawn("a", (1, 4, 111, 4))}
    with pytest.raises(ValueError, match="make 129 tokens"):
        networks[MIXED].at_times(x, torch.tensor([5]), texts_of(RELEASED[MIXED], 1, False))
    x["audio"] = x["audio"][:, :, :110]
    assert networks[MIXED].at_times(x, torch.tensor([5]), texts_of(RELEASED[MIXED], 1, False)).isfinite()


@pytest.mark.parametrize("config", ["mmdiffusion_landscape", MIXED])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_stays_near_float32(config, how, networks):
    x = states(config)
    value, exact = gradient(networks[config], config, x)
    network = filled(small(config)).bfloat16() if how == "weights" else networks[config]
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        low_value, low = gradient(network, config, x)
    assert low_value.dtype == torch.float32
    torch.testing.assert_close(low_value, value, rtol=0.1, atol=0.1)
    for m in x:
        assert low[m].dtype == torch.float32
        error = (low[m] - exact[m]).norm() / exact[m].norm()
        assert 0 < error < 0.1


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", ["logit", "released"])
def test_the_callers_tensors_stay_as_they_were(networks, mode, form):
    config = "audioldm_animediff_vggsound"
    with mode():
        x, texts = states(config), texts_of(RELEASED[config], 2, False)
        leaf = torch.zeros_like(x["video"], requires_grad=True)
        x["video"] = x["video"] + leaf  # no leaf, and with a graph of the caller's behind it
        before = {m: s.clone() for m, s in x.items()}
        flags = {m: s.requires_grad for m, s in x.items()}
        guidance = Guidance(networks[config], form=form, windows=dict.fromkeys(x, ALL_LEVELS), cfg={"audio": 2.0})
        found = guide(guidance, x, x, x, levels(config), texts, negative=texts)
    assert all(torch.equal(x[m], before[m]) and x[m].requires_grad == flags[m] for m in x)
    assert leaf.grad is None
    assert all(p.grad is None for p in networks[config].parameters())
    assert not torch.equal(found[1]["audio"], x["audio"])


def test_channels_are_never_taken_for_frames(networks):
    """The authors' norms confuse the two axes where they are of one size, as at 128 frames of 128 channels."""
    network = networks["mmdiffusion_landscape"]
    x = {"video": drawn("v", (1, 3, 32, 4, 4)), "audio": drawn("a", (1, 1, 64))}
    h = network.feature_extractor.input_blocks[0][0]("video", x["video"], torch.zeros(1, 32))
    assert h.shape[1:3] == (32, 32)
    normed = network.feature_extractor.input_blocks[1][0].video_in_layers[0].GroupNorm
    expected = (h - h.mean((2, 3, 4), keepdim=True)) / (h.var((2, 3, 4), keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = expected * normed.weight.view(1, -1, 1, 1, 1) + normed.bias.view(1, -1, 1, 1, 1)
    torch.testing.assert_close(network.feature_extractor.input_blocks[1][0].video_in_layers[0](h), expected)


def test_untrained_it_starts_where_a_block_adds_nothing():
    network = build(PaperWaveformOptions(channels=32), SHAPES["mmdiffusion_landscape"], {})
    last = [p for name, p in network.named_parameters() if "_out_layers.3." in name]
    assert last
    assert not any(p.any() for p in last)


@pytest.mark.parametrize("fusion", ["mean", "transformer"])
def test_the_losses_differentiate_its_gradient(fusion):
    network = filled(replace(small(MIXED), options=PaperMelOptions(channels=32, blocks=1, fusion=fusion)))
    network.requires_grad_(True)
    x, texts = states(MIXED), texts_of(RELEASED[MIXED], 2, False)
    _, found = logit_and_gradient(network, x, levels(MIXED), texts, create_graph=True)
    sum(g.square().sum() for g in found.values()).backward()
    weights = {name: p for name, p in network.named_parameters() if name.endswith("weight")}
    # Biases that only shift the logit have no gradient here.
    assert not [name for name, p in weights.items() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        (PaperWaveformOptions(), {"audio": (8, 12, 8), "video": (4, 4, 8, 8)}, "which is one for paper-mel"),
        (PaperMelOptions(), {"audio": (1, 320), "video": (3, 4, 8, 8)}, "which is one for paper-waveform"),
        (PaperWaveformOptions(), {"audio": (1, 12), "video": (3, 4, 8, 8)}, "audio 16 samples"),
        (PaperWaveformOptions(), {"x": (1,), "y": (1,)}, "expected audio"),
        (PaperWaveformOptions(channels=48), {"audio": (1, 320), "video": (3, 4, 8, 8)}, "a multiple of 32, got 48"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(options, shapes, message):
    with pytest.raises(ValueError, match=message):
        build(options, shapes, {})


def test_levels_of_any_schedule_are_accepted(networks):
    """With base models of another family the nearest training time stands for a level."""
    flow = make_schedule("flow").levels_at(torch.tensor([0.2, 0.7]))
    x = states("mmdiffusion_landscape")
    _, found = logit_and_gradient(networks["mmdiffusion_landscape"], x, {"audio": flow, "video": Levels(*flow)})
    assert all(g.isfinite().all() and g.any() for g in found.values())
