"""`mmdisco eval`."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmdisco_cli.commands.parameters import (
    DownloadOption,
    JsonOption,
    OutOption,
    SetOption,
    allow_downloads,
    complete_recipes,
    load_recipe,
    named_path,
)
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.run import console
from mmdisco_cli.run.options import EvalOptions

if TYPE_CHECKING:
    from mmdisco_cli.evaluation.run import Measured
    from mmdisco_cli.recipes.schema import Recipe

_NATIVE = "native"
_ROWS = ("csv", "parquet")


_ANALYSIS = ("rule", "height", "fps", "max_bad", "cache", "rows")
"""Parameters that say how clips are analysed and listed."""
_CLIPS = ("samples", "independent", "reference")
_IDLE = {
    "--features": ("recipe", *_CLIPS, *_ANALYSIS, "compare", "extractor"),
    "--compare": ("recipe", *_CLIPS, *_ANALYSIS, "features", "extractor", "metrics", "compat"),
}
"""What stands alone, and the parameters that would then be of no use."""


def command(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME|PATH",
            help="A recipe; without one, the clips in --samples.",
            autocompletion=complete_recipes,
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", metavar="DIR", parser=named_path, help="Samples to measure; drawn where not given."),
    ] = None,
    independent: Annotated[
        Path | None,
        typer.Option(
            "--independent", metavar="DIR", parser=named_path, help="Without a recipe: samples drawn unguided."
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", metavar="DIR", parser=named_path, help="Real clips to measure against."),
    ] = None,
    metrics: Annotated[str, typer.Option("--metrics", metavar="A,B", help="Only these measures.")] = "",
    rule: Annotated[
        str,
        typer.Option("--av-align-rule", metavar="RULE", help="tempotokens-2025, tempotokens-2023 or javisbench."),
    ] = "tempotokens-2025",
    height: Annotated[
        str, typer.Option("--analysis-height", metavar="PIXELS", help="Shorter side of analysed frames, or native.")
    ] = "128",
    fps: Annotated[
        str, typer.Option("--analysis-fps", metavar="RATE", help="Frames analysed a second, or native.")
    ] = "10",
    features: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--features", metavar="REAL FAKE", help="Compare two .npz of features made elsewhere, nothing else."
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="A B", help="Put two evaluated runs beside each other, clip by clip."),
    ] = None,
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            "--extractor", metavar="NAME[:PRESET][=WEIGHTS]", help="Also compare features of a network; repeatable."
        ),
    ] = None,
    compat: Annotated[
        str,
        typer.Option("--compat", metavar="NAME", help="Also show a publication's own numerics: mm-diffusion."),
    ] = "",
    max_bad: Annotated[
        float | None,
        typer.Option(
            "--max-bad", metavar="SHARE", min=0, max=1, help="Clips that may be unusable; 0 of samples, 0.05 of real."
        ),
    ] = None,
    cache: Annotated[
        Path, typer.Option("--cache", metavar="DIR", parser=named_path, help="Where what was found in a clip is kept.")
    ] = Path("runs/cache"),
    rows: Annotated[str, typer.Option("--rows", metavar="FORMAT", help="Clips as csv or parquet.")] = "csv",
    out: OutOption = None,
    settings: SetOption = None,
    download: DownloadOption = False,
    json: JsonOption = False,
) -> None:
    """Measure samples against real data."""
    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    options = EvalOptions(
        samples=samples,
        independent=independent,
        reference=reference,
        metrics=names,
        rule=rule,
        height=_parse_height(height),
        fps=_parse_fps(fps),
        features=features,
        compare=compare,
        extractors=tuple(extractor or ()),
        compat=compat,
        max_bad=max_bad,
        cache=cache,
        rows=_parse_rows(rows),
        out=out,
        json=json,
    )
    if recipe is None and settings:
        raise UsageError("--set changes a recipe: name one with --recipe")
    for alone, named in (("--features", features), ("--compare", compare)):
        if named:
            _refuse_idle(context, _IDLE[alone], f"{alone} stands alone")
    if recipe is not None and independent is not None:
        raise UsageError("--independent: with a recipe, independent samples are drawn from it")
    if recipe is None and download:
        raise UsageError("--download fetches the models of a recipe: name one with --recipe")
    allow_downloads(download)
    loaded = load_recipe("eval", recipe, settings) if recipe is not None else None
    from mmdisco_cli.evaluation.run import evaluate, open_protocol

    protocol = open_protocol(loaded.eval.protocol) if loaded is not None else None
    if loaded is not None and protocol is not None and not protocol.measures_clips:
        idle = _ANALYSIS if protocol.takes_samples else (*_ANALYSIS, *_CLIPS)
        _refuse_idle(context, idle, f"eval.protocol: {loaded.eval.protocol} measures no clips")
    if loaded is not None and download and samples is None:
        from mmdisco_cli.conversion.fetched import fetch_missing

        fetch_missing(loaded)
    found = evaluate(loaded, options)
    if loaded is not None and found is not None and not (options.samples or options.reference or options.metrics):
        _add_to_card(loaded, found)


def _add_to_card(recipe: "Recipe", found: "Measured") -> None:
    """Write the figures into the card of what is published beside the recipe's weights, where there is one."""
    from mmdisco_cli.evaluation.run import conclusion_lines
    from mmdisco_cli.training.release import add_figures

    lines = (*found.report.table, *conclusion_lines(found.content, found.report))
    if card := add_figures(recipe, found.content, lines):
        console.note(f"figures added to {card}")


def _refuse_idle(context: typer.Context, names: Iterable[str], why: str) -> None:
    """Raise UsageError where the command line names options that would do nothing, the default of each included."""
    spelt = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    given = [name for name in names if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if given:
        raise UsageError(f"{why}: {', '.join(spelt[name] for name in given)} would do nothing")


def _parse_height(text: str) -> int | None:
    if text == _NATIVE:
        return None
    if not text.isdecimal() or int(text) < 16:
        raise UsageError(f"--analysis-height {text}: expected at least 16 pixels, or native")
    return int(text)


def _parse_fps(text: str) -> Fraction | None:
    if text == _NATIVE:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise UsageError(f"--analysis-fps {text}: expected a rate such as 10 or 30000/1001, or native")
    return rate


def _parse_rows(text: str) -> str:
    if text not in _ROWS:
        raise UsageError(f"--rows {text}: unknown{did_you_mean(text, _ROWS)}")
    return text
