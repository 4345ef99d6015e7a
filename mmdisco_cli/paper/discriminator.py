"""The discriminators that the paper's authors released (MMDisCo, arXiv 2405.17842), with their names of tensors.

Each modality runs through residual blocks of its own. With the fusion `mean` the logit is h_v(video) + h_a(audio): no
parameter sees both, so nothing can be aligned; the transformer mixes them. README.md in this folder has a diagram.
"""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.schedules import log_snr as log_snr_of
from mmdisco_cli.diffusion.schedules import make_schedule
from mmdisco_cli.paper import frozen_blocks
from mmdisco_cli.paper.blocks import AUDIO_POOL, ResidualBlock, Stem, TimeEmbedding
from mmdisco_cli.paper.checks import MODALITIES, require_one_batch, require_shapes, require_states, require_texts
from mmdisco_cli.paper.fusion import MeanFusion, TransformerFusion
from mmdisco_cli.paper.options import PaperMelOptions, PaperWaveformOptions

MULTIPLIERS = (1, 2, 4)
"""Channels of the three levels, in units of the first level's."""
TIMES = 1000
PaperOptions = PaperWaveformOptions | PaperMelOptions


class PaperDiscriminator(nn.Module):
    """A logit (B,) from video (B, C, T, H, W) and audio (B, C, T) or (B, C, T, F).

    `shapes` are those of latents (C, T, ...) by modality, `pooled` the size of each modality's text embedding, absent
    or 0 where it has none.
    """

    def __init__(self, options: PaperOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> None:
        super().__init__()
        self.options, self.axes = options, len(shapes["audio"]) - 1
        self.channels = {m: shapes[m][0] for m in MODALITIES}
        self.texts = {m: pooled[m] for m in MODALITIES if pooled.get(m)}
        width, features = options.channels, MULTIPLIERS[-1] * options.channels
        self.time_embed = TimeEmbedding(width)
        for m, size in self.texts.items():
            self.add_module(f"{m}_text_embed", nn.Linear(size, width))
        self.feature_extractor = _FeatureExtractor(options, self.channels, self.axes)
        self.fusion_model = MeanFusion(features) if options.fusion == "mean" else TransformerFusion(features, width)
        self.last_linear = nn.Linear(self.fusion_model.width, 1)
        _store_channels_last(self)
        names = {"audio": options.audio_schedule, "video": options.video_schedule}
        self._tables = {m: _alphas_and_sigmas(name) for m, name in names.items()}

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,) at log-SNR (B,) by modality, of which the audio's gives the time.

        Without any texts, as in training and evaluation, the embedding is that of the time alone.
        """
        return self._logit(x, self.times(log_snr["audio"]), pooled or {}, self.texts if pooled else {})

    def at_times(self, x: Mapping[str, Tensor], t: Tensor, pooled: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the logit (B,) at training times t (B,) of the audio model; text (B, D), or (B, N, D) to be averaged.

        Raises:
            ValueError: modalities, batches, times, texts or sizes that do not fit.
        """
        return self._logit(x, t, pooled or {}, self.texts)

    def times(self, log_snr: Tensor) -> Tensor:
        """Return the training times (B,), whole, at which the audio's schedule comes nearest to a log-SNR (B,)."""
        lam = log_snr_of(*self._tables["audio"]).to(log_snr.device)
        above = torch.searchsorted(-lam, -log_snr.to(lam)).clamp(1, TIMES - 1)
        nearer = (log_snr - lam[above]).abs() < (lam[above - 1] - log_snr).abs()
        return torch.where(nearer, above, above - 1)

    def sigmas(self, t: Tensor) -> dict[str, Tensor]:
        """Return each modality's sigma (B,) at training times t (B,), by which the authors scale its gradient."""
        return {m: sigma.to(t.device)[t.long()] for m, (_, sigma) in self._tables.items()}

    def require_lengths(self, frames: int, audio_steps: int) -> None:
        """Raise ValueError where video frames and audio steps (of the latent) are more than the fusion can take."""
        pooled = AUDIO_POOL[1][0] ** (len(MULTIPLIERS) - 1) if self.axes == 1 else 1
        self.fusion_model.require_fit(frames, audio_steps // pooled)

    def _logit(
        self, x: Mapping[str, Tensor], t: Tensor, texts: Mapping[str, Tensor], text_sizes: Mapping[str, int]
    ) -> Tensor:
        self._require_fit(x, t, texts, text_sizes)
        device = "cpu" if t.is_meta else t.device.type  # planning computes shapes on meta, which has no autocast
        autocast, frozen = torch.is_autocast_enabled(device), self._is_frozen()
        low_precision = self._low_precision(autocast)
        # The frozen blocks choose by themselves what runs in low precision; the rest is cheap, and stays in float32.
        with torch.autocast(device, enabled=autocast and not frozen):
            time = self.time_embed(t)
            embeddings = {m: self._embedding(m, time, texts.get(m)) for m in MODALITIES}
            if frozen:
                found = {m: self._frozen_features(m, x[m], embeddings[m], low_precision) for m in MODALITIES}
            else:
                found = {m: self._features(m, x[m], embeddings[m]) for m in MODALITIES}
            logit: Tensor = self.last_linear(self.fusion_model(found["video"], found["audio"], time))
        return logit[:, 0].float()

    def _require_fit(
        self, x: Mapping[str, Tensor], t: Tensor, texts: Mapping[str, Tensor], text_sizes: Mapping[str, int]
    ) -> None:
        require_states(x, self.channels, self.axes)
        require_texts(texts, text_sizes)
        require_one_batch(x, t, texts)
        self.require_lengths(x["video"].shape[2], x["audio"].shape[2])

    def _embedding(self, m: str, time: Tensor, text: Tensor | None) -> Tensor:
        """Return the embedding (B, width) of time and, where there is one, of a modality's text."""
        if text is None:
            return time
        text = text.mean(1) if text.ndim == 3 else text
        embedded: Tensor = time + self.get_submodule(f"{m}_text_embed")(text.to(time.dtype))
        return embedded

    def _features(self, m: str, x: Tensor, embedding: Tensor) -> Tensor:
        """Return one modality's features (B, T, C), averaged over space or frequency; any derivative exists."""
        x = self.feature_extractor(m, x.to(self.last_linear.weight.dtype), embedding)
        return (x.flatten(3).mean(3) if x.ndim > 3 else x).transpose(1, 2)

    def _frozen_features(self, m: str, x: Tensor, embedding: Tensor, low_precision: torch.dtype) -> Tensor:
        """Return the same features by `frozen_blocks`, of which only the gradient by x exists."""
        blocks = self.feature_extractor.blocks()
        return frozen_blocks.features(blocks, m, x, embedding, low_precision).to(embedding.dtype)

    def _is_frozen(self) -> bool:
        """Return whether only the gradient by the states can be wanted, in at most single precision."""
        return not any(p.requires_grad or p.dtype == torch.float64 for p in self.parameters())

    def _low_precision(self, autocast: bool) -> torch.dtype:
        """Return the dtype of large convolutions in the frozen blocks, never float16, whose range gradients leave."""
        dtype = self.last_linear.weight.dtype
        return torch.bfloat16 if autocast or dtype != torch.float32 else dtype


def build(
    options: PaperOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
) -> PaperDiscriminator:
    """Return the discriminator of a recipe, untrained; see `PaperDiscriminator` for the arguments.

    Raises:
        ValueError: options or latent shapes that do not fit each other.
    """
    require_shapes(shapes)
    axes, expected = len(shapes["audio"]) - 1, 1 if isinstance(options, PaperWaveformOptions) else 2
    if axes != expected:
        other = "paper-mel" if axes == 2 else "paper-waveform"
        raise ValueError(f"the audio has the shape {shapes['audio']}, which is one for {other}")
    if options.channels % 32:
        raise ValueError(f"channels must be a multiple of 32, got {options.channels}")
    built = PaperDiscriminator(options, shapes, pooled)
    built.require_lengths(shapes["video"][1], shapes["audio"][1])
    return built


class _FeatureExtractor(nn.Module):
    """The stem and the residual blocks of both modalities, each in a list of its own, numbered as in released files."""

    def __init__(self, options: PaperOptions, channels: Mapping[str, int], axes: int) -> None:
        super().__init__()
        width = current = options.channels
        blocks: list[nn.Module] = [Stem(channels["video"], channels["audio"], axes, width)]
        for level, multiplier in enumerate(MULTIPLIERS):
            for down in [False] * options.blocks + [True] * (level < len(MULTIPLIERS) - 1):
                # The first dilation is 2: the count starts at the stem, and blocks that pool are counted.
                dilation = 2 ** (len(blocks) % options.dilations)
                blocks.append(ResidualBlock(width, current, multiplier * width, axes, dilation, down))
                current = multiplier * width
        self.input_blocks = nn.ModuleList(nn.ModuleList([block]) for block in blocks)

    def forward(self, modality: str, x: Tensor, embedding: Tensor) -> Tensor:
        """Map one modality's (B, C, T, ...) under an embedding (B, width) to features (B, 4 * width, T, ...)."""
        for block in self.blocks():
            x = block(modality, x, embedding)
        return x

    def blocks(self) -> Iterator[Stem | ResidualBlock]:
        """Return the stem and the blocks in order."""
        for holder in self.input_blocks:
            yield from cast(Iterator[Stem | ResidualBlock], holder.children())


def _store_channels_last(module: nn.Module) -> None:
    """Store convolutions' weights channels last, as the frozen blocks read them, so that these make no copies."""
    for parameter in module.parameters():
        if parameter.ndim > 2:
            parameter.data = parameter.data.movedim(1, -1).contiguous().movedim(-1, 1)


def _alphas_and_sigmas(schedule: str) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma (1000,) of every training time."""
    levels = make_schedule(schedule).levels_at(torch.arange(TIMES, dtype=torch.float64) / (TIMES - 1))
    return levels.alpha, levels.sigma
