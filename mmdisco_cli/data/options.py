"""What a recipe may say of the built-in data sets; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class ClipsOptions:
    """A folder of anyone's video files."""

    path: str | None = option(None, "folder of video files, or of one folder each for train and test", path=True)
