"""Keys of recipes and options of entries, as lines of text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmdisco_cli.recipes.reference import Key


def key_lines(keys: Sequence["Key"]) -> Iterator[str]:
    """Yield a line for each key: its name, type, default and meaning, in columns."""
    if not keys:
        yield "no options"
        return
    rows = [(key.key, key.type, "required" if key.required else key.default or "-", key.meaning) for key in keys]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    for row in rows:
        columns = (f"{text:<{width}}" for text, width in zip(row[:3], widths, strict=True))
        yield f"{''.join(columns)}{row[3]}".rstrip()
