"""`progress.html` of a run: curves, previews through time and warnings, written again while training goes on."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

from mmdisco_cli.diffusion.backbone import VIDEO
from mmdisco_cli.errors import DataError, DeviceError, PluginError, Stopped, describe
from mmdisco_cli.kinds.known import OpenKind, open_kinds
from mmdisco_cli.page.shell import asset, document
from mmdisco_cli.run import console
from mmdisco_cli.run.files import write_text
from mmdisco_cli.training.directory import PREVIEWS, PROGRESS, RunDirectory
from mmdisco_cli.training.monitoring.lasting import Rows, Sign
from mmdisco_cli.training.monitoring.preview_rows import read_previews
from mmdisco_cli.training.monitoring.progress_html import (
    MOST_STEPS,
    Preview,
    curves_html,
    evenly,
    head_html,
    previews_html,
    signs_html,
)
from mmdisco_cli.training.monitoring.signs import Measure

GOES_ON = "this page is loaded again while training goes on"
SECONDS = 10.0
"""Between two writings, at least, unless there is something new to see."""


@dataclass(frozen=True)
class Ending:
    """How a training has ended: a line for the head of the page, and what went wrong if anything did."""

    state: str = "all steps taken"
    failed: str = ""

    @classmethod
    def of(cls, error: Exception | None) -> "Ending":
        """Return the ending by an error, by a signal, or by the last step."""
        if error is None:
            return cls()
        text = describe(error)
        return cls(text) if isinstance(error, Stopped) else cls("ended before its last step", text)


class ProgressPage:
    """The page of one stage of a run."""

    def __init__(self, directory: RunDirectory, stage: str, steps: int, best: Measure) -> None:
        self._directory, self._stage, self._steps, self._best = directory, stage, steps, best
        self._written = float("-inf")
        self._cards: dict[str, str] = {}
        self._kinds: dict[str, OpenKind] = {}

    def write(
        self, rows: Rows, heldout: Rows, signs: Sequence[Sign], *, now: bool = False, ending: Ending | None = None
    ) -> None:
        """Write it with everything there is, unless that was done a moment ago; a page that fails ends no training."""
        if not (now or ending) and time.monotonic() - self._written < SECONDS:
            return
        self._written = time.monotonic()
        try:
            write_text(self._directory.path / PROGRESS, self._page(rows, heldout, signs, ending))
        except DataError as error:
            console.warn(f"{PROGRESS}: {error}")

    def _page(self, rows: Rows, heldout: Rows, signs: Sequence[Sign], ending: Ending | None) -> str:
        name = self._directory.recipe.name
        body = "".join(
            (
                head_html(
                    name, self._stage, self._steps, rows, heldout, self._best, ending.state if ending else GOES_ON
                ),
                signs_html(signs, rows, heldout, ending.failed if ending else ""),
                curves_html(rows, heldout),
                previews_html(self._previews()),
            )
        )
        scripts = [] if ending else [asset("progress.js")]
        return document(f"training {name}", body, alone=False, more=asset("progress.css"), scripts=scripts)

    def _previews(self) -> list[Preview]:
        rows = read_previews(self._directory.path / PREVIEWS)
        steps = evenly(sorted({row["step"] for row in rows}), MOST_STEPS)
        shown = [row for row in rows if row["step"] in steps]
        return [Preview(row["step"], row["index"], row["prompt"], self._shown(row)) for row in shown]

    def _shown(self, row: Mapping[str, Any]) -> str:
        """Return the files of a preview as HTML."""
        by_file: dict[str, list[str]] = {}
        for label, file in row["files"].items():
            by_file.setdefault(file, []).append(label)
        return "".join(self._card(file, labels, row["kinds"]) for file, labels in by_file.items())

    def _card(self, file: str, labels: Sequence[str], kinds: Mapping[str, str]) -> str:
        """Return one file as its kind shows it, drawn once; that of video beside its audio is video."""
        if file not in self._cards:
            names = [kinds[label] for label in labels]
            shown = self._drawn(file, VIDEO if VIDEO in names else names[0])
            self._cards[file] = f'<div class="file">{shown}</div>'
        return self._cards[file]

    def _drawn(self, file: str, kind: str) -> str:
        """Return a file as its kind shows it, or what is wrong with it."""
        try:
            return self._kind(kind).card(self._directory.path / file, quote(os.fsencode(file)))
        except (DataError, DeviceError, PluginError) as error:
            return f'<p class="prompt">{escape(str(error))}</p>'

    def _kind(self, name: str) -> OpenKind:
        if name not in self._kinds:
            self._kinds |= open_kinds([name])
        return self._kinds[name]
