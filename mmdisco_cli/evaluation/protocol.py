"""What `eval.protocol` names: the contract of a protocol, and the report that it gives.

A plugin provides one by the hook `mmdisco_protocols`; its factory takes nothing and gives a `Protocol`:

    def build() -> Protocol:
        return Protocol(metrics=("loudness",), evaluate=evaluate)

    def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
        if not ranks.first:
            return None
        models = open_models(recipe)
        sounds = models.decode(draw_samples(recipe, models))["audio"]
        loudness = float(sounds.square().mean().sqrt())
        return Report(recipe.eval.n, {"loudness": loudness}, {"seed": options.seed}, [f"loudness {loudness:.3f}"])

`mmdisco_cli.evaluation.models` has what most of them take: a recipe's models, its clips, and samples. `recipe.eval` has
`n` and `seed`, `recipe.sample` how to sample. Raise a UsageError or DataError of
`mmdisco_cli.errors` for what users can correct.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmdisco_cli.measures.scoring import ScoredClip
from mmdisco_cli.page.marking import Marking
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions

__all__ = ["METRICS_FILE", "BuildProtocol", "EvalOptions", "Protocol", "Ranks", "Recipe", "Report", "Sample"]

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Sample:
    """A sample of any modalities that report.html shows, beside those of the same name in other rows.

    `files` lie anywhere; `kinds` are their kinds, as in a line of the manifest. `values` are figures by name, by which
    the page sorts; `prompt` is the text that it was made of.
    """

    row: str
    name: str
    files: Mapping[str, Path]
    kinds: Mapping[str, str]
    values: Mapping[str, float | None] = field(default_factory=dict)
    prompt: str = ""


@dataclass(frozen=True)
class Report:
    """What was measured: n samples a row, metrics by name, and how they were measured.

    `metrics` and `protocol` hold what JSON can hold (None in place of NaN), and `protocol` at least the "seed"; `table`
    is the lines of a readable table, `files` are further files that were written, `clips` and `samples` those that
    report.html shows. `prompts` is the text that a clip was made of, `beside` the real clip that has a sample's text.
    """

    n: int
    metrics: Mapping[str, Any]
    protocol: Mapping[str, Any]
    table: Sequence[str]
    files: Sequence[Path] = ()
    clips: Sequence[ScoredClip] = ()
    samples: Sequence[Sample] = ()
    prompts: Mapping[Path, str] = field(default_factory=dict)
    beside: Mapping[Path, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """One way to measure what a recipe's models make.

    `metrics` are all that it can measure, of which `--metrics` chooses. `evaluate` measures those that
    `options.metrics` names, all where it names none, and may write plots into `options.out`, a folder that exists; it
    prints nothing to stdout. `options.seed` is that of the recipe. All ranks call it; the first returns the report, the
    others None. It raises UsageError for a recipe that it cannot measure and DataError for samples that it cannot use.

    `measures_clips` says that samples are videos with audio, in rows that may be called real, independent and guided:
    the options of analysis, --extractor and --max-bad then apply. `takes_samples` says that --samples and --reference
    do. `marking` is what the gallery of a recipe's clips marks in place of motion and onsets.
    """

    metrics: tuple[str, ...]
    evaluate: Callable[[Recipe, EvalOptions, Ranks], Report | None]
    measures_clips: bool = False
    takes_samples: bool = True
    marking: Callable[[Recipe], Marking] | None = None


class BuildProtocol(typing.Protocol):
    """What the factory of a `ProtocolSpec` returns."""

    def __call__(self) -> Protocol:
        """Return the protocol."""
