"""The rows of a study as recipes: what each trains first, and what it then joins."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.errors import PluginError, UsageError, did_you_mean
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.files import fingerprint

BANK, BASES = "bank", "bases"
"""Folders of a study that are no row's: the clips that its rows share, and their base models."""
_OF_BASE = re.compile(r"([\w-]+):(.+=.*)", re.DOTALL)
"""A setting of a base model's recipe: LABEL:KEY=VALUE."""


@dataclass(frozen=True)
class Row:
    """One row: its name and folder, the recipes of the base models that it trains, by backbone, and its settings."""

    name: str
    folder: str
    bases: Mapping[str, Recipe]
    settings: tuple[str, ...]

    def recipe(self, study: Recipe, weights: Mapping[str, str]) -> Recipe:
        """Return the joint recipe, with the weights of the base models that were trained for it."""
        plain = _alone(study, self.folder)
        plain["eval"]["protocol"] = study.study.protocol
        given = [f"backbones.{label}.weights={path}" for label, path in weights.items()]
        return _loaded(plain, study, self.name, [*self.settings, *given])


def rows_of(study: Recipe) -> list[Row]:
    """Return the rows of a study.

    Raises:
        UsageError: there are none, two have one folder, or a setting is no recipe's.
    """
    if not study.study.rows:
        raise UsageError("study.rows: is empty: name rows and their settings")
    rows = [_row(study, name, settings) for name, settings in study.study.rows.items()]
    folders = [row.folder for row in rows]
    if again := next((row for row in rows if folders.count(row.folder) > 1), None):
        raise UsageError(f"study.rows: {again.name!r} is too much like another row's name")
    for row in rows:  # a mistake is reported before anything is trained
        row.recipe(study, {})
    return rows


def _row(study: Recipe, name: str, settings: Sequence[str]) -> Row:
    own = [text for text in settings if not _OF_BASE.fullmatch(text)]
    of_bases: dict[str, list[str]] = {}
    for text in settings:
        if found := _OF_BASE.fullmatch(text):
            of_bases.setdefault(found[1], []).append(found[2])
    bases = {label: _base(study, name, label, given) for label, given in of_bases.items()}
    folder = re.sub(r"[^\w.]+", "-", name).strip("-.") or "row"
    folder = f"{folder}-row" if folder in (BANK, BASES) else folder
    return Row(name, folder, bases, tuple(own))


def _base(study: Recipe, row: str, label: str, settings: Sequence[str]) -> Recipe:
    """Return the recipe of a base model under a row's settings, of the data that the study has."""
    known = study.study.bases
    if label not in known:
        raise UsageError(f"study.rows: {row!r}: study.bases names no recipe for {label!r}{did_you_mean(label, known)}")
    try:
        plain = recipes.load(known[label]).to_dict()
    except (UsageError, PluginError) as error:
        raise type(error)(f"study.bases: {label}: {error}") from error
    if study.data is not None:
        plain["data"] = study.to_dict()["data"]
    named = f"{study.name}-{label}-{fingerprint(repr(sorted(settings)))[:8]}"
    return _loaded({**plain, "name": named}, study, row, settings)


def _alone(study: Recipe, folder: str) -> dict[str, Any]:
    """Return a study's recipe as plain data, without its rows."""
    plain = {key: value for key, value in study.to_dict().items() if key != "study"}
    return {**plain, "name": f"{study.name}-{folder}"}


def _loaded(plain: Mapping[str, Any], study: Recipe, row: str, settings: Sequence[str]) -> Recipe:
    try:
        return recipes.load_plain(plain, study.name, settings)
    except (UsageError, PluginError) as error:
        mistakes = "; ".join(line.removeprefix("--set ") for line in str(error).splitlines())
        raise type(error)(f"study.rows: {row!r}: {mistakes}") from error
