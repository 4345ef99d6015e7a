"""LTX-2: one transformer with two streams for video and audio, each at its own noise level."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import (
    BackboneInfo,
    Condition,
    ModalityInfo,
    Payload,
    Plan,
    Request,
    State,
    Unread,
)
from mmdisco_cli.diffusion.guidance import cfg_combine
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.levels import ended_clean, prediction_of
from mmdisco_diffusers.ltx import by_tokens, decoded, encoded, factors_of, pack, require_single_cells, unpack
from mmdisco_diffusers.ltx2_audio import LTX2Audio
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import LTX2Options
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Prompts, Row, cast, pooled, repeated
from mmdisco_diffusers.request import grouped_plan
from mmdisco_diffusers.stage import Stage
from mmdisco_diffusers.tokens import TextLimit, fixed, unread, warn_truncated

ROLES = Roles(("transformer",), ("vae", "audio_vae", "vocoder"), ("text_encoder", "connectors"))
MODALITIES = ("audio", "video")
FPS, FRAMES, HEIGHT, WIDTH = 24.0, 121, 512, 768
CFG_SCALES = {"audio": 7.0, "video": 3.0}
TOKENS = 1024
LIMIT = TextLimit(fixed(TOKENS), prepared=str.strip)
"""Most tokens of the pipeline's language model."""
COUNTS, SHIFTS = (1024, 4096), (0.95, 2.05)
"""The pipeline's numbers of tokens and log-shifts of noise levels (see `ltx.by_tokens`)."""


