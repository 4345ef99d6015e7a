"""Samples on one sheet, a .png: each with its number and prompt above what is in its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmdisco_cli.diffusion.backbone import VIDEO
from mmdisco_cli.errors import DataError, DeviceError, PluginError
from mmdisco_cli.kinds.known import OpenKind, open_kinds
from mmdisco_cli.kinds.thumbnails import FAINT, GROUND, clip_thumbnail, on_ground, text_thumbnail
from mmdisco_cli.page.marking import MARKING, Marked, Marking, mark
from mmdisco_cli.run.files import replacing

MOST = 64
"""Samples on a sheet."""
LAYOUTS = ((4, 1, 940), (16, 2, 560), (MOST, 4, 460))
"""Up to how many samples stand in how many columns, of how many pixels."""
GAP, EDGE = 14, 10
Row = Mapping[str, Any]


def write_sheet(folder: Path, rows: Sequence[Row], target: Path, marking: Marking = MARKING) -> Path:
    """Draw the first 64 samples of some lines of a folder's manifest, and return the file.

    `marking` is what is marked of clips. A file that cannot be read is named with what is wrong with it.

    Raises:
        DataError: there are no samples, or the sheet cannot be written.
    """
    if not rows:
        raise DataError(f"{folder}: holds no samples to draw")
    shown = rows[:MOST]
    columns, width = next((columns, width) for most, columns, width in LAYOUTS if len(shown) <= most)
    kinds = open_kinds(kind for row in shown for kind in row["kinds"].values())
    clips = [folder / name for row in shown for m, name in row["files"].items() if row["kinds"][m] == VIDEO]
    marked = mark({"": clips}, marking)
    sheet = _arranged([_cell(folder, row, kinds, marked, width) for row in shown], min(columns, len(shown)))
    with replacing(target, suffix=".png") as part:
        Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy()).save(part, format="png", optimize=True)
    return target


def _cell(folder: Path, row: Row, kinds: Mapping[str, OpenKind], marked: Marked, width: int) -> Tensor:
    """Draw one sample: a line of words, and its files side by side."""
    words = f"{row['index']}   {' '.join(str(row.get('prompt') or '').split())}"
    files = {name: label for label, name in reversed(row["files"].items())}  # the first label of each file
    each = (width - GAP * (len(files) - 1)) // len(files)
    drawn = [_drawn(folder / name, kinds[row["kinds"][_main(row, name)]], marked, each) for name in reversed(files)]
    height = max(one.shape[1] for one in drawn)
    beside = torch.cat([on_ground(one, each + GAP, height) for one in drawn], 2)
    return torch.cat([text_thumbnail(words, width, FAINT, lines=1), on_ground(beside, width)], 1)


def _main(row: Row, name: str) -> str:
    """Return the modality that a file is named after: video where it holds video."""
    labels: list[str] = [label for label, other in row["files"].items() if other == name]
    return next((label for label in labels if row["kinds"][label] == VIDEO), labels[0])


def _drawn(path: Path, kind: OpenKind, marked: Marked, width: int) -> Tensor:
    marks = marked.of(path)
    times = {"seen": marks.seen, "heard": marks.heard} if marks.seen or marks.heard else None
    try:
        drawn = clip_thumbnail(path, width, times) if kind.name == VIDEO else kind.thumbnail(path, width)
    except (DataError, DeviceError, PluginError) as error:
        return text_thumbnail(str(error), width)
    return text_thumbnail(path.name, width) if drawn is None else drawn


def _arranged(cells: Sequence[Tensor], columns: int) -> Tensor:
    """Lay cells of one width out in rows, each as high as its highest cell, with room around them."""
    lines = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    width = columns * (cells[0].shape[2] + GAP) - GAP + 2 * EDGE
    room = torch.tensor(GROUND, dtype=torch.uint8)[:, None, None]
    parts = []
    for line in lines:
        height = max(cell.shape[1] for cell in line)
        beside = [on_ground(cell, cell.shape[2] + GAP, height) for cell in line]
        parts.append(on_ground(torch.cat([room.expand(3, height, EDGE), *beside], 2), width, height + GAP))
    return torch.cat([room.expand(3, EDGE, width), *parts], 1)
