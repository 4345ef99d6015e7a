"""What `mmdisco sample` decides before it samples: models, given media, settings and the output directory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from mmdisco_cli.assembly import Assembly, assemble
from mmdisco_cli.assembly.build import join
from mmdisco_cli.assembly.models import Prompts
from mmdisco_cli.assembly.texts import unread_lines
from mmdisco_cli.data.manifest import Row, read_rows
from mmdisco_cli.devices import DTYPES, choose_device
from mmdisco_cli.diffusion.guidance import Timed
from mmdisco_cli.diffusion.whole import require_predictions
from mmdisco_cli.errors import DataError, PluginError, UsageError
from mmdisco_cli.kinds.known import OpenKind, kinds_by_label
from mmdisco_cli.recipes.missing import missing_files, require_files
from mmdisco_cli.recipes.schema import Recipe, SampleConfig
from mmdisco_cli.run.options import SampleOptions
from mmdisco_cli.run.ranks import Shard, share_note, this_shard
from mmdisco_cli.sampling.draw import require_steps, total_steps
from mmdisco_cli.sampling.given import Source, find_sources
from mmdisco_cli.sampling.notes import discriminator_notes, format_notes, prompt_settings, shows_video, source_notes
from mmdisco_cli.sampling.outputs import Part, sample_parts
from mmdisco_cli.sampling.settings import MP4, Settings, settings_of, video_format
from mmdisco_cli.weights_file import find_weights

T = TypeVar("T")
FEW = 8
"""Prompts up to which each that is too long is warned of by itself, when it is encoded."""


@dataclass(frozen=True)
class SampleJob:
    """One process's share of a run of `mmdisco sample`."""

    recipe: Recipe
    options: SampleOptions
    config: SampleConfig
    assembly: Assembly
    kinds: Mapping[str, OpenKind]
    parts: Sequence[Part]
    sources: Mapping[str, Source]
    shard: Shard
    directory: Path
    settings: Settings
    notes: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Return the number of solver steps of a sample, those of resampled modalities included."""
        return total_steps(self.config, self.assembly.shapes, self.sources)

    @property
    def indices(self) -> range:
        """Return the indices of this process's samples."""
        return self.shard.of(self.options.n)

    def prompt(self, index: int) -> str | None:
        """Return the prompt of a sample; prompts are used in turn."""
        return _in_turn(self.options.prompts, index)

    def texts(self, batch: Sequence[int]) -> Prompts:
        """Return the prompts of some samples, by modality where a file has captions by modality."""
        return _texts(self.options, batch, self.assembly.modalities)

    def captions(self, index: int) -> Mapping[str, str]:
        """Return the texts of a sample that are of one modality only."""
        return _in_turn(self.options.captions, index) or {}

    def done(self) -> dict[int, Row]:
        """Return the manifest's rows, by index, of the samples that are complete."""
        if self.options.overwrite:
            return {}
        seed, fingerprint = self.options.seed, self.settings["fingerprint"]
        found = {
            row["index"]: row
            for row in read_rows(self.directory)
            if row["seed"] == seed and row.get("settings") == fingerprint
        }
        kept = self.config.keep_latents
        return {i: found[i] for i in self.indices if i in found and (found[i].get("latents") or not kept)}


def plan_job(recipe: Recipe, options: SampleOptions, built: Assembly | None = None) -> SampleJob:
    """Build the models, unless they are `built`, and fix everything that a run needs; nothing is written.

    Raises:
        UsageError: n is not positive, or --given, --shard or the recipe do not fit.
        DataError, PluginError, DeviceError: as for `assemble` and `find_sources`.
    """
    if options.n <= 0:
        raise UsageError(f"--n {options.n}: must be at least 1")
    shard = this_shard(options.shard)
    config = config_of(recipe, options)
    assembly, notes = (built, []) if built else build_assembly(recipe, options, config)
    require_steps(assembly, config)
    unused, prompts, captions = prompt_settings(config, options), options.prompts, options.captions
    if unused and not assembly.reads_prompts:
        notes += [f"{text}: no backbone of this recipe takes any prompts" for text in unused]
        # Settings without effect are not recorded: samples made with and without them are the same.
        config, prompts, captions = replace(config, negative_prompt="", cfg={}), (), ()
    elif not options.independent:
        notes += discriminator_notes(assembly, options)
    if len(prompts) > FEW:
        notes += unread_lines(assembly, _texts(options, range(len(prompts)), assembly.modalities), "prompt")
    kinds, misfits = kinds_by_label(assembly.kinds, assembly.modalities, assembly.speaking)
    directory = options.out or Path("runs") / recipe.name / default_folder(options)
    video = options.format or video_format(directory)
    parts = sample_parts(kinds, assembly.modalities, video)
    notes += format_notes(options, parts, video)
    sources = find_sources(options.given, assembly.modalities, kinds)
    outlined = options.dry_run and bool(missing_files(recipe, discriminator=False))
    notes += [*misfits, *source_notes(assembly, sources, options.n, outlined)]
    for wanted, purpose in (
        (sources, "sampled with a given modality"),
        (config.gibbs, "resampled given all others"),
        (config.keep_latents, "kept as latents"),
        (config.negative_prompt, "guided by a negative prompt"),
    ):
        if wanted:
            require_predictions(assembly.models, purpose)
    settings = settings_of(
        replace(recipe, sample=config),
        assembly,
        independent=options.independent,
        given={m: source.digest() for m, source in sources.items()},
        prompts=prompts,
        captions=captions,
        video=video if shows_video(parts) else MP4,
    )
    notes += share_note(shard, options.n)
    return SampleJob(
        recipe, options, config, assembly, kinds, parts, sources, shard, directory, settings, (*assembly.notes, *notes)
    )