class LTX2:
    """A `JointBackbone`: audio (B, 8, T, 16), 25 cells a second; video (B, 128, 1 + (T - 1) / 8, H / 32, W / 32)."""

    takes_prompts = True
    pads_with_zeros = True

    def __init__(self, parts: Parts, options: LTX2Options, request: Request) -> None:
        require_single_cells(parts)
        self.parts, self.options, self.request = parts, options, request
        self.skipped = _skipped(parts, options.stg_blocks)
        self.stage, self.audio = Stage(parts, ROLES, options), LTX2Audio(parts)
        self.prompts = Prompts(self.stage)
        self.fingerprint = self.stage.fingerprint()

    @cached_property
    def info(self) -> BackboneInfo:
        """Describe audio and video."""
        channels = {
            "audio": self.audio.config["latent_channels"],
            "video": self.parts.config("transformer")["in_channels"],
        }
        rates = {"audio": float(self.audio.rate), "video": self.request.fps or FPS}
        width = self._width if self.options.pooled else {"audio": 0, "video": 0}
        prediction = prediction_of(self.parts)
        modalities = (
            ModalityInfo(m, prediction, int(channels[m]), rates[m], width[m], CFG_SCALES[m]) for m in MODALITIES
        )
        return BackboneInfo(tuple(modalities), self.fingerprint, self.stage.variant())

    @property
    def parameters(self) -> int:
        """Return how many weights the model has, read from its files."""
        return self.stage.parameters()

    @property
    def memory(self) -> tuple[str, ...]:
        """Return lines on the memory that each part will take and where, from the sizes of the files."""
        return self.stage.memory()

    def to(self, device: torch.device) -> None:
        """Choose the device that parts go to when they are first needed."""
        self.stage.to(device)

    def release(self, parts: Sequence[str]) -> None:
        """Free the codecs or the text encoders, until they are needed again."""
        self.prompts.release(parts)

    def plan(self, request: Request) -> Plan:
        """Return the shapes: whole groups of frames after the first, and audio of the same length.

        Audio is made in whole cells, so up to a few hundredths of a second at its end are silence, or cut.
        """
        factors, channels = factors_of(self.parts.config("vae")), int(self.parts.config("transformer")["in_channels"])
        video = grouped_plan(request, FPS, (FRAMES, HEIGHT, WIDTH), channels, factors)
        return Plan({"audio": self.audio.plan(video.seconds), "video": video}, video.notes)

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        """Return one grid for both, that for the video's number of tokens."""
        return dict.fromkeys(MODALITIES, self._schedule(plan).grid(steps))

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        """Return the same levels for both."""
        return dict.fromkeys(MODALITIES, self._schedule(plan).levels_at(u))

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        """Return the conditions of both streams; the default negative is the empty text."""
        wanted, unwanted = self.prompts.encoded(prompts, negatives, 0.0, self._rows)
        return {m: self._condition(m, wanted, unwanted) for m in MODALITIES}

    def unread(self, prompts: Sequence[str]) -> list[Unread | None]:
        """Return for each prompt what the text encoder does not read of it, None where nothing."""
        return unread(self.parts, prompts, (LIMIT,))

    @torch.no_grad()
    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        """Return the native output of both for x (B, ...) at native times t (B,), which may differ between them."""
        return self._output(x, t, condition, plan)

    @torch.no_grad()
    def guided(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        positive: Mapping[str, Payload],
        negative: Mapping[str, Payload],
        scales: Mapping[str, float],
        plan: Plan,
    ) -> State:
        """Return the output with the guidance of the model's authors: CFG, guidance away from weaker models, rescaling.

        The weaker models are the same one without the self-attention of some blocks (STG, Hyung et al. 2024), and
        without attention between audio and video. Then x_0 is rescaled towards the standard deviation without guidance
        (Lin et al. 2023, eq. 16). Shapes as for `predict`.
        """
        plain, other = self._output(x, t, positive, plan), self._output(x, t, negative, plan)
        whole = {m: cfg_combine(plain[m], other[m], scales[m]) for m in MODALITIES}
        for weight, weaker in self._weaker(x, t, positive, plan):
            whole = {m: whole[m] + weight * (plain[m] - weaker[m]) for m in MODALITIES}
        if not self.options.rescale:
            return whole
        times = int(self.parts.config("scheduler")["num_train_timesteps"])
        return {m: rescaled(whole[m], plain[m], x[m], t[m] / times, self.options.rescale) for m in MODALITIES}

    def _weaker(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> Iterator[tuple[float, State]]:
        """Yield the guidance scale and output of each weaker version of the model."""
        options = self.options
        if options.stg_scale and self.skipped:
            yield options.stg_scale, self._output(x, t, condition, plan, skipped=self.skipped)
        if options.modality_scale != 1:
            yield options.modality_scale - 1, self._output(x, t, condition, plan, apart=True)

    def _output(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        condition: Mapping[str, Payload],
        plan: Plan,
        *,
        skipped: Sequence[int] = (),
        apart: bool = False,
    ) -> State:
        """Return the output, without self-attention in `skipped` blocks, or without attention between streams."""
        self.stage.settle()
        there, dtype, count = self.stage.at("denoiser"), self.parts.dtype("transformer"), len(x["video"])
        condition_of = {
            m: cast(self._condition_or_empty(condition.get(m), m, count, plan), there, dtype) for m in MODALITIES
        }
        audio, video = x["audio"].to(there, dtype), x["video"].to(there, dtype)
        cells = tuple(video.shape[2:])
        time = {m: t[m].to(there) for m in MODALITIES}
        out = self.parts.get("transformer")(
            hidden_states=pack(video),
            audio_hidden_states=audio.transpose(1, 2).flatten(2),
            encoder_hidden_states=condition_of["video"]["tokens"],
            audio_encoder_hidden_states=condition_of["audio"]["tokens"],
            timestep=time["video"],
            audio_timestep=time["audio"],
            sigma=time["video"],
            audio_sigma=time["audio"],
            encoder_attention_mask=condition_of["video"]["mask"],
            audio_encoder_attention_mask=condition_of["audio"]["mask"],
            num_frames=cells[0],
            height=cells[1],
            width=cells[2],
            fps=plan.modalities["video"].rate,
            audio_num_frames=audio.shape[2],
            use_cross_timestep=True,
            isolate_modalities=apart,
            spatio_temporal_guidance_blocks=list(skipped) or None,
            return_dict=False,
        )
        audio_out: Tensor = out[1].unflatten(2, (audio.shape[1], -1)).transpose(1, 2)
        made = {"audio": audio_out, "video": unpack(out[0], cells)}
        return {m: value.to(x[m].device).float() for m, value in made.items()}

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        """Return the normalised mean latents of media of either modality."""
        work = {
            "audio": lambda chunk: self.audio.encode(chunk, plan.modalities["audio"]),
            "video": lambda chunk: encoded(self.parts.get("vae"), chunk),
        }
        return {m: self.stage.through_codec(work[m], x) for m, x in media.items()}

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        """Return the media of normalised latents of either modality, chunk by chunk."""
        work = {
            "audio": lambda chunk: self.audio.decode(chunk, plan.modalities["audio"]).float().clamp(-1, 1),
            "video": lambda chunk: decoded(self.parts.get("vae"), chunk).float().clamp(-1, 1),
        }
        return {m: self.stage.through_codec(work[m], x) for m, x in latent.items()}

    @property
    def _width(self) -> dict[str, int]:
        """Return the size of each stream's condition."""
        config = self.parts.config("connectors")
        return {
            m: int(config[f"{m}_connector_num_attention_heads"]) * int(config[f"{m}_connector_attention_head_dim"])
            for m in MODALITIES
        }

    def _schedule(self, plan: Plan) -> Schedule:
        tokens = math.prod(plan.modalities["video"].latent_shape[1:])
        own = by_tokens(self.parts.get("scheduler"), tokens, COUNTS, SHIFTS)
        return ended_clean(own) if self.options.clean_end else own

    def _rows(self, prompt: str, negative: str | None, device: torch.device) -> tuple[Row, Row]:
        """Return both streams' conditions: all layers of the language model, through the model's own connectors."""
        from diffusers import LTX2Pipeline

        absent = dict.fromkeys(("scheduler", "vae", "audio_vae", "transformer", "vocoder"))
        pipeline = LTX2Pipeline(**absent, **{name: self.parts.get(name) for name in (*ROLES.text, "tokenizer")})
        for text in (prompt, negative or ""):
            warn_truncated(self.parts, text.strip(), LIMIT)
        hidden, mask, other, other_mask = pipeline.encode_prompt(prompt, negative or "", device=device)
        side = pipeline.tokenizer.padding_side
        rows = []
        for states, seen in ((hidden, mask), (other, other_mask)):
            video, audio, kept = pipeline.connectors(states, seen, padding_side=side)
            rows.append({"audio": audio[0], "video": video[0], "mask": kept[0].long()})
        return rows[0], rows[1]

    def _condition(self, modality: str, wanted: Row, unwanted: Row) -> Condition:
        positive, other = ({"tokens": rows[modality], "mask": rows["mask"]} for rows in (wanted, unwanted))
        if not self.options.pooled:
            return Condition(positive, other)
        return Condition(positive, other, pooled(positive["tokens"]), pooled(other["tokens"]))

    def _condition_or_empty(self, payload: Payload, modality: str, count: int, plan: Plan) -> Mapping[str, Tensor]:
        if isinstance(payload, Mapping):
            return payload
        return repeated(self.encode_prompt([""], None, plan)[modality].positive, count)


def build(label: str, options: LTX2Options, request: Request) -> LTX2:
    """Build the backbone of a recipe."""
    return LTX2(open_parts(label, options, ["LTX2Pipeline"], ROLES), options, request)


def _skipped(parts: Parts, requested: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the blocks that STG skips: the option's, else the one that the authors advise, if it exists."""
    config = parts.config("transformer")
    depth = int(config["num_layers"])
    advised = 28 if config.get("cross_attn_mod") else 29
    chosen = tuple(block for block in (advised,) if block < depth) if requested is None else requested
    if unknown := [block for block in chosen if block >= depth]:
        raise UsageError(f"stg_blocks: no block {unknown[0]}: the model has {depth}, counted from 0")
    return chosen


def rescaled(whole: Tensor, plain: Tensor, x: Tensor, sigma: Tensor, share: float) -> Tensor:
    """Return velocities (B, ...) with x_0 rescaled, by `share`, towards the standard deviation without guidance."""
    sigma = per_sample(sigma.to(x.device), x)
    far, near = x - sigma * whole, x - sigma * plain
    axes = tuple(range(1, x.ndim))
    factor = near.std(axes, keepdim=True) / far.std(axes, keepdim=True)
    x0 = far * (share * factor + 1 - share)
    return (x - x0) / sigma
