"""Any pipeline of diffusers in a recipe: it runs unmodified in lockstep with another.

    backbones:
      audio: {name: lockstep, path: FOLDER, rate: 16000}
      video: {name: lockstep, path: FOLDER, arguments: {motion_bucket_id: 127}}

It only samples: it cannot be evaluated at a chosen noise level, so there is no training, no given modality, and no
solver but the pipeline's own scheduler. Every sample is run by itself, from its own generator.
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Plan, Request, State
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.diffusion.whole import Run
from mmdisco_cli.errors import DataError, UsageError, did_you_mean
from mmdisco_diffusers.finding import find_model, read_json
from mmdisco_diffusers.lockstep import Part, run
from mmdisco_diffusers.lockstep_media import by, media_of, planned_audio, planned_video, require_key, size_arguments
from mmdisco_diffusers.options import LockstepOptions
from mmdisco_diffusers.parts import DTYPES, find_class
from mmdisco_diffusers.weights_on_disk import count_weights, name_weights


class Lockstep:
    """A `Backbone` that can plan and run whole, and refuses all else."""

    takes_prompts = prompts_by_modality = True

    def __init__(self, modality: str, folder: Path, options: LockstepOptions, request: Request) -> None:
        self.modality, self.folder, self.options, self.request = modality, folder, options, request
        self.device = torch.device("cpu")
        self._keys: Tensor | None = None
        self._loaded: dict[str, Any] = {}  # shared by the copies that `keyed` makes

    @cached_property
    def pipeline_class(self) -> Any:
        """Return the class that model_index.json names."""
        return find_class("diffusers", str((read_json(self.folder / "model_index.json") or {})["_class_name"]))

    def check(self) -> None:
        """Raise DataError for an unknown pipeline, UsageError for arguments or axes that do not fit."""
        known = self._parameters
        for name in self.options.arguments:
            if name not in known:
                raise UsageError(
                    f"backbones.{self.modality}.arguments: a {self.pipeline_class.__name__} takes no {name}"
                    f"{did_you_mean(name, known)}"
                )
        axes, count = self.options.axes, len(self.options.latent)
        if axes and sorted(axes) != list(range(count)):
            every = f"must name each of 0 to {count - 1} once" if count else "need a latent"
            raise UsageError(f"backbones.{self.modality}.axes: {list(axes)} {every}")

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality; its prediction type is a placeholder: only the pipeline's scheduler uses it."""
        plan = self.plan(self.request)
        return ModalityInfo(self.modality, "epsilon", plan.latent_shape[0], plan.rate)

    @property
    def variant(self) -> str:
        """Name what samples depend on beside the weights."""
        settings = {"dtype": self.options.dtype, **self.options.arguments}
        return ", ".join(f"{name} {value}" for name, value in settings.items())

    @cached_property
    def fingerprint(self) -> str:
        """Return the fingerprint of the weights, or that which the recipe gives in `stands_for`."""
        return self.options.stands_for or name_weights(self._parts, self.folder / "model_index.json")

    @cached_property
    def parameters(self) -> int:
        """Return how many weights the pipeline has, read from its files."""
        return sum(count_weights(part) for part in self._parts)

    @property
    def memory(self) -> tuple[str, ...]:
        """Return a line with the memory of the weights."""
        size = self.parameters * DTYPES[self.options.dtype].itemsize / 1e9
        return (f"{self.pipeline_class.__name__}: {size:.2f} GB in {self.options.dtype}, all on the device",)

    def to(self, device: torch.device) -> None:
        """Choose the device that the pipeline runs on."""
        self.device = device

    def keyed(self, keys: Tensor) -> Self:
        """Return the same pipeline, seeding its generators with the samples' keys (B,)."""
        made = copy(self)
        made._keys = keys
        return made

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes of the request and the pipeline's own defaults, as they are."""
        if self.modality == "audio":
            media, rate = planned_audio(self.folder, request, self.options.rate)
        else:
            media, rate = planned_video(self._parameters, request)
        name = self.pipeline_class.__name__
        note = f"{self.modality}: a {name} in lockstep: its own scheduler steps, and it can only sample"
        return ModalityPlan(self.options.latent or media, media, rate, media[1] / rate, (note,))

    def run_whole(self, beside: Sequence["Lockstep"], plans: Sequence[Plan], run: Run) -> tuple[State, Tensor | None]:
        """Return the media (B, ...) of all, made one sample after another, and the last logit (B,)."""
        shapes = {m: plan for whole in plans for m, plan in whole.modalities.items()}
        media: list[dict[str, Tensor]] = []
        logits: list[Tensor | None] = []
        for place in range(len(run)):
            made, logit = _one(beside, shapes, run, place)
            media.append(made)
            logits.append(logit)
        known = [logit for logit in logits if logit is not None]
        joined = torch.cat(known) if len(known) == len(logits) else None
        return {m: torch.stack([one[m] for one in media]) for m in shapes}, joined

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents unchanged: `run_whole` returned media."""
        return latent

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Raise UsageError: a pipeline in lockstep can only sample."""
        self._refuse()

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Raise UsageError: a pipeline in lockstep can only sample."""
        self._refuse()

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Raise UsageError: a pipeline in lockstep can only sample."""
        self._refuse()

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Raise UsageError: a pipeline in lockstep can only sample."""
        self._refuse()

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Raise UsageError: a pipeline in lockstep can only sample."""
        self._refuse()

    def pipeline(self) -> Any:
        """Return the whole pipeline, loaded once and on its device.

        Raises:
            DataError: its files are missing or damaged.
        """
        if "pipeline" not in self._loaded:
            self._loaded["pipeline"] = self._load()
        return self._loaded["pipeline"].to(self.device)

    def _load(self) -> Any:
        try:
            made = self.pipeline_class.from_pretrained(str(self.folder), local_files_only=True)
        except Exception as error:  # a damaged file raises many kinds of exceptions
            raise DataError(f"{self.folder}: cannot be loaded ({' '.join(str(error).split())})") from error
        made.set_progress_bar_config(disable=True)
        # Converted afterwards, because the option's name depends on the release of diffusers.
        return made if self.options.dtype == "float32" else made.to(DTYPES[self.options.dtype])

    def part(self, run: Run, place: int, plan: ModalityPlan) -> Part:
        """Return the pipeline with the arguments for one sample."""
        keys = self._keys if self._keys is not None else torch.arange(len(run))
        known = {
            "prompt": run.prompts_of(self.modality)[place],
            "num_inference_steps": run.steps,
            "generator": torch.Generator().manual_seed(int(keys[place])),
            "output_type": "np",
            **size_arguments(self.modality, self._parameters, plan),
            **({"guidance_scale": run.cfg[self.modality]} if self.modality in run.cfg else {}),
        }
        taken = self._parameters
        arguments = {name: value for name, value in known.items() if name in taken} | self._numbers
        there, back = self._layouts
        return Part(self.pipeline(), arguments, there, back)

    @property
    def _parts(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.pipeline_class.__call__).parameters

    @cached_property
    def _numbers(self) -> dict[str, float]:
        """Return the recipe's own arguments; whole numbers as int, because many are counts."""
        return {name: int(n) if n == int(n) else n for name, n in self.options.arguments.items()}

    @property
    def _layouts(self) -> tuple[Any, Any]:
        """Return the functions from the scheduler's layout of latents to the canonical one and back."""
        axes = self.options.axes or tuple(range(len(self.options.latent)))
        there = [0, *(axis + 1 for axis in axes)]
        back = [there.index(axis) for axis in range(len(there))]

        def to_canonical(x: Tensor) -> Tensor:
            made = x.permute(there) if x.ndim == len(there) else x
            if tuple(made.shape[1:]) != self.options.latent:
                raise UsageError(
                    f"backbones.{self.modality}.latent: its scheduler steps {by(x.shape[1:])}, "
                    f"which axes {list(axes)} do not make {by(self.options.latent)}"
                )
            return made

        return to_canonical, lambda x: x.permute(back)

    def _refuse(self) -> NoReturn:
        raise UsageError(f"backbones.{self.modality}: a pipeline in lockstep can only sample")


