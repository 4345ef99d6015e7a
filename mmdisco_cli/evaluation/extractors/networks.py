"""Distances in the features of networks, beside those that are always measured."""

from collections.abc import Mapping
from typing import Any

from mmdisco_cli.commands.options import EvalOptions
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.cache import Cache
from mmdisco_cli.evaluation.clip_sets import ClipSet
from mmdisco_cli.evaluation.distances import distances
from mmdisco_cli.evaluation.extractors.extract import embed_sets, open_extractor
from mmdisco_cli.training.distribution import Ranks


def network_distances(
    rows: Mapping[str, ClipSet], reference: ClipSet, options: EvalOptions, ranks: Ranks
) -> dict[str, Any]:
    """Return what every extractor that was asked for finds, by metric; each says what it is and of which weights.

    Raises:
        UsageError: there is nothing to compare with, or an extractor lacks its weights.
        DataError, PluginError: weights or clips cannot be used, or nobody provides an extractor.
    """
    if not options.extractors:
        return {}
    if not reference.clips:
        raise UsageError("--extractor: name real clips to compare with in --reference DIR")
    found: dict[str, Any] = {}
    for extractor in [open_extractor(text) for text in options.extractors]:
        vectors = embed_sets({**rows, "reference": reference}, extractor, Cache(options.cache), ranks)
        real = vectors.pop("reference")
        chosen = {name for feature in extractor.features for name in (feature.kernel, feature.frechet) if name}
        if ranks.first:
            table = distances(vectors, real, chosen, extractor.features, options.seed)
            abouts = {name: dict(one.about) for one in extractor.features for name in (one.kernel, one.frechet)}
            found |= {name: {**figures, "protocol": abouts[name]} for name, figures in table.items()}
    return found
