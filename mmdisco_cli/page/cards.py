"""Clips of one card side by side on a page: each plays above its own time axis, on which its events are marked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.page.drawing import draw_clip
from mmdisco_cli.page.naming import spelt


@dataclass(frozen=True)
class Player:
    """One clip of a card: its row, what is written above it, where it lies, and what `src` of its video is.

    `motion` and `onsets` are times in seconds that are marked, `values` its figures by name.
    """

    row: str
    caption: str
    path: Path
    source: str
    motion: Sequence[float] = ()
    onsets: Sequence[float] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """Clips that belong together, such as those of one noise; `facts` are words, `prompt` stands below."""

    title: str
    players: Sequence[Player]
    facts: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""


def card_html(card: Card, index: int) -> str:
    """Return a card; its values are kept as JSON, by which the page sorts."""
    values = {f"{one.row}.{name}": value for one in card.players for name, value in one.values.items()}
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in card.facts.items())
    prompt = f'<p class="prompt">{escape(card.prompt)}</p>' if card.prompt else ""
    figures = "".join(player_html(one) for one in card.players)
    return (
        f'<article data-index="{index}" data-values="{escape(json.dumps(values))}">\n<h3>{escape(card.title)}</h3>\n'
        f'<div class="pair">{figures}</div>\n<dl>{facts}</dl>{prompt}\n</article>\n'
    )


def player_html(player: Player) -> str:
    """Return one clip; one that cannot be read is shown without drawings."""
    try:
        with file_errors(player.path):
            drawn = draw_clip(player.path, {"seen": player.motion, "heard": player.onsets})
        time = f'<div class="time" data-seconds="{drawn.seconds:.4f}">{drawn.html}<span class="head"></span></div>'
        poster = f' poster="{drawn.poster}"'
    except UNUSABLE as error:
        poster, time = "", f'<p class="prompt">{escape(str(error))}</p>'
    values = "".join(
        f"<div><dt>{escape(spelt(name))}</dt><dd>{_number(value)}</dd></div>"
        for name, value in player.values.items()
        if value is not None
    )
    return (
        f'<figure class="row-{escape(player.row)}"><figcaption>{escape(player.caption)}</figcaption>'
        f'<video src="{escape(player.source)}" controls loop playsinline preload="metadata"{poster}></video>{time}'
        f"<dl>{values}</dl></figure>"
    )


def sorting_html(cards: Sequence[Card], names: Mapping[str, str]) -> str:
    """Return the choice of what cards are sorted by: every value of every row, a group a row."""
    groups: dict[str, list[str]] = {}
    for one in (player for card in cards for player in card.players):
        known = groups.setdefault(one.row, [])
        known += [name for name, value in one.values.items() if value is not None and name not in known]
    options = "".join(_group(names.get(row, row), row, known) for row, known in groups.items() if known)
    return f'<label>sort by <select id="order"><option value="">as made</option>{options}</select></label>'


def _group(title: str, row: str, known: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{escape(row)}.{escape(name)} {sign}">{escape(spelt(name))}, {way} first</option>'
        for name in known
        for sign, way in ((-1, "highest"), (1, "lowest"))
    )
    return f'<optgroup label="{escape(title)}">{options}</optgroup>'


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.3g}"
