"""Checks of an extractor: vectors of one width and numbers that depend on the clip only, under a fixed name."""

import json
import math

import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.extractors.contract import Audio, AudioVideo, Extractor, Frames
from mmdisco_cli.measures.distances import SCALES
from mmdisco_cli.testing.expecting import expect, expect_close, unchanged, undrawn

USUAL_FPS = 10
STEP, LONGEST = 0.1, 60.0
"""Seconds by which it is found how long the shortest clip has to be."""
Clip = tuple[Tensor, ...]


def check_description(extractor: Extractor, again: Extractor) -> None:
    """Expect a name that stays, keys that differ, scales that exist, and remarks that a report can hold."""
    expect(isinstance(extractor, Extractor), f"build gives {type(extractor).__name__}, not an Extractor")
    expect(bool(extractor.name), "the name is empty")
    expect(extractor.name == again.name, "the name, under which results are kept, is another where it is built again")
    keys = keys_of(extractor)
    expect(bool(keys), "it has neither features nor scores")
    expect(len(set(keys)) == len(keys), f"two features or scores have one key: {', '.join(keys)}")
    for feature in extractor.features:
        expect(feature.scale in SCALES, f"{feature.key}: unknown scale {feature.scale!r}")
    described = [*(one.about for one in extractor.features), *(one.about for one in extractor.scores)]
    for about in (extractor.about, *described):
        try:
            json.dumps(dict(about))
        except (TypeError, ValueError) as error:
            raise AssertionError(f"about cannot be written as JSON ({error})") from error


def keys_of(extractor: Extractor) -> list[str]:
    """Return the keys of all that it finds."""
    return [*(feature.key for feature in extractor.features), *(score.key for score in extractor.scores)]


def clips_for(extractor: Extractor, seconds: float) -> list[Clip]:
    """Return two clips of noise, one as short as it takes and one `seconds` longer, as it wants them."""
    least = _least(extractor.wants)
    return [_clip(extractor.wants, length, seed) for seed, length in enumerate((least, least + seconds))]


def check_embedding(extractor: Extractor, other: Extractor, clips: list[Clip], tolerance: float) -> None:
    """Expect vectors of one width that depend on their clip only."""
    first = [found_in(extractor, clip) for clip in clips]
    for feature in extractor.features:
        widths = [found[feature.key].shape[1] for found in first]
        expect(len(set(widths)) == 1, f"{feature.key}: vectors have {' and '.join(map(str, widths))} dimensions")
    for k, clip in enumerate(clips):
        again = undrawn(lambda clip=clip: found_in(extractor, clip))  # type: ignore[misc]
        expect_same(again, first[k], tolerance, "a clip is embedded otherwise after another")
    otherwise = "a clip is embedded otherwise where the extractor is built again"
    for k in reversed(range(len(clips))):
        expect_same(found_in(other, clips[k]), first[k], tolerance, otherwise)


def expect_same(found: State, expected: State, tolerance: float, otherwise: str) -> None:
    """Expect vectors of the same number and close to one another."""
    for key, value in expected.items():
        expect(found[key].shape == value.shape, f"{key}: {otherwise} (other shapes)")
    expect_close(found, expected, tolerance, otherwise)


def found_in(extractor: Extractor, clip: Clip) -> State:
    """Return what an extractor finds in a clip, and expect its form."""
    named = {f"media {k}": tensor for k, tensor in enumerate(clip)}
    found = unchanged(lambda: dict(extractor.embed(*clip)), named)
    keys = keys_of(extractor)
    expect(set(found) == set(keys), f"embed gives {sorted(found)}, not {sorted(keys)}")
    vectors = {feature.key for feature in extractor.features}
    for key, value in found.items():
        axes = 2 if key in vectors else 1
        form = "(K, D)" if axes == 2 else "(K,)"
        expect(isinstance(value, Tensor), f"{key}: {type(value).__name__}, not a tensor")
        right = value.ndim == axes and all(size > 0 for size in value.shape)
        expect(right, f"{key}: embed gives {tuple(value.shape)}, not {form}")
        expect(value.is_floating_point(), f"{key}: embed gives {value.dtype}, not floats")
        expect(bool(value.isfinite().all()), f"{key}: embed gives values that are not finite")
        expect(not value.requires_grad, f"{key}: embed builds a graph: run it under torch.no_grad()")
    return {key: value.cpu() for key, value in found.items()}


def _least(wants: Frames | Audio | AudioVideo) -> float:
    """Return the seconds of the shortest clip that is taken."""
    if isinstance(wants, AudioVideo):
        return max(_least(wants.frames), _least(wants.audio))
    if isinstance(wants, Audio):
        return wants.least or 1.0
    seconds = wants.least / float(wants.fps or USUAL_FPS)
    while wants.moments is not None and len(wants.moments(seconds)) < wants.least:
        seconds += STEP
        expect(seconds < LONGEST, f"moments gives fewer than {wants.least} even for {seconds:.0f} s")
    return seconds


def _clip(wants: Frames | Audio | AudioVideo, seconds: float, seed: int) -> Clip:
    if isinstance(wants, AudioVideo):
        return _clip(wants.frames, seconds, seed) + _clip(wants.audio, seconds, seed)
    if isinstance(wants, Audio):
        draw = torch.Generator().manual_seed(seed)
        return (0.1 * torch.randn(math.ceil(seconds * wants.rate), generator=draw),)
    rng, frames = np.random.default_rng(seed), []
    for _ in range(_count(wants, seconds)):
        frame = rng.integers(0, 256, (96, 128, 3), np.uint8)
        kept = frame.copy()
        frames.append(wants.each(frame))
        expect(np.array_equal(kept, frame), "each writes to the frame that it is given")
    return (torch.stack(frames),)


def _count(wants: Frames, seconds: float) -> int:
    if wants.moments is not None:
        found = wants.moments(seconds)
        expect(all(0 <= at <= seconds for at in found), f"moments gives some outside of {seconds:g} s: {list(found)}")
        return len(found)
    count = max(wants.least, math.floor(seconds * float(wants.fps or USUAL_FPS) + 1e-6))
    return count if wants.most is None else min(count, wants.most)
