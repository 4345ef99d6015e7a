"""Read films one after another and measure each: every figure comes from written files, never from internals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from mmdisco_cli.data.media import Clip, as_fps, read_audio, read_clip, read_video
from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.measures.features import SAMPLE_RATE
from mmdisco_cli.recipes.schema import Recipe, RequestConfig
from mmdisco_cli.run import console
from mmdisco_cli.run.progress import progress

MAY_FAIL = 0.05
"""Share of real films that may be unreadable; of samples none may."""
LISTED = 10
T = TypeVar("T")


@dataclass(frozen=True)
class Film:
    """One file to measure; where a modality was given to it, that one is measured in the file that gave it."""

    path: Path
    given: str | None = None
    source: Path | None = None


@dataclass(frozen=True)
class Frame:
    """The shape in which every film is measured, whatever its own; sound is always mono at 16 kHz."""

    frames: int
    fps: Fraction
    height: int
    width: int

    @property
    def seconds(self) -> Fraction:
        """Return the length of what is measured."""
        return self.frames / self.fps


def frame_of(request: RequestConfig) -> Frame:
    """Return the shape that a recipe requests, with the defaults of the data set `clips`."""
    fps = as_fps(request.fps or 10)
    height = request.height or 64
    return Frame(request.frames or max(1, round((request.seconds or 1.6) * fps)), fps, height, request.width or height)


def require_film(recipe: Recipe) -> None:
    """Raise UsageError for a recipe whose samples are not sound and picture."""
    if sorted(recipe.modalities) != ["audio", "video"]:
        have = " and ".join(recipe.modalities) or "none"
        raise UsageError(f"backbones: {recipe.eval.protocol} measures films of audio and video, the recipe has {have}")


def measure_films(
    films: Sequence[Film], frame: Frame, measure: Callable[[Film, Clip], T], title: str, may_fail: float = 0.0
) -> list[T]:
    """Return what `measure` finds in each film; only one film is in memory at a time.

    Raises:
        DataError: a larger share than `may_fail` cannot be read; each is named. Fewer are warned of and skipped.
    """
    found, failed = [], []
    with progress(title, len(films)) as advance:
        for place, film in enumerate(films):
            try:
                with file_errors(film.path):
                    found.append(measure(film, read_film(film, frame)))
            except UNUSABLE as error:
                failed.append(str(error))
            advance(place + 1, {})
    report_failures(failed, len(films), title, may_fail)
    return found


def read_film(film: Film, frame: Frame) -> Clip:
    """Return a film's picture and sound in the shape of a `Frame`; raise DataError, naming the file, if it cannot."""
    if film.source is None:
        return read_clip(film.path, None, frame.frames, frame.fps, frame.height, frame.width, SAMPLE_RATE)
    seen, heard = (film.source if film.given == m else film.path for m in ("video", "audio"))
    video = read_video(seen, None, frame.frames, frame.fps, frame.height, frame.width)
    return Clip(video, read_audio(heard, None, frame.seconds, SAMPLE_RATE, 1), frame.fps, SAMPLE_RATE, 0.0)


def report_failures(failed: Sequence[str], total: int, title: str, may_fail: float) -> None:
    """Warn of unreadable films, or raise DataError where they are too many."""
    if not failed:
        return
    lines = list(failed[:LISTED])
    if len(failed) > LISTED:
        lines.append(f"and {len(failed) - LISTED} more")
    if len(failed) > may_fail * total:
        raise DataError("\n".join([*lines, f"{title}: {len(failed)} of {total} films cannot be read"]))
    for line in lines:
        console.warn(f"skipped: {line}")
