"""Base models at their real sizes without anyone's weights: folders as diffusers saves them, of random weights.

Sizes are those of the published checkpoints' configurations. Text encoders have their real width and one layer: texts
are encoded before a step, not in it. Tokenizers know single bytes only.
"""

import json
import math
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "mmdisco-diffusers"), str(ROOT / "plugins/mmdisco-diffusers/tests")]

SD_BLOCKS = (320, 640, 1280, 1280)
SD_UNET = {"sample_size": 64, "cross_attention_dim": 768, "block_out_channels": SD_BLOCKS, "attention_head_dim": 8}
SD_VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": 4 * ("DownEncoderBlock2D",), "up_block_types": 4 * ("UpDecoderBlock2D",),
}  # fmt: skip
MEL_VAE = {
    "in_channels": 1, "out_channels": 1, "latent_channels": 8, "block_out_channels": (128, 256, 512),
    "down_block_types": 3 * ("DownEncoderBlock2D",), "up_block_types": 3 * ("UpDecoderBlock2D",),
    "layers_per_block": 2, "scaling_factor": 0.9228,
}  # fmt: skip
VOCODER = {
    "model_in_dim": 64, "sampling_rate": 16000, "upsample_initial_channel": 1024, "upsample_rates": [5, 4, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 4, 4], "normalize_before": False,
}  # fmt: skip
LATENT = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "clip_sample": False}
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
COG = {**SD, "prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
CROSS, CROSS_UP = 3 * ("CrossAttnDownBlock2D",), 3 * ("CrossAttnUpBlock2D",)

Part = tuple[str, Mapping[str, Any]]
MODELS: dict[str, tuple[str, dict[str, Part]]] = {
    "audioldm": ("AudioLDMPipeline", {
        "unet": ("UNet2DConditionModel", {
            "sample_size": 128, "in_channels": 8, "out_channels": 8, "block_out_channels": (192, 384, 576, 960),
            "down_block_types": ("DownBlock2D", *CROSS), "up_block_types": (*CROSS_UP, "UpBlock2D"),
            "cross_attention_dim": (192, 384, 576, 960), "class_embed_type": "simple_projection",
            "projection_class_embeddings_input_dim": 512, "class_embeddings_concat": True,
        }),
        "vae": ("AutoencoderKL", MEL_VAE), "vocoder": ("SpeechT5HifiGan", VOCODER),
        "text_encoder": ("ClapTextModelWithProjection", {}), "tokenizer": ("RobertaTokenizer", {}),
        "scheduler": ("DDIMScheduler", LATENT),
    }),
    "audioldm2": ("AudioLDM2Pipeline", {
        "unet": ("AudioLDM2UNet2DConditionModel", {
            "sample_size": 256, "in_channels": 8, "out_channels": 8, "block_out_channels": (128, 256, 384, 640),
            "down_block_types": ("DownBlock2D", *CROSS), "up_block_types": (*CROSS_UP, "UpBlock2D"),
            "cross_attention_dim": 4 * ((None, 768, 1024),), "attention_head_dim": 8,
        }),
        "vae": ("AutoencoderKL", MEL_VAE), "vocoder": ("SpeechT5HifiGan", VOCODER),
        "text_encoder": ("ClapModel", {}), "text_encoder_2": ("T5EncoderModel", {"d_model": 1024}),
        "projection_model": ("AudioLDM2ProjectionModel", {
            "text_encoder_dim": 512, "text_encoder_1_dim": 1024, "langauge_model_dim": 768,
        }),
        "language_model": ("GPT2LMHeadModel", {}), "tokenizer": ("RobertaTokenizer", {}),
        "tokenizer_2": ("T5Tokenizer", {}), "scheduler": ("DDIMScheduler", LATENT),
    }),
    "stable-audio": ("StableAudioPipeline", {
        "transformer": ("StableAudioDiTModel", {}), "vae": ("AutoencoderOobleck", {}),
        "text_encoder": ("T5EncoderModel", {"d_model": 768}), "tokenizer": ("T5Tokenizer", {}),
        "projection_model": ("StableAudioProjectionModel", {
            "text_encoder_dim": 768, "conditioning_dim": 768, "min_value": 0, "max_value": 512,
        }),
        "scheduler": ("CosineDPMSolverMultistepScheduler", {"prediction_type": "v_prediction", "sigma_data": 1.0}),
    }),
    "auffusion": ("StableDiffusionPipeline", {
        "unet": ("UNet2DConditionModel", SD_UNET), "vae": ("AutoencoderKL", SD_VAE),
        "vocoder": ("SpeechT5HifiGan", {**VOCODER, "model_in_dim": 256}),
        "text_encoder": ("CLIPTextModel", {"hidden_size": 768}), "tokenizer": ("CLIPTokenizer", {}),
        "scheduler": ("DDIMScheduler", SD),
    }),
    "animatediff": ("StableDiffusionPipeline", {
        "unet": ("UNet2DConditionModel", SD_UNET), "vae": ("AutoencoderKL", SD_VAE),
        "text_encoder": ("CLIPTextModel", {"hidden_size": 768}), "tokenizer": ("CLIPTokenizer", {}),
        "scheduler": ("DDIMScheduler", {**SD, "beta_schedule": "linear"}),
        "adapter": ("MotionAdapter", {"block_out_channels": SD_BLOCKS, "motion_num_attention_heads": 8}),
    }),
    "videocrafter2": ("TextToVideoSDPipeline", {
        "unet": ("UNet3DConditionModel", {"sample_size": 32, "attention_head_dim": 64}),
        "vae": ("AutoencoderKL", SD_VAE), "text_encoder": ("CLIPTextModel", {"hidden_size": 1024}),
        "tokenizer": ("CLIPTokenizer", {}), "scheduler": ("DDIMScheduler", SD),
    }),
    "cogvideox": ("CogVideoXPipeline", {
        "transformer": ("CogVideoXTransformer3DModel", {}),
        "vae": ("AutoencoderKLCogVideoX", {
            "block_out_channels": (128, 256, 256, 512), "down_block_types": 4 * ("CogVideoXDownBlock3D",),
            "up_block_types": 4 * ("CogVideoXUpBlock3D",), "scaling_factor": 1.15258426,
        }),
        "text_encoder": ("T5EncoderModel", {"d_model": 4096}), "tokenizer": ("T5Tokenizer", {}),
        "scheduler": ("CogVideoXDDIMScheduler", {**COG, "snr_shift_scale": 3.0}),
    }),
    "wan": ("WanPipeline", {
        "transformer": ("WanTransformer3DModel", {
            "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30,
        }),
        "vae": ("AutoencoderKLWan", {}), "text_encoder": ("UMT5EncoderModel", {"d_model": 4096}),
        "tokenizer": ("T5Tokenizer", {}), "scheduler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    }),
}  # fmt: skip
PAIRS = {
    "audioldm-animatediff": ("audioldm", "animatediff"),
    "audioldm2-cogvideox": ("audioldm2", "cogvideox"),
    "stableaudio-wan": ("stable-audio", "wan"),
    "auffusion-videocrafter2": ("auffusion", "videocrafter2"),
}


def settings(recipe: str, folder: Path) -> list[str]:
    """Return what points a recipe at the folders that `write` has made."""
    audio, video = PAIRS[recipe]
    more = {"animatediff": ["adapter"], "videocrafter2": ["unet"]}.get(video, [])
    paths = {"audio.path": audio, "video.path": video, **{f"video.{key}": f"{video}/{key}" for key in more}}
    return [f"backbones.{key}={folder / path}" for key, path in paths.items()]


def write(model: str, folder: Path, *, filled: bool) -> None:
    """Write a model's folder; `filled` with random numbers, else with files of their size that take no disk."""
    pipeline, parts = MODELS[model]
    place = folder / model
    if (place / "model_index.json").exists():
        return
    index: dict[str, Any] = {"_class_name": pipeline}
    for name, (cls, config) in parts.items():
        _write_part(place / name, cls, config, filled=filled)
        if name != "adapter":
            index[name] = ["diffusers" if _is_diffusers(cls) else "transformers", cls]
    (place / "model_index.json").write_text(json.dumps(index))


def _is_diffusers(cls: str) -> bool:
    import diffusers

    return hasattr(diffusers, cls)


def _write_part(place: Path, cls: str, config: Mapping[str, Any], *, filled: bool) -> None:
    import diffusers
    import tiny
    import transformers

    place.mkdir(parents=True)
    if "Tokenizer" in cls:
        makers = {"CLIP": tiny.clip_tokenizer, "Robe": tiny.roberta_tokenizer, "T5To": tiny.t5_tokenizer}
        tokenizer = makers[cls[:4]]()
        tokenizer.model_max_length = {"CLIP": 77, "Robe": 77, "T5To": 128}[cls[:4]]
        tokenizer.save_pretrained(place)
        return
    if "Scheduler" in cls:
        getattr(diffusers, cls)(**config).save_pretrained(place)
        return
    with torch.device("meta"):
        home, given = (diffusers, config) if _is_diffusers(cls) else (transformers, {"config": _text(cls, config)})
        module = getattr(home, cls)(**given)
    if home is diffusers:
        module.save_config(place)
    else:
        module.config.save_pretrained(place)
    tied = ("encoder.embed_tokens.weight", "lm_head.weight") if home is transformers else ()
    name = "diffusion_pytorch_model" if home is diffusers else "model"
    weights = {n: t for n, t in module.state_dict().items() if n not in tied}
    _write_weights(place / f"{name}.safetensors", weights, filled=filled)


def _text(cls: str, config: Mapping[str, Any]) -> Any:
    import transformers

    if cls == "SpeechT5HifiGan":
        return transformers.SpeechT5HifiGanConfig(**config)
    one = {"num_hidden_layers": 1, "max_position_embeddings": 514}
    if cls.startswith("CLIP"):
        special = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
        heads = {"num_attention_heads": 12 if config["hidden_size"] == 768 else 16}
        return transformers.CLIPTextConfig(vocab_size=514, num_hidden_layers=1, **special, **heads, **config)
    if cls.startswith("Clap"):
        text = transformers.ClapTextConfig(vocab_size=261, pad_token_id=1, **one)
        return text if cls == "ClapTextModelWithProjection" else transformers.ClapConfig(text_config=text)
    if cls.startswith("GPT2"):
        made = transformers.GPT2Config(vocab_size=99, n_layer=1, bos_token_id=0, eos_token_id=0)
        made.max_new_tokens = 8
        return made
    name = "UMT5Config" if cls.startswith("UMT5") else "T5Config"
    return getattr(transformers, name)(vocab_size=98, num_layers=1, pad_token_id=0, eos_token_id=1, **config)


def _write_weights(path: Path, tensors: Mapping[str, torch.Tensor], *, filled: bool) -> None:
    """Write a safetensors file of bfloat16 weights: matrices of small random numbers, gains of 1, biases of 0."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        if not filled:
            stream.truncate(8 + len(text) + end)
            return
        block = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
        for name, tensor in tensors.items():
            stream.write(_values(name, tensor, block))


def _values(name: str, tensor: torch.Tensor, block: torch.Tensor) -> bytes:
    count = tensor.numel()
    if tensor.ndim < 2:
        values = torch.full((count,), float(name.endswith("weight") or "scale" in name or name.endswith("var")))
    else:
        fan_in = count // tensor.shape[0]
        values = block.repeat(math.ceil(count / len(block)))[:count] * (1 / max(fan_in, 1)) ** 0.5
    return values.bfloat16().view(torch.int16).numpy().tobytes()
