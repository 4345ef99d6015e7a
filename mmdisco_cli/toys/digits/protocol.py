"""Protocol `digits`: whether the modalities of a sample show one digit, each is made as often, and marginals are real.

Every figure is read from written files by independent judges; real pairs are written through the same path, and what
the judges make of them is the ceiling.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.assembly import assemble
from mmdisco_cli.devices import choose_device
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.discriminator import measure_discriminator
from mmdisco_cli.evaluation.protocol import Protocol, Report, Sample
from mmdisco_cli.evaluation.samples import draw_clips, draw_given, how_sampled, warn_of_found
from mmdisco_cli.evaluation.tables import align, tabulate, write_lines
from mmdisco_cli.evaluation.verdict.conclusion import difference_of
from mmdisco_cli.kinds.known import OpenKind, open_kinds
from mmdisco_cli.measures.bootstrap import INTERVAL
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.toys.digits.agreement import (
    ALL,
    COMPARED,
    DIGITS,
    agreeing,
    agreement,
    digit_shares,
    feature_of,
    given_agreement,
    names_of,
    quality,
)
from mmdisco_cli.toys.digits.judges import Judges, load_judges
from mmdisco_cli.toys.digits.plot import plot_confusion
from mmdisco_cli.toys.digits.reading import Files, Judged, judge_files, judged_kinds, noises_of, sample_files
from mmdisco_cli.toys.digits.real import RealDigits, open_real, true_digits, write_real

PAIRS = (ALL, "agreement_audio_image", "agreement_audio_word", "agreement_image_word", "agreement_image_audio",
         "agreement_word_audio", "agreement_word_image")  # fmt: skip
DISTANCES = (*feature_of("audio").names, *feature_of("image").names)
GIVEN = ("given_audio", "given_image", "given_word")
OF_DISCRIMINATOR = ("parameters", "sampling_cost")
METRICS = (*PAIRS, "digit_share", *DISTANCES, *GIVEN, *OF_DISCRIMINATOR)


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Judge real, independent and guided samples, and those with a modality given; ranks but the first only help.

    Raises:
        UsageError: the recipe's data or modalities are not those of digits, or existing samples have other settings.
        DataError: real digits, samples or judges cannot be read.
        PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    real = open_real(recipe, options.reference)
    kinds = kinds_of(recipe)
    chosen = _chosen(recipe, options)
    names = {m: kind.name for m, kind in kinds.items()}
    folder, n, modalities = options.out or Path(), recipe.eval.n, recipe.modalities
    guided = sample_files(options.samples, names, n) if options.samples else None
    n = len(guided) if guided else n
    files: dict[str, Sequence[Files]] = {"real": write_real(real, folder / "real", kinds, n) if ranks.first else ()}
    if not ranks.first:
        return None
    files["independent"] = _drawn(recipe, names, n, independent=True)
    files["guided"] = guided or _drawn(recipe, names, n, independent=False)
    folders = {row: next(iter(files[row][0].values())).parent for row in ("independent", "guided")}
    warn_of_found(recipe, options, n, folders["independent"])
    judges, accuracy = load_judges()
    rows = {row: judge_files(judges, found, names) for row, found in files.items()}
    metrics = _metrics(recipe, rows, real, judges, chosen)
    if ALL in metrics:
        metrics[ALL]["difference"] = _difference(rows, folders, recipe)
    given = [m for m in modalities if f"given_{m}" in chosen]
    held = {m: _held(recipe, m, files["real"], folder, judges, names) for m in given}
    metrics |= {f"given_{m}": given_agreement(held[m], true_digits(real, n), m, recipe.eval.seed) for m in given}
    own, lines = measure_discriminator(recipe, [name for name in OF_DISCRIMINATOR if name in chosen], ())
    written = [
        write_lines(folder / "per_sample.jsonl", [line for row in (rows, held) for line in _lines(row)]),
        plot_confusion(folder / "confusion.png", rows),
    ]
    table = [*tables(metrics, modalities), "", ceiling(accuracy), *lines]
    shown = [
        sample
        for row, judged in (rows | {f"given {m}": held[m] for m in held}).items()
        for sample in _shown(row, judged)
    ]
    return Report(n, metrics | own, how(recipe, options, accuracy), table, written, samples=shown)


def kinds_of(recipe: Recipe) -> dict[str, OpenKind]:
    """Return the kind of each modality; raise UsageError where one cannot be judged."""
    kinds = assemble(recipe, choose_device(), with_discriminator=False).kinds
    if odd := [f"{m} is of kind {kind}" for m, kind in kinds.items() if kind not in judged_kinds()]:
        raise UsageError(f"backbones: the protocol digits judges {', '.join(judged_kinds())}, but {odd[0]}")
    opened = open_kinds(kinds.values())
    return {m: opened[kind] for m, kind in kinds.items()}


def _chosen(recipe: Recipe, options: EvalOptions) -> frozenset[str]:
    if options.metrics:
        return frozenset(options.metrics)
    return frozenset(METRICS) - (frozenset() if recipe.eval.given else frozenset(GIVEN))


def _drawn(recipe: Recipe, kinds: Mapping[str, str], n: int, *, independent: bool) -> list[Files]:
    paths = draw_clips(recipe, n, independent=independent)
    return sample_files(paths[0].parent, kinds, n)


def _difference(rows: Mapping[str, Judged], folders: Mapping[str, Path], recipe: Recipe) -> dict[str, Any]:
    """Return how much more often guided samples agree than independent ones of the same noise."""
    found = {
        row: dict(zip(noises_of(folder, len(rows[row])), agreeing(rows[row], recipe.modalities).tolist(), strict=True))
        for row, folder in folders.items()
    }
    both = [noise for noise in found["guided"] if noise in found["independent"]]
    pairs = [(float(found["independent"][noise]), float(found["guided"][noise])) for noise in both]
    return difference_of(pairs, recipe.eval.seed)


def _held(
    recipe: Recipe, modality: str, real: Sequence[Files], folder: Path, judges: Judges, kinds: Mapping[str, str]
) -> Judged:
    """Return samples with one modality held at that of each real pair."""
    out = folder / f"given-{modality}"
    draw_given(recipe, modality, [files[modality] for files in real], out)
    return judge_files(judges, sample_files(out, kinds, len(real)), kinds)


def _metrics(
    recipe: Recipe, rows: Mapping[str, Judged], real: RealDigits, judges: Judges, chosen: frozenset[str]
) -> dict[str, Any]:
    figures = agreement(rows, recipe.modalities, recipe.eval.seed)
    figures = {name: found for name, found in figures.items() if name in chosen}
    if "digit_share" in chosen:
        figures["digit_share"] = digit_shares(rows, recipe.eval.seed)
    if not chosen.isdisjoint(DISTANCES):
        figures |= quality(rows, real.features(judges), chosen, recipe.eval.seed)
    return figures


def tables(metrics: Mapping[str, Any], modalities: Sequence[str]) -> list[str]:
    """Return all figures as lines: the rows beside one another, the digits, and what is given."""
    names = (*names_of(modalities), *DISTANCES)
    lines = tabulate(metrics, [name for name in names if name in metrics], COMPARED, ("gap_closed", "ratio"))
    if found := metrics.get("digit_share"):
        head = ["share of digit", *map(str, range(DIGITS))]
        body = [
            [f"{m}, {row}", *(f"{share[str(d)]['value']:.3f}" for d in range(DIGITS))]
            for m in found
            for row, share in found[m].items()
        ]
        lines += ["", *align([head, *body])]
    given = {m: metrics[f"given_{m}"] for m in modalities if f"given_{m}" in metrics}
    columns = [*modalities, "all"]
    return [
        *lines,
        *(
            ["", *tabulate({f"given_{m}": row for m, row in given.items()}, [f"given_{m}" for m in given], columns)]
            if given
            else []
        ),
    ]


def ceiling(accuracy: Mapping[str, Any]) -> str:
    """Return what the judges make of held-out real digits, in a line."""
    found = ", ".join(f"{kind} {100 * value:.1f} %" for kind, value in accuracy.items())
    return f"the judges name held-out real digits rightly: {found}"


def how(recipe: Recipe, options: EvalOptions, accuracy: Mapping[str, Any]) -> dict[str, Any]:
    """Return how everything was measured."""
    return {
        "seed": recipe.eval.seed,
        "judges": dict(accuracy),
        "interval": INTERVAL,
        "kernel": "(x.y/D + 1)^3 of the judges' features, unbiased, error by jackknife; scaled by the reference",
        **how_sampled(recipe, options),
    }


def _shown(row: str, judged: Judged) -> list[Sample]:
    """Return samples for the page; those that disagree come first where it sorts by agreement."""
    agree = agreeing(judged, tuple(judged.verdicts)).double().tolist()
    return [Sample(row, str(k), files, judged.kinds, {"agreement": agree[k]}) for k, files in enumerate(judged.files)]


def _lines(rows: Mapping[str, Judged]) -> list[dict[str, Any]]:
    return [
        {
            "row": row,
            **{m: str(path) for m, path in files.items()},
            "digits": {m: int(v.digits[k]) for m, v in judged.verdicts.items()},
        }
        for row, judged in rows.items()
        for k, files in enumerate(judged.files)
    ]
