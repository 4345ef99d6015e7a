"""Options of the built-in data sets in a recipe; torch-free, because listing plugins imports them."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmdisco_cli.schema import option

FORMATS = ("folder", "metadata", "table", "vggsound", "ids", "webdataset", "parquet")
COLUMNS = ("video", "audio", "caption", "caption_audio", "caption_video", "label", "split")
_UNNAMED = "by default what its name says"


@dataclass(frozen=True)
class ClipsOptions:
    """A user's clips: a folder of video files, a table of them, WebDataset tars or Parquet; which, is detected."""

    path: str | None = option(
        None, "folder, table (csv, json, jsonl, parquet) or tars and Parquet by braces: x-{000..146}.tar", path=True
    )
    format: str | None = option(None, "the layout, where it is not detected", choices=FORMATS, identity="never")
    media: str | None = option(
        None, "folder that a table's media lie below; by default the table's", path=True, identity="never"
    )
    video: str | None = option(None, f"column of video files; {_UNNAMED}", identity="used")
    audio: str | None = option(None, "column of files whose audio counts in place of the video's", identity="used")
    caption: str | None = option(None, f"column of captions; {_UNNAMED}", identity="used")
    caption_audio: str | None = option(None, "column of captions of the audio alone", identity="used")
    caption_video: str | None = option(None, "column of captions of the video alone", identity="used")
    label: str | None = option(None, f"column of classes; {_UNNAMED}", identity="used")
    split: str | None = option(None, f"column of train and test; {_UNNAMED}", identity="used")
    stride: float | None = option(
        None, "seconds between the starts of a clip's windows; end to end by default", minimum=1e-3, identity="used"
    )
    windows: int | None = option(
        None, "maximum number of windows of a clip, evenly spread; by default all", minimum=1, identity="used"
    )
    max_bad: float = option(
        0.05, "share of missing or broken rows above which a run is refused", minimum=0, maximum=1, identity="never"
    )
    check: int = option(
        256, "rows up to which all are decoded once, at first, to find broken ones", minimum=0, identity="never"
    )
    workers: int | None = option(
        None, "processes that read media; by default as many as cores", minimum=1, identity="never"
    )
    cache: str | None = option(
        None, "folder that keeps facts about files; by default ~/.cache/mmdisco", path=True, identity="never"
    )

    @property
    def columns(self) -> Mapping[str, str]:
        """Return the columns that are named, by what they hold."""
        return {role: name for role in COLUMNS if (name := getattr(self, role)) is not None}
