"""Write index.html: every sample of a run on one page that needs nothing but the samples' files beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmdisco_cli.diffusion.backbone import VIDEO
from mmdisco_cli.kinds.known import OpenKind, open_kinds
from mmdisco_cli.page.cards import Card, Player, card_html, key_html, sorting_html
from mmdisco_cli.page.marking import MARKING, Marked, Marking, mark
from mmdisco_cli.page.sample_files import SampleFiles, sample_files
from mmdisco_cli.page.shell import document
from mmdisco_cli.run.files import write_text

MOST = 256
"""Samples shown; each takes some 20 kB of the page."""
KINDS = ((True, "guided"), (False, "independent"))
"""What a sample is called by its line's "guided"; one whose line does not say so is called a sample."""


BESIDE = ("independent", "beside_guided")
"""Keys of a line's partner of the same noise, by whether the line itself is guided or not: one at most is there."""


@dataclass(frozen=True)
class _Page:
    """What the cards of a page share: its folder, the kinds of its files, and the marks of its clips."""

    folder: Path
    kinds: Mapping[str, OpenKind]
    marked: Marked


def write_gallery(
    directory: str | Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    recipe: str = "",
    most: int = MOST,
    marking: Marking = MARKING,
) -> Path:
    """Write directory/index.html and return its path.

    A row is a line of the manifest: "path" (absolute, or relative to the directory), "index", "seed", and if known
    "logit", "prompt", "guided" (whether a discriminator guided it), "given" (what each modality was held at), "files"
    and "kinds" by modality, without which "path" is that of a clip, and "independent", the path of the unguided sample
    with the same noise, shown beside it on request, with its "independent_files"; of an unguided one "beside_guided",
    the path of the guided sample, with its "beside_guided_files". `marking` is what is marked of the clips.

    Raises:
        DataError: the page cannot be written; a clip that cannot be read is shown without drawings.
    """
    folder = Path(directory)
    shown = list(rows)[:most]
    kinds = open_kinds([VIDEO, *(kind for row in shown for kind in (row.get("kinds") or {}).values())])
    page = _Page(folder, kinds, mark(_clips(folder, shown, kinds), marking))
    content = _page(title, recipe, len(rows), [_card(page, row) for row in shown], marking)
    target = folder / "index.html"
    write_text(target, content)
    return target


def _page(title: str, recipe: str, total: int, cards: Sequence[Card], marking: Marking) -> str:
    count = f"{total} samples" if len(cards) == total else f"the first {len(cards)} of {total} samples"
    kinds = {card.players[0].caption for card in cards} - {"samples"}
    count += f", {escape(kinds.pop())}" if len(kinds) == 1 else ""
    subtitle = f"recipe {escape(recipe)} · {count}" if recipe else count
    others = {player.row for card in cards for player in card.players[1:]}
    compare = f'<label><input type="checkbox" id="compare"> beside {escape(min(others, default=""))}</label>'
    beside = compare if others else ""
    clips = any(player.path for card in cards for player in card.players)
    key = f'<p class="key">marked{key_html(marking.seen, marking.heard)}</p>' if clips else ""
    shown = "".join(card_html(card, index) for index, card in enumerate(cards))
    names = {player.row: player.caption for card in cards for player in card.players}
    body = f"""<header>
<div><h1>{escape(title)}</h1><p>{subtitle}</p>
{key}</div>
<form autocomplete="off">{sorting_html(cards, names)}{beside}</form>
</header>
<main class="gallery">
{shown}</main>
"""
    return document(title, body, alone=False)


def _clips(folder: Path, rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, OpenKind]) -> dict[str, list[Path]]:
    """Return the clips of the page by row: lines themselves, and their partners."""
    found: dict[str, list[Path]] = {}
    for row in rows:
        for key in ("path", *BESIDE):
            clip = _files(folder, row, key, kinds).clip if row.get(key) else None
            found.setdefault(key, []).extend([clip] if clip else [])
    return found


def _card(page: _Page, row: Mapping[str, Any]) -> Card:
    logit, given = row.get("logit"), _given(row)
    kind = next((name for flag, name in KINDS if row.get("guided") is flag), "samples")
    values = {"logit": None if logit is None else float(logit)}
    players = [_player(page, row, "path", kind, kind + given, values)]
    for key, name in zip(BESIDE, ("independent", "guided"), strict=True):
        if row.get(key):
            players.append(_player(page, row, key, name, f"{name}, same noise{given}", {}))
    facts = {"seed": str(row["seed"])} if row.get("seed") is not None else {}
    return Card(f"sample {row.get('index', '')}", players, facts, str(row.get("prompt") or ""))


def _files(folder: Path, row: Mapping[str, Any], main: str, kinds: Mapping[str, OpenKind]) -> SampleFiles:
    """Return the files of a sample; a line that does not list them is that of a clip."""
    key = "files" if main == "path" else f"{main}_files"
    if row.get(key) and row.get("kinds"):
        return sample_files(row[key], row["kinds"], kinds, folder)
    return sample_files({VIDEO: str(row[main])}, {VIDEO: VIDEO}, kinds, folder)


def _given(row: Mapping[str, Any]) -> str:
    """Say which modalities are real ones, which a sample was made beside."""
    given = row.get("given")
    return f", {' and '.join(given)} given" if given and isinstance(given, Mapping) else ""


def _player(
    page: _Page, row: Mapping[str, Any], key: str, name: str, caption: str, values: Mapping[str, float | None]
) -> Player:
    sample = _files(page.folder, row, key, page.kinds)
    clip, files = sample.clip, sample.beside_clip(lambda path, kind: _source(path, page.folder))
    if clip is None:
        return Player(name, caption, None, values=values, files=files)
    marks = page.marked.of(clip)
    figures = {**values, **marks.values}
    return Player(name, caption, clip, _source(clip, page.folder), marks.seen, marks.heard, figures, files)


def _source(file: Path, folder: Path) -> str:
    return quote(os.fsencode(_relative(file, folder)))


def _relative(file: Path, folder: Path) -> str:
    """Return the path of the file relative to the page: the two move together."""
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
