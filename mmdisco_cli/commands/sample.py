"""`mmdisco sample`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmdisco_cli.commands.parameters import (
    DownloadOption,
    DryRunOption,
    JsonOption,
    OutOption,
    SetOption,
    allow_downloads,
    complete_recipes,
    load_recipe,
    named_path,
    parse_shard,
    within_64_bits,
)
from mmdisco_cli.commands.prompt_tables import read_table, require_modalities
from mmdisco_cli.commands.prompts import require_text
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.run.options import SampleOptions, path_at_home

if TYPE_CHECKING:
    from mmdisco_cli.recipes.schema import Recipe

_DTYPES = ("float32", "bfloat16")
_FORMATS = ("mp4", "webm")


def command(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|PATH",
            help="A recipe file, or the name of a packaged recipe.",
            autocompletion=complete_recipes,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE|DIR|hf:OWNER/NAME",
            help="Self-describing weights in place of a recipe: a file, its folder, or hf:OWNER/NAME[@REVISION].",
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", "-n", metavar="N", min=1, callback=within_64_bits, help="How many samples.")
    ] = 16,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="S", min=0, callback=within_64_bits, help="Fixes the noise of every sample."),
    ] = 0,
    out: OutOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="B", min=1, callback=within_64_bits, help="Samples denoised together."),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", metavar="TEXT", help="A prompt; repeatable.")] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            parser=named_path,
            help="A UTF-8 file of prompts, one a line; or a .csv or .jsonl with caption, caption_audio, caption_video.",
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="MODALITY=PATH",
            help="Take a modality from this file or folder, or this text, and sample the others.",
        ),
    ] = None,
    sheet: Annotated[
        bool, typer.Option("--sheet", help="Also draw all samples on one image, sheet.png in the folder of the run.")
    ] = False,
    independent: Annotated[
        bool, typer.Option("--independent", help="The same base models and noise, without guidance.")
    ] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help="Of video: mp4 (H.264, AAC; the default) or webm (VP9, Opus)."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only every N-th sample from the I-th, counted from 0.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="D", help="A torch device, as cuda:1.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="T", help="float32 or bfloat16.")] = None,
    settings: SetOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make existing samples again.")] = False,
    download: DownloadOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Draw joint samples and write each modality as its kind: .mp4 or .webm, .wav, .png, .txt or .safetensors."""
    allow_downloads(download and not dry_run)
    require_text(prompt or ())
    table = read_table(path_at_home(prompts)) if prompts else []
    options = SampleOptions(
        n=n,
        seed=seed,
        out=out,
        batch_size=batch_size,
        prompts=(*(prompt or ()), *(row.shown for row in table)),
        captions=(*({} for _ in prompt or ()), *(row.own for row in table)) if any(row.own for row in table) else (),
        given=_parse_given(given or ()),
        independent=independent,
        format=_one_of("--format", form, _FORMATS),
        shard=parse_shard(shard),
        device=device,
        dtype=_one_of("--dtype", dtype, _DTYPES),
        overwrite=overwrite,
        dry_run=dry_run,
        json=json,
    )
    loaded, guides = _load(recipe, checkpoint, settings or (), download and not dry_run)
    options = options if guides else replace(options, independent=True)
    if download and not dry_run:
        from mmdisco_cli.conversion.fetched import fetch_missing

        fetch_missing(loaded, not options.independent)
    if prompts:
        require_modalities(prompts, table, loaded.modalities)
    for modality in options.given:
        if modality not in loaded.modalities:
            raise UsageError(f"--given {modality}: unknown modality{did_you_mean(modality, loaded.modalities)}")

    from mmdisco_cli.sampling.run import sample

    job, made = sample(loaded, options)
    if not dry_run:
        from mmdisco_cli.commands.gallery import write_job_sheet, write_page

        write_page(job, force=bool(made))
        if sheet:
            write_job_sheet(job)


def _load(recipe: str | None, checkpoint: str | None, settings: Sequence[str], download: bool) -> tuple["Recipe", bool]:
    """Return the recipe, by name or from a checkpoint, and whether it has a discriminator to guide it."""
    if (recipe is None) == (checkpoint is None):
        raise UsageError(
            "--recipe and --checkpoint: give one of them" if recipe else "Missing option '--recipe' (or '--checkpoint')"
        )
    if checkpoint is not None:
        from mmdisco_cli.recipes.from_checkpoint import checkpoint_file, recipe_of

        return recipe_of(checkpoint_file(checkpoint, download), settings)
    return load_recipe("sample", str(recipe), settings), True


def _parse_given(texts: Sequence[str]) -> Mapping[str, str]:
    files: dict[str, str] = {}
    for text in texts:
        modality, equals, path = text.partition("=")
        if not (modality and equals and path):
            raise UsageError(f"--given {text}: expected MODALITY=PATH, as in video=clip.mp4")
        if modality in files:
            raise UsageError(f"--given {modality}: given twice, {files[modality]} and {path}")
        files[modality] = path
    return files


def _one_of(option: str, text: str | None, known: Sequence[str]) -> str | None:
    if text is not None and text not in known:
        raise UsageError(f"{option} {text}: unknown{did_you_mean(text, known)}")
    return text
