"""Monitoring of one stage of a training: held-out figures, the best weights, previews, and warnings of failure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError, ExitCode, describe, exit_code_of
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import any_rank
from mmdisco_cli.training.checkpoint import TrainState
from mmdisco_cli.training.directory import PREVIEWS
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import MetricsLog, heldout_rows, not_finite, rows_by_stage
from mmdisco_cli.training.monitoring.averaged import looked_at
from mmdisco_cli.training.monitoring.lasting import Sign, pooled
from mmdisco_cli.training.monitoring.preview_rows import forget_previews_after
from mmdisco_cli.training.monitoring.progress import Ending, ProgressPage
from mmdisco_cli.training.monitoring.signs import NOTHING, Measure, signs
from mmdisco_cli.weights_file import any_about

LOOKS = 400
"""How often curves are looked at in a training, at most."""
STEP = "step"


@dataclass(frozen=True)
class Probe:
    """What can be done with a network while it is trained; None where it cannot.

    `measure` returns figures of held-out clips, of which `best` decides which weights are kept; `export` writes weights
    with figures of theirs to a file; `preview` writes samples of a step.
    """

    measure: Callable[[], dict[str, Any]] | None = None
    best: Measure = NOTHING
    export: Callable[[Path, Mapping[str, Any]], None] | None = None
    preview: Callable[[int], None] | None = None


class Monitor:
    """An `Observer` of one stage; only the first rank measures, and all ranks learn whether training must stop."""

    def __init__(self, context: Context, stage: str, steps: int, probe: Probe | None = None) -> None:
        self._context, self._stage, self._steps, self._probe = context, stage, steps, probe or Probe()
        self._config = context.recipe.train
        self._rows: list[Mapping[str, Any]] = []
        self._heldout: list[Mapping[str, Any]] = []
        self._signs: list[Sign] = []
        self._said: set[str] = set()
        self._log: MetricsLog | None = None
        self._page = ProgressPage(context.directory, stage, steps, self._probe.best)

    def begin(self, state: TrainState, log: MetricsLog) -> None:
        """Read what an earlier part of the same training has left."""
        self._log = log
        if self._context.ranks.first:
            metrics = self._context.directory.metrics
            forget_previews_after(self._context.directory.path / PREVIEWS, state.step)
            self._rows.extend(rows_by_stage(metrics).get(self._stage, []))
            self._heldout.extend(heldout_rows(metrics, self._stage))
            self._page.write(self._rows, self._heldout, self._signs, now=True)

    def after(self, state: TrainState, row: Mapping[str, Any] | None) -> str:
        """Do what is due after a step; return why training must stop, on all ranks alike."""
        if self._context.ranks.first:
            self._look(state, row)
        if not self._is_due(state.step):
            return ""
        stopping = self._config.on_failure == "stop" and bool(self._signs)
        if not any_rank(stopping, self._context.ranks, self._context.device):
            return ""
        return str(self._signs[0]) if self._signs else "another rank has stopped it"

    def end(self, error: Exception | None = None) -> None:
        """Write the page for the last time, with what ended the training before all steps were taken."""
        if self._context.ranks.first:
            self._page.write(self._rows, self._heldout, self._signs, ending=Ending.of(error))

    def _look(self, state: TrainState, row: Mapping[str, Any] | None) -> None:
        before = len(self._heldout)
        if row:
            self._rows.append(row)
        last = state.step == self._steps
        if self._probe.measure and _due(state.step, self._config.validate_every, last=last):
            self._guarded(state, "nothing is measured on held-out clips", self._validate)
        previewed = self._probe.preview is not None and _due(state.step, self._config.preview_every, last=last)
        if previewed:
            self._guarded(state, "no preview", self._preview)
        if self._is_due(state.step):
            self._watch()
        if row or previewed or len(self._heldout) > before:
            now = previewed or len(self._heldout) > before
            self._page.write(self._rows, self._heldout, self._signs, now=now)

    def _guarded(self, state: TrainState, failed: str, look: Callable[[int], None]) -> None:
        """Use the averaged weights; an error there is reported, and does not end the training."""
        try:
            with looked_at(state, self._context.device):
                look(state.step)
        except Exception as error:
            if exit_code_of(error) == ExitCode.UNEXPECTED:
                raise
            console.warn(f"step {state.step}: {failed}: {describe(error).splitlines()[0]}")

    def _validate(self, step: int) -> None:
        assert self._probe.measure
        assert self._log
        figures = self._probe.measure()
        if bad := not_finite(figures):
            raise DataError(f"{bad} of the averaged weights is not finite")
        self._heldout.append(self._log.write_heldout(step, figures))
        kept = self._keep_if_best(step, figures)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items() if isinstance(value, float))
        self._context.say(f"step {step}, held-out: {shown}{' (the best so far)' if kept else ''}")

    def _keep_if_best(self, step: int, figures: Mapping[str, Any]) -> bool:
        """Write the weights to best.safetensors unless better ones lie there; return whether they are the best."""
        best, path = self._probe.best, self._context.directory.best
        if self._probe.export is None or best.name not in figures:
            return False
        known = _figures_in(path).get(best.name)
        if known is not None and not best.better(figures[best.name], known):
            return False
        self._probe.export(path, {STEP: step, "chosen_by": best.name, "heldout": dict(figures)})
        return True

    def _preview(self, step: int) -> None:
        assert self._probe.preview
        self._probe.preview(step)

    def _watch(self) -> None:
        """Look for signs of failure, and report each kind once."""
        rows = pooled(self._rows, self._config.log_every * self._config.batch_size)
        self._signs = signs(rows, self._heldout, self._probe.best, self._steps, self._config.warmup)
        for sign in self._signs:
            if sign.name not in self._said:
                self._said.add(sign.name)
                console.warn(str(sign))

    def _is_due(self, step: int) -> bool:
        """Return whether the curves are looked at after a step: with a line of figures, but not all too often."""
        every = self._config.log_every
        return _due(step, every * max(1, self._steps // (LOOKS * every)), last=step == self._steps)


def _due(step: int, every: int, *, last: bool) -> bool:
    return every > 0 and (step % every == 0 or last)


def _figures_in(path: Path) -> Mapping[str, Any]:
    """Return the held-out figures of the best weights so far, none where there is no file that can be read."""
    if not path.exists():
        return {}
    try:
        results = any_about(path).get("results", {})
    except DataError:
        return {}
    found = results.get("heldout", {}) if isinstance(results, dict) else {}
    return found if isinstance(found, dict) else {}
