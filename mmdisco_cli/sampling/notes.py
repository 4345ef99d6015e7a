"""What a run of `mmdisco sample` says before it begins: options that change nothing, and what is changed of media."""

from collections.abc import Mapping, Sequence

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.data.writing.codecs import lacking
from mmdisco_cli.diffusion.backbone import VIDEO
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.run.options import SampleOptions
from mmdisco_cli.sampling.given import Source
from mmdisco_cli.sampling.given_texts import Texts
from mmdisco_cli.sampling.outputs import Part


def shows_video(parts: Sequence[Part]) -> bool:
    """Return whether any file of a sample has video."""
    return any(part.kind.name == VIDEO for part in parts)


def format_notes(options: SampleOptions, parts: Sequence[Part], video: str) -> list[str]:
    """Return that --format changes nothing where it does not; raise UsageError where video cannot be written so."""
    if not shows_video(parts):
        return [f"--format {options.format} changes nothing: no sample has video"] if options.format else []
    if clause := lacking(video):
        raise UsageError(f"--format {video}: {clause}")
    return []


def source_notes(assembly: Assembly, sources: Mapping[str, Source], count: int, outlined: bool) -> list[str]:
    """Return what is changed of given media; raise UsageError for texts that a backbone with weights cannot say."""
    for modality, source in sources.items():
        if isinstance(source, Texts) and not outlined:
            try:
                assembly.from_text(modality, list(dict.fromkeys(source.texts)))
            except ValueError as error:
                raise UsageError(f"--given {modality}: {error}") from error
    return [note for m, source in sources.items() for note in source.notes(assembly.modalities[m], count)]


def discriminator_notes(assembly: Assembly, options: SampleOptions) -> list[str]:
    """Say what a discriminator knows nothing of, of the texts that it or the base models are given."""
    loaded = assembly.discriminator
    if loaded is None:
        return []
    if options.prompts and not loaded.knows_texts:
        return ["the discriminator was trained without captions: the prompts reach the base models, not the guidance"]
    if not loaded.knows_no_text and assembly.prompt_backbones:
        return [
            "the discriminator was trained with train.text_dropout=0: it does not know the empty text, which samples "
            "without a prompt and the negative half of CFG give it"
        ]
    return []


def prompt_settings(config: SampleConfig, options: SampleOptions) -> list[str]:
    """Return a clause for each setting that has an effect only on models that take prompts."""
    settings = {
        "the prompts change nothing": options.prompts,
        "sample.negative_prompt changes nothing": config.negative_prompt,
        "sample.cfg changes nothing": config.cfg,
    }
    return [clause for clause, value in settings.items() if value]
