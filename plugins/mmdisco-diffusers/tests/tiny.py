"""Pipelines of every family, small enough to build, save and run in a moment, with random weights and no network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

SMALL_VAE = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1}
BLOCKS, BLOCKS_UP = 3 * ("DownEncoderBlock2D",), 3 * ("UpDecoderBlock2D",)


def make(family: str, folder: Path) -> Path:
    """Write a tiny pipeline of a family; return its folder."""
    torch.manual_seed(0)
    pipeline = {**BUILDERS, **JOINT, **OTHERS}[family]()
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            shake(part.eval())
    pipeline.save_pretrained(folder / family)
    return folder / family


def shake(module: torch.nn.Module) -> None:
    """Move the weights that start at zero, behind which much of a model would not be seen."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.is_floating_point() and not weight.any():
                weight.normal_(0, 0.05, generator=generator)


def letters() -> list[str]:
    """Return the characters that stand for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(c) for c in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def clip_tokenizer() -> Any:
    words = [*letters(), *(letter + "</w>" for letter in letters()), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=8)


def roberta_tokenizer() -> Any:
    words = ["<s>", "<pad>", "</s>", "<unk>", *letters(), "<mask>"]
    return transformers.RobertaTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=16)


def t5_tokenizer() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(c), -3.0) for c in range(33, 127)]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)


def clip_text(width: int, length: int = 8) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=514, hidden_size=width, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=length, bos_token_id=512, eos_token_id=513, pad_token_id=513,
    )  # fmt: skip
    return transformers.CLIPTextModel(config)


def clap_text(projection: int) -> Any:
    return transformers.ClapTextConfig(
        vocab_size=261, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, projection_dim=projection, bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip


def t5(width: int, cls: str = "T5EncoderModel") -> Any:
    name = "UMT5Config" if cls.startswith("UMT5") else "T5Config"
    config = getattr(transformers, name)(
        vocab_size=98, d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    return getattr(transformers, cls)(config)


def mel_vae() -> Any:
    return diffusers.AutoencoderKL(
        in_channels=1, out_channels=1, latent_channels=4, down_block_types=BLOCKS, up_block_types=BLOCKS_UP,
        scaling_factor=0.9, **SMALL_VAE,
    )  # fmt: skip


def image_vae() -> Any:
    return diffusers.AutoencoderKL(
        latent_channels=4,
        down_block_types=BLOCKS,
        up_block_types=3 * ("UpDecoderBlock2D",),
        scaling_factor=0.7,
        **SMALL_VAE,
    )


def vocoder() -> Any:
    config = transformers.SpeechT5HifiGanConfig(
        model_in_dim=64, sampling_rate=16000, upsample_initial_channel=16, upsample_rates=[5, 4, 4, 2],
        upsample_kernel_sizes=[11, 8, 8, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
        normalize_before=False,
    )  # fmt: skip
    return transformers.SpeechT5HifiGan(config)


def latent_scheduler(cls: str = "DDIMScheduler", **changed: Any) -> Any:
    config = {
        "beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "num_train_timesteps": 1000,
    }  # fmt: skip
    return getattr(diffusers, cls)(**{**config, **changed})


def audioldm() -> Any:
    # As wide as the tokenizer's length: the pipeline takes the one for the other.
    text = transformers.ClapTextModelWithProjection(clap_text(16))
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(8, 16), attention_head_dim=2, class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=16, class_embeddings_concat=True,
    )  # fmt: skip
    return diffusers.AudioLDMPipeline(
        vae=mel_vae(), text_encoder=text, tokenizer=roberta_tokenizer(), unet=unet, scheduler=latent_scheduler(),
        vocoder=vocoder(),
    )  # fmt: skip


def audioldm2() -> Any:
    audio = transformers.ClapAudioConfig(
        spec_size=64, window_size=4, num_mel_bins=64, patch_embeds_hidden_size=8, depths=[1, 1],
        num_attention_heads=[1, 1], hidden_size=16, projection_dim=8, patch_size=4,
        patch_stride=[4, 4], patch_embed_input_channels=1,
    )  # fmt: skip
    clap = transformers.ClapConfig(text_config=clap_text(8), audio_config=audio, projection_dim=8)
    gpt = transformers.GPT2Config(vocab_size=99, n_positions=64, n_embd=8, n_layer=1, n_head=2, max_new_tokens=4)
    gpt.max_new_tokens = 4
    unet = diffusers.AudioLDM2UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, 8), (None, 8)), attention_head_dim=2,
    )  # fmt: skip
    return diffusers.AudioLDM2Pipeline(
        vae=mel_vae(), text_encoder=transformers.ClapModel(clap), text_encoder_2=t5(8),
        projection_model=diffusers.AudioLDM2ProjectionModel(8, 8, 8), language_model=transformers.GPT2LMHeadModel(gpt),
        tokenizer=roberta_tokenizer(), tokenizer_2=t5_tokenizer(),
        feature_extractor=transformers.ClapFeatureExtractor(), unet=unet, scheduler=latent_scheduler(),
        vocoder=vocoder(),
    )  # fmt: skip


def stable_audio() -> Any:
    transformer = diffusers.StableAudioDiTModel(
        sample_size=32, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        num_key_value_attention_heads=2, out_channels=4, cross_attention_dim=8, time_proj_dim=8,
        global_states_input_dim=16, cross_attention_input_dim=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=8, downsampling_ratios=[4, 8], decoder_channels=8, decoder_input_channels=4,
        audio_channels=2, channel_multiples=[1, 2], sampling_rate=800,
    )  # fmt: skip
    return diffusers.StableAudioPipeline(
        vae=vae, text_encoder=t5(8), tokenizer=t5_tokenizer(), transformer=transformer,
        projection_model=diffusers.StableAudioProjectionModel(8, 8, min_value=0, max_value=32),
        scheduler=diffusers.CosineDPMSolverMultistepScheduler(
            solver_order=2, prediction_type="v_prediction", sigma_data=1.0, sigma_schedule="exponential"
        ),
    )  # fmt: skip


def animatediff() -> Any:
    unet = diffusers.UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8, attention_head_dim=2,
    )  # fmt: skip
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2,
        motion_max_seq_length=8, use_motion_mid_block=False,
    )  # fmt: skip
    shake(unet)
    shake(adapter)
    return diffusers.AnimateDiffPipeline(
        vae=image_vae(), text_encoder=clip_text(8), tokenizer=clip_tokenizer(), unet=unet, motion_adapter=adapter,
        scheduler=latent_scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear"),
    )  # fmt: skip


def text_to_video_sd() -> Any:
    unet = diffusers.UNet3DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8, attention_head_dim=4,
    )  # fmt: skip
    return diffusers.TextToVideoSDPipeline(
        vae=image_vae(), text_encoder=clip_text(8), tokenizer=clip_tokenizer(), unet=unet,
        scheduler=latent_scheduler(beta_start=0.00085, beta_end=0.012),
    )  # fmt: skip


def cogvideox() -> Any:
    transformer = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=2, text_embed_dim=8,
        num_layers=1, sample_width=2, sample_height=2, sample_frames=5, patch_size=2, temporal_compression_ratio=4,
        max_text_seq_length=226, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=4, scaling_factor=0.7,
        down_block_types=4 * ("CogVideoXDownBlock3D",), up_block_types=4 * ("CogVideoXUpBlock3D",),
    )  # fmt: skip
    return diffusers.CogVideoXPipeline(
        tokenizer=t5_tokenizer(), text_encoder=t5(8), vae=vae, transformer=transformer,
        scheduler=latent_scheduler(
            "CogVideoXDDIMScheduler", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
            steps_offset=0, timestep_spacing="trailing", rescale_betas_zero_snr=True,
            snr_shift_scale=3.0, set_alpha_to_one=True,
        ),
    )  # fmt: skip


def wan_transformer() -> Any:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=8, ffn_dim=16, num_layers=1, cross_attn_norm=True, rope_max_seq_len=32,
        qk_norm="rms_norm_across_heads",
    )  # fmt: skip


def wan(**changed: Any) -> Any:
    vae = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.0, 2.0],
    )  # fmt: skip
    parts = dict(  # noqa: C408
        tokenizer=t5_tokenizer(), text_encoder=t5(8, "UMT5EncoderModel"), vae=vae, transformer=wan_transformer(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip
    return diffusers.WanPipeline(**{**parts, **changed})


def ltx() -> Any:
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, patch_size=1, patch_size_t=1, num_attention_heads=2, attention_head_dim=8,
        cross_attention_dim=16, num_layers=1, caption_channels=8,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1, patch_size_t=1,
    )  # fmt: skip
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.latents_std.copy_(torch.tensor([1.5, 0.7, 1.0, 2.0]))
    return diffusers.LTXPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
        ),
        vae=vae, text_encoder=t5(8), tokenizer=t5_tokenizer(), transformer=transformer,
    )  # fmt: skip


def mochi() -> Any:
    transformer = diffusers.MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=8, num_layers=2, pooled_projection_dim=8,
        in_channels=12, text_embed_dim=8, time_embed_dim=4, activation_fn="swiglu", max_sequence_length=16,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32), layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    return diffusers.MochiPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), vae=vae, text_encoder=t5(8),
        tokenizer=t5_tokenizer(), transformer=transformer,
    )  # fmt: skip


def hunyuan_video() -> Any:
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=8,
        pooled_projection_dim=8, rope_axes_dim=(2, 4, 4),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2,
        down_block_types=4 * ("HunyuanVideoDownBlock3D",), up_block_types=4 * ("HunyuanVideoUpBlock3D",),
        scaling_factor=0.47,
    )  # fmt: skip
    llama = transformers.LlamaConfig(
        vocab_size=98, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return diffusers.HunyuanVideoPipeline(
        text_encoder=transformers.LlamaModel(llama), tokenizer=t5_tokenizer(), transformer=transformer, vae=vae,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=clip_text(8, 77),
        tokenizer_2=clip_tokenizer(),
    )  # fmt: skip


def stable_audio_3() -> Any:
    transformer = diffusers.StableAudio3DiTModel(
        io_channels=8, embed_dim=16, depth=2, num_heads=2, cond_token_dim=8, global_cond_dim=8, local_add_cond_dim=9,
        timestep_features_dim=8, ff_mult=2.0, num_memory_tokens=2,
    )  # fmt: skip
    vae = diffusers.AutoencoderSAME(
        patch_size=4, encoder_channels=8, encoder_c_mults=(2,), encoder_strides=(4,), encoder_transformer_depths=(1,),
        latent_dim=8, dim_heads=8, ff_mult=2, sampling_rate=800,
    )  # fmt: skip
    return diffusers.StableAudio3Pipeline(
        vae=vae, text_encoder=t5(8), tokenizer=t5_tokenizer(), transformer=transformer,
        duration_embedder=diffusers.StableAudio3DurationEmbedder(output_dim=8, fourier_dim=8),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )  # fmt: skip


def longcat() -> Any:
    transformer = diffusers.LongCatAudioDiTTransformer(
        dit_dim=16, dit_depth=1, dit_heads=2, dit_text_dim=8, latent_dim=8, ff_mult=2.0
    )
    vae = diffusers.LongCatAudioDiTVae(
        channels=16, c_mults=[1, 2], strides=[4, 8], latent_dim=8, encoder_latent_dim=16, downsampling_ratio=32,
        sample_rate=800,
    )  # fmt: skip
    return diffusers.LongCatAudioDiTPipeline(
        vae=vae, text_encoder=t5(8, "UMT5EncoderModel"), tokenizer=t5_tokenizer(), transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0, invert_sigmas=True),
    )  # fmt: skip


def gemma_tokenizer() -> Any:
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *(chr(c) for c in range(33, 127))]
    return transformers.GemmaTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])


def gemma() -> Any:
    text = {
        "vocab_size": 99, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 1024, "sliding_window": 32,
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return transformers.Gemma3ForConditionalGeneration(config)


def ltx2(newer: bool = False) -> Any:
    """Build an LTX-2, or one of the layout of 2.3: prompts modulated, projected by the connectors, a wider vocoder."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder, LTX2VocoderWithBWE

    changed = {
        "cross_attn_mod": True, "audio_cross_attn_mod": True, "gated_attn": True, "audio_gated_attn": True,
        "use_prompt_embeddings": False,
    }  # fmt: skip
    projected = {"per_modality_projections": True, "video_hidden_dim": 16, "audio_hidden_dim": 8}
    transformer = diffusers.LTX2VideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
        audio_in_channels=32, audio_out_channels=32, audio_num_attention_heads=2, audio_attention_head_dim=4,
        audio_cross_attention_dim=8, num_layers=2, caption_channels=8, rope_double_precision=False,
        **(changed if newer else {}),
    )  # fmt: skip
    connectors = LTX2TextConnectors(
        caption_channels=8, text_proj_in_factor=3, video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8 if newer else 4, video_connector_num_layers=1,
        video_connector_num_learnable_registers=16,
        audio_connector_num_attention_heads=2, audio_connector_attention_head_dim=4, audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=16, rope_double_precision=False, **(projected if newer else {}),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4, block_out_channels=(4, 8, 16, 16), decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1),
        spatial_compression_ratio=32, temporal_compression_ratio=8,
    )  # fmt: skip
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.latents_std.copy_(torch.tensor([1.5, 0.7, 1.0, 2.0]))
    audio_vae = diffusers.AutoencoderKLLTX2Audio(
        base_channels=32, latent_channels=2, num_res_blocks=1, ch_mult=(1, 1, 1), resolution=16
    )
    audio_vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 32))
    audio_vae.latents_std.copy_(torch.linspace(0.5, 2.0, 32))
    one_layer: dict[str, Any] = {"resnet_kernel_sizes": [3], "resnet_dilations": [[1, 1, 1]]}
    vocoder = LTX2Vocoder(hidden_channels=32, **one_layer)
    if newer:
        wider = {f"bwe_{name}": value for name, value in one_layer.items()}
        vocoder = LTX2VocoderWithBWE(hidden_channels=64, bwe_hidden_channels=32, **one_layer, **wider)
    return diffusers.LTX2Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
        ),
        vae=vae, audio_vae=audio_vae, text_encoder=gemma(), tokenizer=gemma_tokenizer(), connectors=connectors,
        transformer=transformer, vocoder=vocoder,
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], Any]] = {
    "audioldm": audioldm,
    "audioldm2": audioldm2,
    "stable-audio": stable_audio,
    "stable-audio-3": stable_audio_3,
    "longcat": longcat,
    "animatediff": animatediff,
    "text-to-video-sd": text_to_video_sd,
    "cogvideox": cogvideox,
    "wan": wan,
    "hunyuan-video": hunyuan_video,
    "ltx": ltx,
    "mochi": mochi,
}
JOINT: dict[str, Callable[[], Any]] = {"ltx2": ltx2}
"""Those that make audio and video at once."""
OTHERS: dict[str, Callable[[], Any]] = {"ltx2.3": partial(ltx2, newer=True)}
"""Further layouts of a family."""
AUDIO = ("audioldm", "audioldm2", "stable-audio")
VIDEOS = ("animatediff", "text-to-video-sd", "cogvideox", "wan")
"""Those that are tried in every pair."""
