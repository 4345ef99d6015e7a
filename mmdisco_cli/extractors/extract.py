"""Embed sets of clips with an extractor, by all ranks together, each clip once and kept by the hash of its bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from mmdisco_cli.data.media import MediaInfo, Span, probe, read_whole_audio, shown_at, walk_frames
from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.extractors.contract import Audio, AudioVideo, BuildExtractor, Extractor, Frames
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip import MeasuredClip
from mmdisco_cli.measures.clip_sets import ClipSet, report_unusable
from mmdisco_cli.measures.frame_choice import sampled
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.progress import progress

PAIRED = ("guided", "independent")
KIND = "extractor"
VERSION = 3
"""To be raised with every change of how clips are fed to networks: it names what is cached."""
ROUNDING = 1e-3
"""Seconds that time stamps may lose."""
Vectors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Embedded:
    """The clips of a row that an extractor could take, with what it found in each."""

    clips: Sequence[tuple[Path, Vectors]]

    @cached_property
    def vectors(self) -> Vectors:
        """Return the vectors of all clips one below the other, (K, D), by key."""
        return {key: torch.cat([one[key] for _, one in self.clips]) for key in self.clips[0][1]}


def open_extractor(text: str) -> Extractor:
    """Build what `--extractor NAME[:PRESET][=WEIGHTS]` names.

    Raises:
        PluginError: no plugin provides it.
        UsageError, DataError: as its factory does.
    """
    head, _, weights = text.partition("=")
    name, _, preset = head.partition(":")
    if not name:
        raise UsageError(f"--extractor {text}: expected NAME[:PRESET][=WEIGHTS], as in fvd:mm-diffusion=i3d.pt")
    build: BuildExtractor = load_registry().find(KIND, name).factory()
    return build(ExtractorOptions(preset, weights or None))


def embed_sets(sets: Mapping[str, ClipSet], extractor: Extractor, cache: Cache, ranks: Ranks) -> dict[str, Embedded]:
    """Return what is found by row; a clip that is too short is left out and named.

    Raises:
        DataError: a row has no clip that the extractor takes.
    """
    return {row: _embed_row(row, found, extractor, cache, ranks) for row, found in sets.items() if found.clips}


def _embed_row(row: str, found: ClipSet, extractor: Extractor, cache: Cache, ranks: Ranks) -> Embedded:
    clips = sorted(found.clips, key=lambda one: one.name) if row in PAIRED else found.clips
    own = range(ranks.rank, len(clips), ranks.world)
    outcome: dict[int, Vectors | str] = {}
    with progress(f"{extractor.name} of {row}", len(own), enabled=ranks.first) as advance:
        for index in own:
            try:
                outcome[index] = _embed(clips[index], extractor, cache)
            except UNUSABLE as error:
                outcome[index] = str(error).removeprefix(f"{clips[index].path}: ")
            advance(len(outcome), {})
    parts = [outcome]
    if ranks.world > 1:
        parts = [{} for _ in range(ranks.world)]
        dist.all_gather_object(parts, outcome)
    whole = {index: one for part in parts for index, one in part.items()}
    refused = [(clips[index].path, one) for index, one in sorted(whole.items()) if isinstance(one, str)]
    if len(refused) == len(clips):
        path, reason = refused[0]
        raise DataError(f"{row}: {extractor.name} takes none of {len(clips)} clips: {path}: {reason}")
    report_unusable(refused, len(clips), row, 1.0, loud=ranks.first)
    return Embedded([(clips[k].path, one) for k in range(len(clips)) if not isinstance(one := whole[k], str)])


def _embed(clip: MeasuredClip, extractor: Extractor, cache: Cache) -> Vectors:
    name = f"{VERSION}-{extractor.name}"
    kept = cache.get(clip.digest, name)
    if kept is not None:
        return {key: torch.from_numpy(array) for key, array in kept.items()}
    # One clip at a time: the result depends on nothing but the clip.
    with file_errors(clip.path):
        found = {key: vectors.cpu() for key, vectors in extractor.embed(*media_of(clip.path, extractor.wants)).items()}
    cache.put(clip.digest, name, {key: vectors.numpy() for key, vectors in found.items()})
    return found


def media_of(path: Path, wants: Frames | Audio | AudioVideo) -> tuple[Tensor, ...]:
    """Return the frames (T, ...) or the audio (S,) that an extractor wants, or both.

    Raises:
        DataError: the file cannot be decoded, or holds too little.
    """
    info = probe(path)
    if isinstance(wants, Audio):
        return (_audio(info, info.span(("audio",)), wants),)
    if isinstance(wants, Frames):
        return (_frames(info, info.span(("video",)), wants),)
    span = info.span()
    audio = _audio(info, span, wants.audio)
    return _frames(info, span, wants.frames), audio


def _audio(info: MediaInfo, span: Span, wants: Audio) -> Tensor:
    seconds = float(span.stop - span.start)
    if seconds < wants.least - ROUNDING:
        raise DataError(f"{info.path}: {seconds:.2f} s of audio, the extractor takes {wants.least:.2f} s")
    audio, rate = read_whole_audio(info, left=wants.left)
    first = round((span.start - info.span(("audio",)).start) * rate)
    return resample(audio[None, first : first + round((span.stop - span.start) * rate)], rate, wants.rate)[0]


def _frames(info: MediaInfo, span: Span, wants: Frames) -> Tensor:
    if wants.moments is not None:
        return _shown_at(info, span, wants, wants.moments(float(span.stop - span.start)))
    found = [wants.each(one) for _, one in islice(sampled(walk_frames(info), span, wants.fps, []), wants.most)]
    if len(found) < wants.least:
        length = f" at {float(wants.fps):g} a second" if wants.fps else ""
        raise DataError(f"{info.path}: {len(found)} frames{length}, the extractor takes {wants.least}")
    return torch.stack(found)


def _shown_at(info: MediaInfo, span: Span, wants: Frames, moments: Sequence[float]) -> Tensor:
    order = sorted(set(moments))
    frames = shown_at(info, walk_frames(info), [span.start + Fraction(time) for time in order])
    kept = dict(zip(order, map(wants.each, frames), strict=True))
    return torch.stack([kept[time] for time in moments])
