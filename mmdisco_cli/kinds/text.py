"""Texts as .txt in UTF-8, a line break at the end; which string media say, their backbone knows."""

from html import escape
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.naming import file_errors
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.thumbnails import text_thumbnail

LONGEST = 1 << 20
"""Characters of a file that are read."""
SHOWN = 2000
"""Characters of a text that a page shows."""


class TextKind:
    """Strings."""

    def write(self, path: Path, media: Media, item: Item) -> None:
        """Write a text and a line break."""
        if not isinstance(media, str):
            raise DataError("text to write must be a string, not a tensor")
        path.write_text(media + "\n", encoding="utf-8", newline="\n")

    def read(self, path: Path, item: Item) -> str:
        """Return all of a file, without the line break at its end."""
        return read_text(path).removesuffix("\n")

    def card(self, path: Path, source: str) -> str:
        """Return the text."""
        text = read_text(path).removesuffix("\n")
        shown = text if len(text) <= SHOWN else text[:SHOWN] + " ..."
        return f'<blockquote class="text">{escape(shown)}</blockquote>'

    def thumbnail(self, path: Path, width: int) -> Tensor:
        """Return the text, uint8 (3, H, width)."""
        return text_thumbnail(read_text(path).removesuffix("\n"), width)


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark; raise DataError where it is none."""
    try:
        with file_errors(path), path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
    except DataError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise DataError(f"{path}: not text in UTF-8") from error
        raise
    if len(text) > LONGEST:
        raise DataError(f"{path}: longer than {LONGEST} characters")
    return text


def build() -> TextKind:
    """Return the kind."""
    return TextKind()
