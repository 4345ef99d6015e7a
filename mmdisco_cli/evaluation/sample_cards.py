"""Samples of any modalities on report.html: those of one name beside each other, with all of their files inside."""

from collections.abc import Sequence
from pathlib import Path

from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.evaluation.protocol import Sample
from mmdisco_cli.kinds.known import OpenKind, open_kinds
from mmdisco_cli.page.cards import Card, Player, card_html, sorting_html
from mmdisco_cli.page.embedding import embedded, embedded_file
from mmdisco_cli.page.sample_files import sample_files

MOST = 36
"""Cards shown, spread evenly over all."""


def cards_of_samples(samples: Sequence[Sample]) -> list[Card]:
    """Return a card for each name, with the samples of that name in the order of their rows."""
    kinds = open_kinds(kind for sample in samples for kind in sample.kinds.values())
    names = list(dict.fromkeys(sample.name for sample in samples))
    chosen = names[:: -(-len(names) // MOST)] if names else []
    by_name = {name: [one for one in samples if one.name == name] for name in chosen}
    return [Card(name, [_player(one, kinds) for one in own], prompt=_prompt(own)) for name, own in by_name.items()]


def _prompt(samples: Sequence[Sample]) -> str:
    return " / ".join(filter(None, dict.fromkeys(one.prompt for one in samples)))


def samples_html(cards: Sequence[Card], samples: Sequence[Sample], *, sortable: bool) -> str:
    """Return the samples to see and to play; empty where there are none."""
    if not cards:
        return ""
    total = len({sample.name for sample in samples})
    few = f"{len(cards)} of {total}, evenly chosen" if len(cards) < total else f"all {total}"
    form = f'<form autocomplete="off">{sorting_html(cards, {})}</form>' if sortable else ""
    shown = "".join(card_html(card, index) for index, card in enumerate(cards))
    return (
        f'<h2>Samples</h2>\n<div class="bar-top"><p class="note">{few}</p>{form}</div>\n'
        f'<main class="wide">\n{shown}</main>\n'
    )


def _player(sample: Sample, kinds: dict[str, OpenKind]) -> Player:
    files = sample_files(sample.files, sample.kinds, kinds, Path())
    copied: list[Path] = []

    def source(path: Path, kind: OpenKind | None = None) -> str:
        try:
            with file_errors(path):
                address, is_copy = embedded_file(path, kind) if kind else embedded(path)
        except UNUSABLE:  # what is wrong with it stands in place of its drawings
            return "data:,"
        copied.extend([path] if is_copy else [])
        return address

    clip, beside = files.clip, files.beside_clip(source)
    address = source(clip) if clip else ""
    caption = f"{sample.row} · {sample.name}" + (" · small copy" if copied else "")
    return Player(sample.row, caption, clip, address, values=sample.values, files=beside)
