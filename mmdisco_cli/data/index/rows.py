"""What a layout is read into: a row for each clip and caption, and the columns that tables name them by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from mmdisco_cli.data.source import Source
from mmdisco_cli.errors import DataError, did_you_mean

TRAIN, HELDOUT = "train", "heldout"
_SIDES = {
    TRAIN: ("train", "training"),
    HELDOUT: ("test", "heldout", "val", "valid", "validation", "eval", "evaluation", "dev", "testing"),
}
SIDES = {word: side for side, words in _SIDES.items() for word in words}
"""Which of the two splits a word means."""

ALIASES = {
    "video": (
        *("video", "video_path", "media_path", "file_name", "video_file_name", "path", "video_file", "file"),
        *("filename", "file_path", "filepath", "media"),
    ),
    "audio": ("audio", "audio_path", "audio_file_name", "audio_file", "sound"),
    "caption": ("caption", "text", "prompt", "captions", "description"),
    "caption_audio": ("caption_audio", "audio_caption"),
    "caption_video": ("caption_video", "video_caption"),
    "label": ("label", "class", "category", "cls"),
    "split": ("split", "subset"),
    "start": ("start", "start_time", "start_seconds"),
    "end": ("end", "end_time", "end_seconds"),
    "duration": ("duration", "duration_seconds", "seconds"),
    "id": ("youtube_id", "ytid", "video_id", "youtube_key"),
}
"""Names of columns by what they hold, those preferred first; capital letters do not count."""
Record = Mapping[str, Any]
Fields = dict[str, Any]
"""Some fields of a row by name."""


@dataclass(frozen=True, slots=True)
class Row:
    """A clip with one set of texts.

    `name` is what it is called in reports and fingerprints, `origin` the table and line that say so, if any. `audio` is
    a medium whose sound counts in place of that of `video`; one of the two may be missing. `start` and `duration`, in
    seconds of the file, limit the clip to a part of it. `split` is train, heldout or empty, where nothing says.
    """

    name: str
    video: Source | None
    audio: Source | None = None
    caption: str = ""
    caption_audio: str = ""
    caption_video: str = ""
    label: str = ""
    split: str = ""
    start: Fraction | None = None
    duration: Fraction | None = None
    origin: str = ""

    def medium(self, modality: str) -> Source | None:
        """Return where a modality is read from."""
        return (self.audio or self.video) if modality == "audio" else (self.video or self.audio)

    def caption_of(self, modality: str) -> str:
        """Return the text for one modality, empty where there is none."""
        own = {"audio": self.caption_audio, "video": self.caption_video}
        return own.get(modality, "") or self.caption

    @property
    def texts(self) -> tuple[str, ...]:
        """Return all that the row says beside its media."""
        return self.caption, self.caption_audio, self.caption_video, self.label

    @property
    def says_more(self) -> bool:
        """Return whether there is a text that the names of a file and its folders do not say."""
        return self.captioned or bool(self.label and self.label not in self.name.split("/"))

    @property
    def captioned(self) -> bool:
        """Return whether there is a caption for any modality."""
        return bool(self.caption or self.caption_audio or self.caption_video)


@dataclass
class Index:
    """All rows of a layout, what else should have been rows as (name, reason), and remarks as (name, remark)."""

    layout: str
    rows: list[Row] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def extend(self, other: Index) -> None:
        """Take in another part of the same data set."""
        self.rows += other.rows
        self.bad += other.bad
        self.notes += other.notes


@dataclass(frozen=True)
class Columns:
    """The columns of one table: `of` gives each by what it holds."""

    of: Mapping[str, str]

    def __contains__(self, role: str) -> bool:
        """Return whether there is a column for this."""
        return role in self.of

    def text(self, record: Record, role: str) -> str:
        """Return a cell as text without space around it, empty where there is nothing."""
        return as_text(record.get(self.of[role])) if role in self.of else ""

    def captions(self, record: Record) -> list[Fields]:
        """Return the captions of a row by field: several where a cell holds a list, one empty where there is none."""
        value = record.get(self.of["caption"]) if "caption" in self.of else None
        several = value if isinstance(value, list | tuple) else [value]
        own = {role: self.text(record, role) for role in ("caption_audio", "caption_video")}
        return [{"caption": text, **own} for text in dict.fromkeys(as_text(one) for one in several or [None])]

    def seconds(self, record: Record, role: str) -> Fraction | None:
        """Return a number of seconds, None where there is none; raise DataError for what is no number."""
        text = self.text(record, role)
        try:
            return Fraction(text) if text else None
        except (ValueError, ZeroDivisionError) as error:
            raise DataError(f"{self.of[role]} is {text!r}, no number of seconds") from error


def columns_of(names: Sequence[str], chosen: Mapping[str, str], table: str) -> Columns:
    """Return which column holds what: as `chosen` by the recipe, else by what it is called.

    Raises:
        DataError: a chosen column does not exist.
    """
    known = {name.strip().lower(): name for name in reversed(names)}
    found = {}
    for role, aliases in ALIASES.items():
        if (wanted := chosen.get(role)) is not None:
            if wanted.strip().lower() not in known:
                raise DataError(f"{table}: data.{role}: no column {wanted!r}{did_you_mean(wanted, names)}")
            aliases = (wanted.strip().lower(),)
        if column := next((known[alias] for alias in aliases if alias in known), None):
            found[role] = column
    return Columns(found)


def as_text(value: Any) -> str:
    """Return a cell as text: nothing for null and for no number, bytes by UTF-8."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, list | tuple):
        return ", ".join(as_text(one) for one in value)
    return str(value).strip()


def side_of(word: str) -> str:
    """Return train or heldout for the name of a split, empty for any other word."""
    return SIDES.get(word.strip().lower(), "")


def side_of_name(name: str) -> str:
    """Return the split that a file's name begins with, as in `train-00000-of-00012.parquet` and `test.csv`."""
    return side_of(re.split(r"[-_.]", name, maxsplit=1)[0])


def side_of_path(parts: Iterable[str]) -> str:
    """Return the split that the first telling folder of a path names."""
    return next((side for part in parts if (side := side_of(part))), "")
