"""The discriminators that the paper's authors released (MMDisCo, arXiv 2405.17842), with their names of tensors.

Each modality runs through residual blocks of its own. With the fusion `mean` the logit is h_v(video) + h_a(audio): no
parameter sees both, so nothing can be aligned; the transformer mixes them.
"""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.schedules import log_snr as log_snr_of
from mmdisco_cli.diffusion.schedules import make_schedule
from mmdisco_cli.paper import frozen_blocks
from mmdisco_cli.paper.blocks import AUDIO_POOL, ResidualBlock, Stem, TimeEmbedding
from mmdisco_cli.paper.fusion import MeanFusion, TransformerFusion
from mmdisco_cli.paper.options import PaperMelOptions, PaperWaveformOptions

MULTIPLIERS = (1, 2, 4)
TIMES = 1000
MODALITIES = ("video", "audio")
PaperOptions = PaperWaveformOptions | PaperMelOptions


class PaperDiscriminator(nn.Module):
    """A logit (B,) from video (B, C, T, H, W) and audio (B, C, T) or (B, C, T, F)."""

    def __init__(self, options: PaperOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> None:
        super().__init__()
        self.options, self.axes = options, len(shapes["audio"]) - 1
        self.channels = {m: shapes[m][0] for m in MODALITIES}
        self.texts = {m: pooled[m] for m in MODALITIES if pooled.get(m)}
        width, features = options.channels, MULTIPLIERS[-1] * options.channels
        self.time_embed = TimeEmbedding(width)
        for m, size in self.texts.items():
            self.add_module(f"{m}_text_embed", nn.Linear(size, width))
        self.feature_extractor = _Extractor(options, self.channels, self.axes)
        self.fusion_model = MeanFusion(features) if options.fusion == "mean" else TransformerFusion(features, width)
        self.last_linear = nn.Linear(self.fusion_model.width, 1)
        for parameter in self.parameters():
            if parameter.ndim > 2:  # channels last in memory, as the lean blocks read them: nothing is laid out anew
                parameter.data = parameter.data.movedim(1, -1).contiguous().movedim(-1, 1)
        names = {"audio": options.audio_schedule, "video": options.video_schedule}
        self._tables = {m: _table(name) for m, name in names.items()}

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,) at log-SNR (B,) by modality, of which the audio's tells the time.

        Without any texts, as training and evaluation ask, the network is told the time alone.
        """
        return self._logit(x, self.times(log_snr["audio"]), pooled or {}, self.texts if pooled else {})

    def at_times(self, x: Mapping[str, Tensor], t: Tensor, pooled: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the logit (B,) at training times t (B,) of the audio model; text (B, D), or (B, N, D) to be averaged.

        Raises:
            ValueError: modalities, batches, times, texts or sizes that do not fit.
        """
        return self._logit(x, t, pooled or {}, self.texts)

    def _logit(
        self, x: Mapping[str, Tensor], t: Tensor, texts: Mapping[str, Tensor], wanted: Mapping[str, int]
    ) -> Tensor:
        self._require_fit(x, t, texts, wanted)
        dtype, lean = self.last_linear.weight.dtype, self._lean()
        kind = "cpu" if t.is_meta else t.device.type  # planning computes shapes alone, on no device that can autocast
        autocast = torch.is_autocast_enabled(kind)
        # The lean blocks know by themselves what may be rough; the rest is cheap, and stays exact.
        rough = torch.bfloat16 if autocast or dtype != torch.float32 else dtype  # gradients leave float16's range
        with torch.autocast(kind, enabled=autocast and not lean):
            time = self.time_embed(t)
            found = {m: self._features(m, x[m], time, texts.get(m), rough, lean) for m in MODALITIES}
            logit: Tensor = self.last_linear(self.fusion_model(found["video"], found["audio"], time))
        return logit[:, 0].float()

    def times(self, log_snr: Tensor) -> Tensor:
        """Return the training times (B,), whole, at which the audio's schedule comes nearest to a log-SNR (B,)."""
        lam = _log_snrs(self._tables["audio"]).to(log_snr.device)
        above = torch.searchsorted(-lam, -log_snr.to(lam)).clamp(1, TIMES - 1)
        nearer = (log_snr - lam[above]).abs() < (lam[above - 1] - log_snr).abs()
        return torch.where(nearer, above, above - 1)

    def sigmas(self, t: Tensor) -> dict[str, Tensor]:
        """Return each modality's sigma (B,) at training times t (B,), by which the authors scale its gradient."""
        return {m: table[1].to(t.device)[t.long()] for m, table in self._tables.items()}

    def _features(self, m: str, x: Tensor, time: Tensor, text: Tensor | None, rough: torch.dtype, lean: bool) -> Tensor:
        """Return one modality's features (B, T, C), pooled over space or frequency."""
        level = time
        if text is not None:
            text = text.mean(1) if text.ndim == 3 else text
            level = level + self.get_submodule(f"{m}_text_embed")(text.to(time.dtype))
        if lean:
            return frozen_blocks.features(self.feature_extractor.blocks(), m, x, level, rough).to(time.dtype)
        x = self.feature_extractor(m, x.to(self.last_linear.weight.dtype), level)
        return (x.flatten(3).mean(3) if x.ndim > 3 else x).transpose(1, 2)

    def _lean(self) -> bool:
        """Return whether nobody can ask for more than the gradient by the states, in at most single precision."""
        return not any(p.requires_grad or p.dtype == torch.float64 for p in self.parameters())

    def _require_fit(
        self, x: Mapping[str, Tensor], t: Tensor, texts: Mapping[str, Tensor], wanted: Mapping[str, int]
    ) -> None:
        if x.keys() != set(MODALITIES):
            raise ValueError(f"expected audio and video, got {' and '.join(sorted(x)) or 'nothing'}")
        shapes = {m: tuple(state.shape[1:]) for m, state in x.items()}
        require_shapes(shapes)
        for m, shape in shapes.items():
            if shape[0] != self.channels[m] or (m == "audio" and len(shape) - 1 != self.axes):
                raise ValueError(f"{m} has the shape {shape}, but this discriminator takes {self.channels[m]} channels")
        if texts.keys() != wanted.keys():
            names, got = (" and ".join(sorted(keys)) or "none" for keys in (wanted, texts))
            raise ValueError(f"texts: expected {names}, got {got}")
        for m, text in texts.items():
            if text.ndim not in (2, 3) or text.shape[-1] != self.texts[m]:
                raise ValueError(f"the text of {m} is {tuple(text.shape)}, expected (batch, {self.texts[m]})")
        batches = {"video": len(x["video"]), "audio": len(x["audio"]), "times": t.numel()}
        batches |= {f"text of {m}": len(text) for m, text in texts.items()}
        if t.ndim != 1 or len(set(batches.values())) > 1:
            raise ValueError(f"batches differ: {', '.join(f'{name} {n}' for name, n in batches.items())}")
        self.fusion_model.tokens(x["video"].shape[2], self._audio_steps(x["audio"].shape[2]))

    def _audio_steps(self, length: int) -> int:
        return length // AUDIO_POOL[1][0] ** (len(MULTIPLIERS) - 1) if self.axes == 1 else length