def _in_turn(values: Sequence[T], index: int) -> T | None:
    return values[index % len(values)] if values else None


def _texts(options: SampleOptions, indices: Sequence[int], modalities: Collection[str]) -> Prompts:
    """Return the prompts of some samples, by modality where any has texts by modality."""
    prompts = [_in_turn(options.prompts, index) or "" for index in indices]
    own = [_in_turn(options.captions, index) or {} for index in indices]
    if not any(own):
        return prompts
    pairs = list(zip(own, prompts, strict=True))
    return {m: [texts.get(m, prompt) for texts, prompt in pairs] for m in modalities}


def default_folder(options: SampleOptions) -> str:
    """Return the folder of a run's samples under runs/RECIPE; samples of different kinds never share one."""
    parts = ["independent"] if options.independent else []
    parts += ["given", *sorted(options.given)] if options.given else []
    return "-".join(parts) or "samples"


def config_of(recipe: Recipe, options: SampleOptions) -> SampleConfig:
    """Return a recipe's settings of sampling with those of the options in their place."""
    config = recipe.sample.where_given(options.given) if options.given else recipe.sample
    if options.batch_size is not None:
        config = replace(config, batch_size=options.batch_size)
    return replace(config, dtype=options.dtype or config.dtype)


def build_assembly(recipe: Recipe, options: SampleOptions, config: SampleConfig) -> tuple[Assembly, list[str]]:
    """Return the models that samples are drawn with, and a note where their logits cannot be had."""
    device, dtype = choose_device(options.device), DTYPES[config.dtype]
    if options.dry_run and missing_files(recipe, not options.independent):
        return _outlined(recipe, options, device), []
    if not options.independent:
        assembly = assemble(recipe, device, dtype)
        _require_form(assembly, config)
        _require_given(assembly, config)
        return assembly, []
    alone = assemble(recipe, device, dtype, with_discriminator=False)
    if config.weights is None:
        return alone, []
    try:
        return join(alone, find_weights(config.weights)), []
    except (DataError, PluginError) as error:
        # Independent samples need no discriminator; only their logits do.
        return alone, [f"no logits: {error}"]


def _outlined(recipe: Recipe, options: SampleOptions, device: torch.device) -> Assembly:
    """Return the models without missing weights, for planning; raise DataError for these where none can be planned."""
    if not missing_files(recipe, discriminator=False):
        return assemble(recipe, device, with_discriminator=False)
    try:
        return assemble(recipe, device, outlined=True)
    except (PluginError, DataError):
        require_files(recipe, not options.independent)
        raise


def _require_form(assembly: Assembly, config: SampleConfig) -> None:
    loaded = assembly.discriminator
    if config.guidance_form == "released" and loaded is not None and not isinstance(loaded.module, Timed):
        name = loaded.about["name"]
        raise UsageError(f"sample.guidance_form: released is for the paper's discriminators, not for {name}")


def _require_given(assembly: Assembly, config: SampleConfig) -> None:
    """Refuse to resample a modality whose conditional distribution was not learnt, or cannot be sampled."""
    loaded = assembly.discriminator
    if config.gibbs and loaded is not None and not loaded.trained_with_given:
        raise UsageError("sample.gibbs: takes a discriminator that was trained with train.given_fraction above 0")
    for label, base in assembly.models.items():
        together = base.plan.modalities
        inseparable = [m for m in config.gibbs if m in together] if len(together) > 1 else []
        if inseparable:
            whole = " and ".join(together)
            raise UsageError(f"sample.gibbs: {inseparable[0]}: backbone {label} makes {whole} at one noise level only")
