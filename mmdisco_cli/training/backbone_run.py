"""`train.target: backbone`: data to bank, codec, denoiser, in that order, each resumable."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.backbones.token import TokenBackbone, codec_fingerprint
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.run.distribution import Ranks, same_weights
from mmdisco_cli.training.backbone import codec_items, codec_loss, denoising_loss
from mmdisco_cli.training.banks import shared_bank
from mmdisco_cli.training.loop import fit
from mmdisco_cli.training.metrics import MetricsLog
from mmdisco_cli.training.signals import StopFlag

CODEC_CLIPS = 2048
"""Clips that train the codec."""
MEASURED_ITEMS = 2048
"""Frames or log-mel pictures that its normalisation is measured on."""


def train_backbone(
    backbone: TokenBackbone,
    dataset: Dataset,
    config: TrainConfig,
    directory: Path,
    banks: Path,
    fingerprint: str,
    stop: StopFlag,
    ranks: Ranks,
    log: Callable[[str], MetricsLog],
    device: torch.device,
    say: Callable[[str], None],
    show: Callable[[int, int], None] | None = None,
) -> None:
    """Train a backbone in place; `directory` keeps the states, `banks` encoded data, `show` hears of clips encoded."""
    batch = max(config.batch_size // ranks.world, 1)
    codec, denoiser = backbone.codec, backbone.denoiser.to(device)
    if config.codec_steps:
        count = min(config.bank, CODEC_CLIPS, *([] if dataset.length is None else [dataset.length]))
        say(f"reading {count} clips for the codec ({backbone.modality})")
        items = codec_items(codec, dataset, backbone.modality, count)
        loss = codec_loss(codec.to(device), items, config, device)
        fit(codec, loss, config, directory / "codec", steps=config.codec_steps, fingerprint=fingerprint, stop=stop,
            ranks=ranks, log=log("codec"))  # fmt: skip
        codec.measure(codec.expand(items[:MEASURED_ITEMS]).to(device))
        same_weights(codec, ranks)
    bank = encoded_bank(backbone, dataset, config.bank, banks, device, say, ranks, stop, show)
    loss = denoising_loss(denoiser, bank, config, batch, device)
    fit(denoiser, loss, config, directory / "denoiser", steps=config.steps, fingerprint=fingerprint, stop=stop,
        ranks=ranks, log=log("denoiser"))  # fmt: skip


def encoded_bank(
    backbone: TokenBackbone,
    dataset: Dataset,
    count: int,
    banks: Path,
    device: torch.device,
    say: Callable[[str], None],
    ranks: Ranks,
    stop: StopFlag,
    show: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the latents of the first `count` clips of the backbone's modality."""
    plan = backbone.plan(backbone.request)
    count = min(count, dataset.length) if dataset.length is not None else count
    say(f"encoding {count} clips ({backbone.modality})")
    return shared_bank(
        dataset, backbone.modality, count, lambda media: backbone.encode(media.to(device), plan).cpu(),
        codec_fingerprint(backbone), banks, ranks, stop, show,
    )  # fmt: skip
