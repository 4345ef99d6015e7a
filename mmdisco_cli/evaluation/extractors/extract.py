"""Embed sets of clips with an extractor, by all ranks together, each clip once and kept by the hash of its bytes."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from mmdisco_cli import console
from mmdisco_cli.data.media import probe, read_whole_sound, walk_pictures
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.evaluation.cache import Cache
from mmdisco_cli.evaluation.clip_sets import ClipSet, Seen
from mmdisco_cli.evaluation.extractors.contract import Extractor, Pictures, Sound
from mmdisco_cli.evaluation.extractors.options import ExtractorOptions
from mmdisco_cli.evaluation.watching import sampled
from mmdisco_cli.plugins import load_registry
from mmdisco_cli.progress import progress
from mmdisco_cli.training.distribution import Ranks

PAIRED = ("guided", "independent")
KIND = "extractor"
Vectors = dict[str, Tensor]


def open_extractor(text: str) -> Extractor:
    """Build what `--extractor NAME[:PRESET][=WEIGHTS]` names.

    Raises:
        PluginError: nobody provides it.
        UsageError, DataError: as its factory does.
    """
    head, _, weights = text.partition("=")
    name, _, preset = head.partition(":")
    if not name:
        raise UsageError(f"--extractor {text}: expected NAME[:PRESET][=WEIGHTS], as in fvd:mm-diffusion=i3d.pt")
    build = load_registry().find(KIND, name).factory()
    extractor: Extractor = build(ExtractorOptions(preset, weights or None))
    return extractor


def embed_sets(sets: Mapping[str, ClipSet], extractor: Extractor, cache: Cache, ranks: Ranks) -> dict[str, Vectors]:
    """Return vectors (K, D) by row and feature; a clip that is too short is left out and named."""
    return {row: _embed_row(row, found, extractor, cache, ranks) for row, found in sets.items() if found.clips}


def _embed_row(row: str, found: ClipSet, extractor: Extractor, cache: Cache, ranks: Ranks) -> Vectors:
    clips = sorted(found.clips, key=lambda one: one.path.name) if row in PAIRED else found.clips
    own = range(ranks.rank, len(clips), ranks.world)
    vectors: dict[int, Vectors] = {}
    with progress(f"{extractor.name} of {row}", len(own), enabled=ranks.first) as advance:
        for index in own:
            try:
                vectors[index] = _embed(clips[index], extractor, cache)
            except DataError as error:
                console.warn(f"skipped: {error}")
            advance(len(vectors), {})
    parts = [vectors]
    if ranks.world > 1:
        parts = [{} for _ in range(ranks.world)]
        dist.all_gather_object(parts, vectors)
    whole = {index: one for part in parts for index, one in part.items()}
    if not whole:
        raise DataError(f"{row}: no clip can be embedded by {extractor.name}")
    ordered = [whole[index] for index in sorted(whole)]
    return {feature.key: torch.cat([one[feature.key] for one in ordered]) for feature in extractor.features}


def _embed(clip: Seen, extractor: Extractor, cache: Cache) -> Vectors:
    kept = cache.get(clip.watched.digest, extractor.name)
    if kept is not None:
        return {key: torch.from_numpy(array) for key, array in kept.items()}
    # One clip at a time: the result hangs on nothing but the clip.
    found = {key: vectors.cpu() for key, vectors in extractor.embed(media_of(clip.path, extractor.wants)).items()}
    cache.put(clip.watched.digest, extractor.name, {key: vectors.numpy() for key, vectors in found.items()})
    return found


def media_of(path: Path, wants: Pictures | Sound) -> Tensor:
    """Return the pictures (T, ...) or the sound (S,) that an extractor wants; raise DataError for too little."""
    info = probe(path)
    if isinstance(wants, Sound):
        sound, rate = read_whole_sound(info)
        if len(sound) < wants.least * rate:
            raise DataError(f"{path}: {len(sound) / rate:.2f} s of sound, the extractor takes {wants.least:.2f} s")
        return resample(sound[None], rate, wants.rate)[0]
    span = info.span(("video",))
    pictures = []
    for _, picture in sampled(walk_pictures(info), span, wants.fps, []):
        pictures.append(wants.each(picture))
        if len(pictures) == wants.most:
            break
    if len(pictures) < wants.least:
        raise DataError(f"{path}: {len(pictures)} pictures, the extractor takes {wants.least}")
    return torch.stack(pictures)
