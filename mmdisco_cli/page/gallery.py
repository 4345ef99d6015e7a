"""Write index.html: every sample of a run on one page that needs nothing but the samples' files beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmdisco_cli.diffusion.backbone import VIDEO
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.known import OpenKind, open_kinds
from mmdisco_cli.measures.alignment import DEFAULT_RULE, RULES, Peaks, av_align, peaks_of
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.clip import measure_clip
from mmdisco_cli.page.cards import Card, Player, card_html, sorting_html
from mmdisco_cli.page.sample_files import SampleFiles, sample_files
from mmdisco_cli.page.shell import document
from mmdisco_cli.run.files import write_text

MOST = 256
"""Samples shown; each takes some 20 kB of the page."""
KEY = '<p class="key">marked<i class="seen"></i>motion peaks<i class="heard"></i>onsets</p>'
KINDS = ((True, "guided"), (False, "independent"))
"""What a sample is called by its line's "guided"; one whose line does not say so is called a sample."""


def write_gallery(
    directory: str | Path, rows: Sequence[Mapping[str, Any]], *, title: str, recipe: str = "", most: int = MOST
) -> Path:
    """Write directory/index.html and return its path.

    A row is a line of the manifest: "path" (absolute, or relative to the directory), "index", "seed", and if known
    "logit", "prompt", "guided" (whether a discriminator guided it), "given" (what each modality was held at), "files"
    and "kinds" by modality, without which "path" is that of a clip, and "independent", the path of the unguided sample
    with the same noise, shown beside it on request, with its "independent_files".

    Raises:
        DataError: the page cannot be written; a clip that cannot be read is shown without drawings.
    """
    folder = Path(directory)
    shown = list(rows)[:most]
    kinds = open_kinds([VIDEO, *(kind for row in shown for kind in (row.get("kinds") or {}).values())])
    page = _page(title, recipe, len(rows), [_card(folder, row, kinds) for row in shown])
    target = folder / "index.html"
    write_text(target, page)
    return target


def _page(title: str, recipe: str, total: int, cards: Sequence[Card]) -> str:
    count = f"{total} samples" if len(cards) == total else f"the first {len(cards)} of {total} samples"
    kinds = {card.players[0].caption for card in cards} - {"samples"}
    count += f", {escape(kinds.pop())}" if len(kinds) == 1 else ""
    subtitle = f"recipe {escape(recipe)} · {count}" if recipe else count
    compare = '<label><input type="checkbox" id="compare"> beside independent</label>'
    beside = compare if any(len(card.players) > 1 for card in cards) else ""
    clips = any(player.path for card in cards for player in card.players)
    key = KEY if clips else ""
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


def _card(folder: Path, row: Mapping[str, Any], kinds: Mapping[str, OpenKind]) -> Card:
    logit, given = row.get("logit"), _given(row)
    kind = next((name for flag, name in KINDS if row.get("guided") is flag), "samples")
    values = {"logit": None if logit is None else float(logit)}
    players = [_player(folder, _files(folder, row, "path", "files", kinds), kind, kind + given, values)]
    if row.get("independent"):
        beside = _files(folder, row, "independent", "independent_files", kinds)
        players.append(_player(folder, beside, "independent", f"independent, same noise{given}", {}))
    facts = {"seed": str(row["seed"])} if row.get("seed") is not None else {}
    return Card(f"sample {row.get('index', '')}", players, facts, str(row.get("prompt") or ""))


def _files(folder: Path, row: Mapping[str, Any], main: str, key: str, kinds: Mapping[str, OpenKind]) -> SampleFiles:
    """Return the files of a sample; a line that does not list them is that of a clip."""
    if row.get(key) and row.get("kinds"):
        return sample_files(row[key], row["kinds"], kinds, folder)
    return sample_files({VIDEO: str(row[main])}, {VIDEO: VIDEO}, kinds, folder)


def _given(row: Mapping[str, Any]) -> str:
    """Say which modalities are real ones, which a sample was made beside."""
    given = row.get("given")
    return f", {' and '.join(given)} given" if given and isinstance(given, Mapping) else ""


def _player(folder: Path, sample: SampleFiles, row: str, caption: str, values: Mapping[str, float | None]) -> Player:
    clip, files = sample.clip, sample.beside_clip(lambda path, kind: _source(path, folder))
    if clip is None:
        return Player(row, caption, None, values=values, files=files)
    source = _source(clip, folder)
    try:
        peaks = peaks_of(measure_clip(clip, Analysis()), DEFAULT_RULE)
    except DataError:  # it says why in place of its drawings, or has no audio
        return Player(row, caption, clip, source, values=values, files=files)
    figures = {**values, "av_align": av_align(peaks, RULES[DEFAULT_RULE]), **_counts(peaks)}
    return Player(row, caption, clip, source, peaks.motion, peaks.onsets, figures, files)


def _counts(peaks: Peaks) -> dict[str, float]:
    return {"motion_peaks": len(peaks.motion), "onsets": len(peaks.onsets)}


def _source(file: Path, folder: Path) -> str:
    return quote(os.fsencode(_relative(file, folder)))


def _relative(file: Path, folder: Path) -> str:
    """Return the path of the file relative to the page: the two move together."""
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
