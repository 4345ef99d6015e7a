"""Plain folders of media with or without side texts, and those with a metadata table beside the media."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mmdisco_cli.data.index.cells import read_parquet_table
from mmdisco_cli.data.index.files import Files, list_zips
from mmdisco_cli.data.index.records import Locate, add_records
from mmdisco_cli.data.index.rows import (
    TRAIN,
    Fields,
    Index,
    Row,
    as_text,
    columns_of,
    side_of,
    side_of_name,
    side_of_path,
)
from mmdisco_cli.data.index.tables import decode, read_table
from mmdisco_cli.data.naming import SUFFIXES
from mmdisco_cli.data.source import Source
from mmdisco_cli.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SHOWN = 3


def read_folder(files: Files, chosen: Mapping[str, str], extensions: Sequence[str] = SUFFIXES) -> Index:
    """Return a row for each media file, with the texts beside it.

    Where `train` is a folder at the top, those beside it that mean held-out clips are. Without any text the name of a
    file's folder is its label, if there are several at one depth.
    """
    media = files.ending(extension.lower() for extension in extensions)
    if not media:
        files = list_zips(files)
        media = files.ending(extension.lower() for extension in extensions)
    if not media:
        raise DataError(f"{files.root}: no file ends in {', '.join(extensions)}")
    index = Index("a folder of media files")
    texts = {name: found for name in media if (found := _side_texts(files, name, chosen, index))}
    labels = {} if any(texts.values()) else _folder_labels(media)
    parted = any(name.startswith("train/") for name in files.sources) or (files.root / TRAIN).is_dir()
    for name in media:
        side = _folder_side(name) if parted else ""
        alone: list[Fields] = [{"label": labels.get(name, "")}]
        for fields in texts.get(name) or alone:
            index.rows.append(Row(name, files.sources[name], **{"split": side, **fields}))
    if texts:
        index.notes += _orphans(files, media)
    return index


def has_metadata(files: Files) -> bool:
    """Return whether a metadata table lies in a folder."""
    return any(_is_metadata(name) for name in files.sources)


def read_metadata_folder(files: Files, chosen: Mapping[str, str]) -> Index:
    """Return a row for each line of the metadata tables below a folder; media may lie in zips beside them."""
    zipped = list_zips(files)
    both = Files(files.root, {**zipped.sources, **files.sources})
    index = Index("a folder with metadata")
    for name in filter(_is_metadata, both.sources):
        place = PurePosixPath(name)
        index.extend(_read_metadata(both, place, chosen))
    named = {row.medium(modality) for row in index.rows for modality in ("audio", "video")}
    if alone := [name for name in files.ending() if files.sources[name] not in named]:
        index.notes.append((str(files.root), f"{len(alone)} media files are in no metadata table ({listed(alone)})"))
    return index


def listed(names: Sequence[str]) -> str:
    """Return the first few of some names."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _is_metadata(name: str) -> bool:
    return PurePosixPath(name).name.lower() in METADATA


def _read_metadata(files: Files, place: PurePosixPath, chosen: Mapping[str, str]) -> Index:
    name, folder = place.as_posix(), place.parent
    label = os.path.join(files.root, name)  # noqa: PTH118 - a message's text
    if place.suffix.lower() == ".parquet":
        source = files.sources[name]
        if not isinstance(source, str):
            raise DataError(f"{label}: a Parquet table in a zip cannot be read: unpack it")
        table = read_parquet_table(source)
    else:
        table = read_table(files.read(name), label)
    return add_records(table, columns_of(table.columns, chosen, label), _beside(files, folder))


def _beside(files: Files, folder: PurePosixPath) -> Locate:
    """Return what finds a name relative to a metadata table's folder, and the split that its folders name."""

    def locate(name: str) -> tuple[str, Source, str]:
        inner = os.path.normpath(str(folder / name)).replace(os.sep, "/")
        source = files.sources.get(inner) or os.path.join(files.root, inner)  # noqa: PTH118
        archive = "" if isinstance(source, str) else side_of_name(PurePosixPath(source.path).name)
        return inner, source, side_of_path(PurePosixPath(inner).parts[:-1]) or archive

    return locate


def _side_texts(files: Files, name: str, chosen: Mapping[str, str], index: Index) -> list[Fields]:
    """Return what NAME.json or else NAME.txt says of a media file, by field of a row: once for each caption."""
    stem = os.path.splitext(name)[0]  # noqa: PTH122 - one for every clip
    if f"{stem}.json" in files.sources:
        try:
            found = _side_json(files, f"{stem}.json", chosen)
        except DataError as error:
            index.notes.append((f"{stem}.json", str(error)))
            found = []
        if found or f"{stem}.txt" not in files.sources:
            return found
    if f"{stem}.txt" in files.sources:
        text, notes = decode(files.read(f"{stem}.txt"), f"{stem}.txt")
        index.notes += notes
        return [{"caption": " ".join(text.split())}]
    return []


def _side_json(files: Files, name: str, chosen: Mapping[str, str]) -> list[Fields]:
    text, _ = decode(files.read(name), name)
    try:
        record: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"no JSON ({error})") from error
    return texts_of_json(record, chosen, name)


def texts_of_json(record: Any, chosen: Mapping[str, str], name: str) -> list[Fields]:
    """Return the texts of a JSON object by field of a row, once for each caption; none where it has no texts."""
    if not isinstance(record, dict) or not record:
        return []
    columns = columns_of([str(key) for key in record], {k: v for k, v in chosen.items() if v in record}, name)
    rest = {"label": columns.text(record, "label"), "split": side_of(columns.text(record, "split"))}
    found = [{**texts, **{key: value for key, value in rest.items() if value}} for texts in columns.captions(record)]
    return [texts for texts in found if any(as_text(value) for value in texts.values())]


def _folder_side(name: str) -> str:
    return side_of(name.split("/", 1)[0]) or TRAIN


def _folder_labels(media: Sequence[str]) -> dict[str, str]:
    """Return the folder of each file as its label where all lie at one depth, and in several folders."""
    inner = {name: [part for i, part in enumerate(PurePosixPath(name).parts[:-1]) if i or not side_of(part)]
             for name in media}  # fmt: skip
    if len({len(parts) for parts in inner.values()}) != 1 or len({tuple(parts) for parts in inner.values()}) < 2:
        return {}
    return {name: parts[-1] for name, parts in inner.items()}


def _orphans(files: Files, media: Sequence[str]) -> list[tuple[str, str]]:
    """Return a remark on side texts in the folders of media that have no media file of their name."""
    stems = {os.path.splitext(name)[0] for name in media}  # noqa: PTH122
    folders = {os.path.dirname(name) for name in media}  # noqa: PTH120
    texts = [name for name in files.ending((".txt", ".json")) if os.path.dirname(name) in folders]  # noqa: PTH120
    alone = [name for name in texts if os.path.splitext(name)[0] not in stems]  # noqa: PTH122
    what = "text has" if len(alone) == 1 else "texts have"
    return [(str(files.root), f"{len(alone)} {what} no media file of that name ({listed(alone)})")] if alone else []


def single(path: Path) -> Index:
    """Return one media file as a data set."""
    return Index("a media file", [Row(path.name, str(path))])
