"""Which layout a path holds, detected from its content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmdisco_cli.data.index.cells import has_media, read_hub_tables, read_parquet_table
from mmdisco_cli.data.index.extra import require
from mmdisco_cli.data.index.files import Files, list_files, read_bytes, suffix_of
from mmdisco_cli.data.index.folder import has_metadata, listed, read_folder, read_metadata_folder, single
from mmdisco_cli.data.index.memory import Memory
from mmdisco_cli.data.index.named import (
    find_media,
    is_identified,
    is_vggsound,
    read_identified,
    read_vggsound,
    without_comments,
)
from mmdisco_cli.data.index.records import read_path_table
from mmdisco_cli.data.index.rows import Index, columns_of, side_of
from mmdisco_cli.data.index.shards import read_shards
from mmdisco_cli.data.index.tables import TABLES, decode, read_csv_rows, read_table
from mmdisco_cli.data.naming import SUFFIXES
from mmdisco_cli.errors import DataError

PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst")
DATASET = "dataset"
"""What a trainer's table in a folder is called, if not after a split."""


@dataclass(frozen=True)
class Where:
    """What a recipe says of where data lie: a path, its layout where that cannot be seen, the folder of media."""

    path: str
    format: str | None = None
    media: str | None = None
    columns: Mapping[str, str] | None = None
    extensions: Sequence[str] = SUFFIXES

    @property
    def chosen(self) -> Mapping[str, str]:
        """Return the columns that were named, by what they hold."""
        return self.columns or {}


def read_index(where: Where, memory: Memory) -> Index:
    """Return the rows of whatever lies at a path: a folder, a table, or several tables or tars by braces.

    Raises:
        DataError: there is nothing, or nothing that can be read.
    """
    paths = expand(where.path)
    if len(paths) == 1 and not paths[0].is_file():
        return _read_folder(where, list_files(paths[0]), memory)
    kinds = {path: where.format or layout_of(path, where.chosen) for path in paths}
    if len(set(kinds.values())) > 1:
        one, other = dict(zip(kinds.values(), kinds.keys(), strict=True)).items()
        raise DataError(f"{where.path}: {one[1]} is of the layout {one[0]}, but {other[1]} of {other[0]}")
    return _read_files(where, paths, kinds[paths[0]], memory, None)


def expand(path: str) -> list[Path]:
    """Return the files that braces or an asterisk stand for, or what has that very name.

    Raises:
        DataError: there are none.
    """
    if Path(path).exists() or not any(mark in path for mark in "{*"):
        return [Path(path)]
    names = list(require("webdataset.shardlists").expand_urls(path)) if "{" in path else [path]
    found = [Path(one) for name in names for one in ([name] if "*" not in name else sorted(map(str, _glob(name))))]
    if not found:
        raise DataError(f"{path}: no such folder or file")
    if absent := [str(one) for one in found if not one.exists()]:
        raise DataError(f"{path}: {len(absent)} of {len(found)} files are not there ({listed(absent)})")
    return found


def layout_of(path: Path, chosen: Mapping[str, str]) -> str:
    """Return the layout of one file, by its name and first lines."""
    suffix = suffix_of(path.name)
    if suffix == ".tar":
        return "webdataset"
    if suffix == ".tgz" or (suffix in PACKED and ".tar" in path.name):
        raise DataError(f"{path}: a packed tar can only be read from its beginning: unpack it to a plain .tar")
    if suffix == ".parquet":
        return "parquet" if has_media(path) else "table"
    if suffix in TABLES:
        return _table_layout(path, chosen)
    return "folder"


