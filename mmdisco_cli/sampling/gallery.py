"""Write index.html: every sample of a run on one page that needs nothing but the .mp4 files beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mmdisco_cli.data.media import replacing
from mmdisco_cli.errors import DataError
from mmdisco_cli.sampling.drawing import draw_clip

MOST = 256
"""Samples shown; each takes some 20 kB of the page."""


def write_gallery(
    directory: str | Path, rows: Sequence[Mapping[str, Any]], *, title: str, recipe: str = "", most: int = MOST
) -> Path:
    """Write directory/index.html and return its path.

    A row is a line of the manifest: "path" (absolute, or relative to the directory), "index", "seed", and if known
    "logit", "prompt" and "independent", the path of the unguided sample with the same noise, shown beside it on
    request. Raise DataError where the page cannot be written; a clip that cannot be read is shown without drawings.
    """
    folder = Path(directory)
    shown = list(rows)[:most]
    page = _page(title, recipe, len(rows), len(shown), [_card(folder, row) for row in shown])
    target = folder / "index.html"
    with replacing(target) as part:
        part.write_text(page, encoding="utf-8")
    return target


def _page(title: str, recipe: str, total: int, shown: int, cards: Sequence[str]) -> str:
    home = files("mmdisco_cli.sampling")
    style, script = ((home / name).read_text(encoding="utf-8") for name in ("gallery.css", "gallery.js"))
    count = f"{total} samples" if shown == total else f"the first {shown} of {total} samples"
    subtitle = f"recipe {escape(recipe)} · {count}" if recipe else count
    compare = '<label><input type="checkbox" id="compare"> beside independent</label>'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<div><h1>{escape(title)}</h1><p>{subtitle}</p></div>
<form autocomplete="off">
<label>order <select id="order">
<option value="index 1">by index</option>
<option value="logit -1">highest logit first</option>
<option value="logit 1">lowest logit first</option>
</select></label>
{compare if any('class="independent"' in card for card in cards) else ""}
</form>
</header>
<main>
{"".join(cards)}</main>
<script>
{script}</script>
</body>
</html>
"""


def _card(folder: Path, row: Mapping[str, Any]) -> str:
    logit = "" if row.get("logit") is None else f"{float(row['logit']):.3f}"
    figures = _figure(folder, str(row["path"]), "guided", "guided")
    if row.get("independent"):
        figures += _figure(folder, str(row["independent"]), "independent", "independent, same noise")
    facts = {"sample": row.get("index"), "seed": row.get("seed"), "logit": logit}
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    prompt = f'<p class="prompt">{escape(str(row["prompt"]))}</p>' if row.get("prompt") else ""
    index = escape(str(row.get("index", "")))
    return (
        f'<article data-index="{index}" data-logit="{logit}">\n<div class="pair">{figures}</div>\n'
        f"<dl>{listed}</dl>{prompt}\n</article>\n"
    )


def _figure(folder: Path, path: str, kind: str, caption: str) -> str:
    file = folder / path
    try:
        drawings, seconds = draw_clip(file)
        time = f'<div class="time" data-seconds="{seconds:.4f}">{drawings}<span class="head"></span></div>'
    except DataError as error:
        time = f'<p class="prompt">{escape(str(error))}</p>'
    source = quote(_relative(file, folder))
    return (
        f'<figure class="{kind}"><figcaption>{caption}</figcaption>'
        f'<video src="{source}" controls loop playsinline preload="metadata"></video>{time}</figure>'
    )


def _relative(file: Path, folder: Path) -> str:
    """Return the file as seen from the page: the two move together."""
    return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
