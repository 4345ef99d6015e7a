"""Options of the built-in data sets in a recipe; torch-free, because listing plugins imports them."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class ClipsOptions:
    """A folder of video files."""

    path: str | None = option(None, "folder of video files, or of one folder each for train and test", path=True)
