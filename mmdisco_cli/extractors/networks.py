"""What networks make of sets of clips, beside what is always measured: distances of features, means of scores."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.errors import UsageError
from mmdisco_cli.extractors.compat import compatible_name, numerics
from mmdisco_cli.extractors.contract import Extractor
from mmdisco_cli.extractors.extract import Embedded, embed_sets, open_extractor
from mmdisco_cli.measures.bootstrap import estimate, finite, mean_of
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import ClipSet
from mmdisco_cli.measures.distances import Feature, distances, size_of
from mmdisco_cli.measures.names import require_known
from mmdisco_cli.measures.scoring import LEAST_HALVED, Scores
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions

ClipValues = Mapping[tuple[str, Path], Mapping[str, float]]


@dataclass(frozen=True)
class Networks:
    """Metrics by name, each of which says what it is and of which weights, and scores by (row, path) of a clip."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    values: ClipValues = field(default_factory=dict)


def open_extractors(options: EvalOptions, known: Collection[str]) -> list[Extractor]:
    """Return the extractors that --extractor names; `known` are metrics that take none.

    Raises:
        UsageError: one lacks its weights, --compat is of no use, or nothing measures one of --metrics.
        DataError, PluginError: weights cannot be used, or no plugin provides an extractor.
    """
    found = [open_extractor(text) for text in options.extractors]
    check_compat(options.compat, found)
    added = [name for one in found for name in metrics_of(one, options.compat)]
    require_known(options.metrics, [*known, *added], of_clips=not found)
    return found


def metrics_of(extractor: Extractor, compat: str = "") -> list[str]:
    """Return the names of what an extractor measures."""
    names = [score.key for score in extractor.scores]
    for one in extractor.features:
        names += [*one.names, *one.multiples]
        names += [compatible_name(one.frechet, compat)] if compat in one.compat else []
    return names


def measure_networks(
    extractors: Sequence[Extractor],
    rows: Mapping[str, ClipSet],
    against: Mapping[str, ClipSet],
    reference: ClipSet,
    options: EvalOptions,
    ranks: Ranks,
) -> Networks:
    """Return what extractors find: scores of `rows`, distances of `against` to the reference.

    Raises:
        UsageError: there is nothing to compare with.
        DataError: no clip of a row can be used.
    """
    if any(one.features for one in extractors) and not reference.clips:
        raise UsageError("--extractor: name real clips to compare with in --reference DIR")
    metrics: dict[str, Any] = {}
    values: dict[tuple[str, Path], dict[str, float]] = {}
    for extractor in extractors:
        sets = {**rows, **({**against, "reference": reference} if extractor.features else {})}
        found = embed_sets(sets, extractor, Cache(options.cache), ranks)
        if not ranks.first:
            continue
        if extractor.features:
            metrics |= _distances({row: found[row] for row in against if row in found}, found, extractor, options)
        for score in extractor.scores:
            taken = {row: one for row, one in found.items() if row in rows}
            metrics[score.key] = _scored(taken, rows, score.key, options.seed) | {"protocol": dict(score.about)}
            for row, one in taken.items():
                for path, vectors in one.clips:
                    values.setdefault((row, path), {})[score.key] = float(vectors[score.key].mean())
    named = metrics.keys() & set(options.metrics)
    return Networks({name: one for name, one in metrics.items() if name in named or not named}, values)


def with_networks(scores: Scores, found: Networks) -> Scores:
    """Return scores with what networks found beside them, of the whole and of each clip."""
    clips = [
        replace(clip, values={**clip.values, **found.values.get((clip.row, clip.path), {})}) for clip in scores.clips
    ]
    return Scores({**scores.metrics, **found.metrics}, clips)


def check_compat(name: str, extractors: Sequence[Extractor]) -> None:
    """Raise UsageError for unknown numerics, or for some that none of the extractors has."""
    if not name:
        return
    numerics(name)
    if not any(name in feature.compat for one in extractors for feature in one.features):
        raise UsageError(f"--compat {name}: goes with --extractor fvd:{name}=FILE or audioclip:{name}=FILE")


def _distances(
    rows: Mapping[str, Embedded], found: Mapping[str, Embedded], extractor: Extractor, options: EvalOptions
) -> dict[str, Any]:
    features = extractor.features
    vectors, real = {row: one.vectors for row, one in rows.items()}, found["reference"].vectors
    chosen = {name for feature in features for name in feature.names}
    table = distances(vectors, real, chosen, features, options.seed)
    if "real" not in vectors and len(found["reference"].clips) >= LEAST_HALVED:
        floor = _floor(found["reference"], chosen, features, options.seed)
        table = {name: {**floor.get(name, {}), **figures} for name, figures in table.items()}
    for one in features:
        for name in (name for name in one.names if name in table):
            table[name]["protocol"] = dict(one.about)
        for name, factor in one.multiples.items():
            multiple = {
                row: _times(table[one.frechet][row], factor) for row in ("real", *rows) if row in table[one.frechet]
            }
            table[name] = {**multiple, "protocol": {**one.about, "factor": factor}}
        if options.compat in one.compat:
            table[compatible_name(one.frechet, options.compat)] = _compatible(vectors, real, one, options.compat)
    return table


def _floor(reference: Embedded, chosen: set[str], features: Sequence[Feature], seed: int) -> dict[str, dict[str, Any]]:
    """Return how far the halves of real clips are apart, where nothing else is real: the distance that means none."""
    first, second = (Embedded(reference.clips[side::2]).vectors for side in (0, 1))
    return distances({"real": first}, second, chosen, features, seed)


def _compatible(rows: Mapping[str, Mapping[str, Tensor]], real: Mapping[str, Tensor], one: Feature, name: str) -> Any:
    reference = real[one.key]
    figures = {
        row: {"value": numerics(name)(vectors[one.key], reference) * one.compat[name], "error": None}
        | size_of(vectors[one.key], reference)
        for row, vectors in rows.items()
    }
    itself = numerics(name)(reference, reference) * one.compat[name]
    about = {**one.about, "numerics": name, "factor": one.compat[name], "of_itself": finite(itself)}
    return {**figures, "protocol": about}


def _times(figure: Mapping[str, Any], factor: float) -> dict[str, Any]:
    scaled = {name: figure[name] and figure[name] * factor for name in ("value", "low", "high", "error", "infinite")}
    return {**figure, **scaled}


def _scored(found: Mapping[str, Embedded], rows: Mapping[str, ClipSet], key: str, seed: int) -> dict[str, Any]:
    """Return the mean of each row with its interval; a clip that the network refuses is undefined."""
    figures = {}
    for row, one in found.items():
        values = [float(torch.mean(vectors[key])) for _, vectors in one.clips]
        sizes = {"n": len(values), "undefined": len(rows[row].clips) - len(values)}
        figures[row] = estimate(mean_of(values), seed).as_json() | sizes
    return figures
