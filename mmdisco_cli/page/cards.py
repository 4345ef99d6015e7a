"""Samples of one card side by side on a page: a clip plays above its own time axis, on which its events are marked.

A sample may have other files, beside a clip or without any: an image, audio alone, a text, each as its kind shows it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from mmdisco_cli.errors import DataError, DeviceError, PluginError
from mmdisco_cli.kinds.drawing import video_html
from mmdisco_cli.kinds.known import OpenKind
from mmdisco_cli.measures.names import better
from mmdisco_cli.page.charts import way_html
from mmdisco_cli.page.naming import spelt

CHANCE = {"av_align": "av_align_chance"}
"""Figures that say nothing without their level for mismatched pairs, which is written beside them."""


@dataclass(frozen=True)
class Shown:
    """One file of a sample beside a clip, or without one: its modalities, its kind, where it lies, and its `src`."""

    label: str
    kind: OpenKind
    path: Path
    source: str


@dataclass(frozen=True)
class Player:
    """One sample of a card: its row, what is written above it, where its clip lies, and what `src` of its video is.

    `path` is None for a sample without a clip. `motion` and `onsets` are times in seconds that are marked, `values` its
    figures by name, `files` what is shown beside the clip.
    """

    row: str
    caption: str
    path: Path | None
    source: str = ""
    motion: Sequence[float] = ()
    onsets: Sequence[float] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)
    files: Sequence[Shown] = ()


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
    """Return one sample; a file of it that cannot be read is shown without drawings."""
    values = "".join(
        f"<div><dt>{escape(spelt(name))}{way_html(better(name))}</dt><dd>{_number(value)}"
        f"{_chance_html(name, player.values)}</dd></div>"
        for name, value in player.values.items()
        if value is not None and name not in CHANCE.values()
    )
    marks = {"seen": player.motion, "heard": player.onsets}
    clip = video_html(player.path, escape(player.source), marks, escape(player.caption)) if player.path else ""
    clip += _link_html(player.path, player.source) if player.path else ""
    files = "".join(_file_html(one, named=len(player.files) > 1 or bool(clip)) for one in player.files)
    beside = f'<div class="files">{files}</div>' if files else ""
    return (
        f'<figure class="row-{escape(player.row)}"><figcaption>{escape(player.caption)}</figcaption>'
        f"{clip}{beside}<dl>{values}</dl></figure>"
    )


def _file_html(one: Shown, *, named: bool) -> str:
    try:
        shown = one.kind.card(one.path, escape(one.source))
    except (DataError, DeviceError, PluginError) as error:
        shown = f'<p class="prompt">{escape(str(error))}</p>'
    label = f'<span class="label">{escape(one.label)}</span>' if named else ""
    return f'<div class="file kind-{escape(one.kind.name)}">{label}{shown}{_link_html(one.path, one.source)}</div>'


def key_html(seen: str, heard: str) -> str:
    """Return what the two marks on a time axis stand for."""
    return (
        f'<i class="seen" aria-hidden="true"></i>{escape(seen)}<i class="heard" aria-hidden="true"></i>{escape(heard)}'
    )


def _link_html(path: Path, source: str) -> str:
    """Return the name of a file as a link to it; none where the page itself holds what it shows."""
    if source.startswith("data:"):
        return ""
    return f'<p class="name"><a href="{escape(source)}">{escape(path.name)}</a></p>'


def _chance_html(name: str, values: Mapping[str, float | None]) -> str:
    """Return the value of mismatched pairs beside a figure, or that a single clip has none."""
    if name not in CHANCE:
        return ""
    chance = values.get(CHANCE[name])
    return " <small>chance unknown</small>" if chance is None else f" <small>chance {_number(chance)}</small>"


def sorting_html(cards: Sequence[Card], names: Mapping[str, str]) -> str:
    """Return the choice of what cards are sorted by: every value of every row, a group a row; empty without any."""
    groups: dict[str, list[str]] = {}
    for one in (player for card in cards for player in card.players):
        known = groups.setdefault(one.row, [])
        known += [name for name, value in one.values.items() if value is not None and name not in known]
    options = "".join(_group(names.get(row, row), row, known) for row, known in groups.items() if known)
    if not options:
        return ""
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