def build(label: str, options: LockstepOptions, request: Request) -> Lockstep:
    """Build the backbone of a recipe; the pipeline is loaded when it first runs.

    Raises:
        UsageError, DataError: no path, or no pipeline of this version of diffusers.
    """
    if label not in ("audio", "video"):
        raise UsageError(f"backbones.{label}: a pipeline in lockstep makes audio or video")
    key = f"backbones.{label}.path"
    folder = find_model(options.path, key)
    if "_class_name" not in (read_json(folder / "model_index.json") or {}):
        raise DataError(f"{key}: {folder}: holds no pipeline of diffusers: it has no model_index.json")
    made = Lockstep(label, folder, options, request)
    made.check()
    return made


def _one(
    models: Sequence[Lockstep], plans: Mapping[str, ModalityPlan], batch: Run, place: int
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the media of one sample by modality, and its last logit (1,)."""
    last: list[Tensor] = []
    count = len(batch)

    def on_step(step: int, logit: Tensor | None) -> None:
        if logit is not None:
            last[:] = [logit.detach().cpu()]
        batch.on_step(math.ceil((place * batch.steps + step) / count))

    if batch.guidance is not None:
        for model in models:
            if not model.options.latent:
                require_key(
                    f"backbones.{model.modality}.latent",
                    "a discriminator takes latents, whose shape a pipeline does not expose",
                )
    parts = {model.modality: model.part(batch, place, plans[model.modality]) for model in models}
    try:
        made = run(parts, batch.guidance, on_step)
    except (TypeError, ValueError) as error:  # a pipeline's own errors on its arguments
        raise UsageError(f"lockstep: {' '.join(str(error).split())}") from error
    media = {m: media_of(m, result, plans[m]) for m, result in made.items()}
    return media, last[0] if last else None