def _table_layout(path: Path, chosen: Mapping[str, str]) -> str:
    content = read_bytes(str(path))
    if suffix_of(path.name) in (".csv", ".tsv"):
        first = next(read_csv_rows(decode(content, path.name)[0], str(path), []), (0, []))[1]
        if is_vggsound(first):
            return "vggsound"
        content = without_comments(content)
        first = next(read_csv_rows(decode(content, path.name)[0], str(path), []), (0, []))[1]
        columns = columns_of([cell.strip() for cell in first], {}, str(path))
    else:
        columns = columns_of(read_table(content, str(path)).columns, {}, str(path))
    # A table that names files is read by these, whatever else it says.
    return "ids" if is_identified(columns) and not {"video", "audio"} & {*columns.of, *chosen} else "table"


def _read_folder(where: Where, files: Files, memory: Memory) -> Index:
    """Read a folder by the most telling thing that lies in it."""
    root = files.root
    tables, tars, parquet = _lists(files), files.ending((".tar",)), files.ending((".parquet",))
    media = files.ending(extension.lower() for extension in where.extensions)
    kind = where.format
    if kind == "metadata" or (kind is None and has_metadata(files)):
        return read_metadata_folder(files, where.chosen)
    if tables and kind in (None, "table", "vggsound", "ids"):
        return _read_lists(where, root, tables, memory)
    if kind == "folder" or (kind is None and media):
        index = read_folder(files, where.chosen, where.extensions)
        unread = [name for name in files.ending((".csv", ".tsv", ".jsonl")) if "/" not in name]
        if unread:
            index.notes.append((str(root), f"tables there are not read: name one as data.path ({listed(unread)})"))
        return index
    for names, layout in ((tars, "webdataset"), (parquet, "parquet")):
        if names and kind in (None, layout):
            return _read_files(where, [root / name for name in names], layout, memory, root)
    if kind not in (None, "folder"):
        raise DataError(f"{root}: holds nothing of the layout {kind} (data.format)")
    return read_folder(files, where.chosen, where.extensions)


def _lists(files: Files) -> list[str]:
    """Return the tables at the top of a folder that are lists of clips by their names, and no clip's side text."""
    media = {Path(name).stem for name in files.ending() if "/" not in name}
    names = [name for name in files.sources if "/" not in name and suffix_of(name) in TABLES]
    return [name for name in names if (stem := Path(name).stem) not in media and (stem == DATASET or side_of(stem))]


def _read_lists(where: Where, root: Path, names: Sequence[str], memory: Memory) -> Index:
    """Read the tables of a folder, one for each split, with the media that lie there too."""
    if len({Path(name).stem for name in names}) < len(names):
        raise DataError(f"{root}: holds a table twice: name one as data.path ({listed(names)})")
    kinds = {layout_of(root / name, where.chosen) for name in names}
    if len(kinds) > 1:
        raise DataError(f"{root}: holds tables of several layouts: name one as data.path ({listed(names)})")
    return _read_files(where, [root / name for name in names], kinds.pop(), memory, root)


def _read_files(where: Where, paths: Sequence[Path], kind: str, memory: Memory, root: Path | None) -> Index:
    if kind == "webdataset":
        return read_shards(paths, where.chosen, memory, root)
    if kind == "parquet":
        return read_hub_tables(paths, where.chosen, root)
    if kind in ("vggsound", "ids"):
        media = find_media(Path(where.media) if where.media else paths[0].parent, memory)
        index = Index(kind)
        for path in paths:
            content = read_bytes(str(path))
            reader: Callable[[], Index] = partial(read_vggsound, content, path, media)
            index.extend(reader() if kind == "vggsound" else read_identified(content, path, media, where.chosen))
        return index
    if kind == "folder" and len(paths) == 1:
        return single(paths[0])
    index = Index(kind)
    for path in paths:
        is_parquet = suffix_of(path.name) == ".parquet"
        table = read_parquet_table(str(path)) if is_parquet else read_table(read_bytes(str(path)), str(path))
        index.extend(read_path_table(table, path, Path(where.media) if where.media else None, where.chosen))
    return index


def _glob(pattern: str) -> list[Path]:
    path = Path(pattern)
    anchor = Path(path.anchor)
    return list(anchor.glob(str(path.relative_to(anchor))))
