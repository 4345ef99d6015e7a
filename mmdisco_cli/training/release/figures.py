"""What an evaluation reached, in the card of the weights that it was of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.files import write_json, write_text
from mmdisco_cli.training.directory import RELEASE
from mmdisco_cli.training.release.card import CARD
from mmdisco_cli.training.release.portable import portable
from mmdisco_cli.weights_file import find_weights

FIGURES = "metrics.json"
BEGIN, END = "<!-- evaluation -->", "<!-- end of evaluation -->"
BEFORE = "## Base models"
"""What the figures stand above in a card."""


def add_figures(recipe: Recipe, content: Mapping[str, Any], lines: Sequence[str]) -> Path | None:
    """Write `content` of an evaluation and its table into the folder to publish beside a recipe's weights, if any.

    Figures of an earlier evaluation are replaced. Returns the card.

    Raises:
        DataError: the card cannot be read or written.
    """
    card = _card(recipe)
    if card is None:
        return None
    write_json(card.parent / FIGURES, portable(content))
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{card}: cannot read ({error})") from error
    write_text(card, _with_section(text, _section(content, lines)))
    return card


def _card(recipe: Recipe) -> Path | None:
    """Return the card beside the weights that a recipe samples with."""
    try:
        weights = find_weights(recipe.sample.weights) if recipe.sample.weights else None
    except DataError:
        return None
    card = weights.parent / RELEASE / CARD if weights else None
    return card if card is not None and card.is_file() else None


def _section(content: Mapping[str, Any], lines: Sequence[str]) -> str:
    protocol = content["protocol"]
    table = "\n".join(line.rstrip() for line in lines).strip("\n")
    how = f"by the protocol `{protocol['name']}`, n = {content['n']}, seed {protocol.get('seed')}"
    return (
        f"{BEGIN}\n## Evaluation\n\n`mmdisco eval` {how}; all of it is in `{FIGURES}`:\n\n```\n{table}\n```\n{END}\n\n"
    )


def _with_section(card: str, section: str) -> str:
    if BEGIN in card and END in card:
        card = card[: card.index(BEGIN)] + card[card.index(END) + len(END) :].lstrip("\n")
    at = card.find(f"\n{BEFORE}") + 1 or len(card)
    return card[:at] + section + card[at:]