def require_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError where latent shapes, without batch, are none of video and a waveform or mel, or too small."""
    video, audio = shapes.get("video", ()), shapes.get("audio", ())
    if set(shapes) != set(MODALITIES) or len(video) != 4 or len(audio) not in (2, 3):
        raise ValueError(f"expected audio (C, T[, F]) and video (C, T, H, W), got {dict(shapes)}")
    least = 16 if len(audio) == 2 else 4
    if min(video[2:]) < 4 or audio[-1] < least:
        what = "samples" if len(audio) == 2 else "frequencies"
        raise ValueError(f"it halves twice: video needs 4 x 4 pixels, audio {least} {what}, got {dict(shapes)}")


def build(
    options: PaperOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
) -> PaperDiscriminator:
    """Build the discriminator of a recipe; raise ValueError where it does not fit these latents."""
    require_shapes(shapes)
    axes, expected = len(shapes["audio"]) - 1, 1 if isinstance(options, PaperWaveformOptions) else 2
    if axes != expected:
        other = "paper-mel" if axes == 2 else "paper-waveform"
        raise ValueError(f"the audio has the shape {shapes['audio']}, which is one for {other}")
    if options.channels % 32:
        raise ValueError(f"channels must be a multiple of 32, got {options.channels}")
    built = PaperDiscriminator(options, shapes, pooled)
    built.fusion_model.tokens(shapes["video"][1], built._audio_steps(shapes["audio"][1]))
    return built


class _Extractor(nn.Module):
    """The stem and the residual blocks of both modalities, each in a list of its own, as the released names count."""

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

    def forward(self, modality: str, x: Tensor, level: Tensor) -> Tensor:
        """Map one modality's (B, C, ...) under an embedding (B, width) to its features, coarser in space."""
        for block in self.blocks():
            x = block(modality, x, level)
        return x

    def blocks(self) -> Iterator[Stem | ResidualBlock]:
        """Return the stem and the blocks in order."""
        for holder in self.input_blocks:
            yield from cast(Iterator[Stem | ResidualBlock], holder.children())


def _table(schedule: str) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma (1000,) of every training time."""
    levels = make_schedule(schedule).levels_at(torch.arange(TIMES, dtype=torch.float64) / (TIMES - 1))
    return levels.alpha, levels.sigma


def _log_snrs(table: tuple[Tensor, Tensor]) -> Tensor:
    return log_snr_of(*table)
