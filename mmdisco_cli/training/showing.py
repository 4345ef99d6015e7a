"""What a training shows on the way: one progress line a stage."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType

from mmdisco_cli.run.progress import Advance, progress
from mmdisco_cli.training.metrics import Show

HIDDEN = ("grad_norm", "learning_rate")


class Stages:
    """Give each stage of a run its own progress display, begun when its first step is reported."""

    def __init__(self, enabled: bool) -> None:
        self._enabled, self._stack = enabled, ExitStack()
        self._title = ""
        self._advance: Advance = _ignore

    def __enter__(self) -> "Stages":
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Take the last display down."""
        self._stack.close()

    def of(self, title: str) -> Show:
        """Return what a stage reports its steps to."""

        def show(step: int, steps: int, figures: Mapping[str, float]) -> None:
            self._switch(title, step, steps)
            self._advance(step, {name: value for name, value in figures.items() if name not in HIDDEN})

        return show

    def counter(self, title: str) -> Callable[[int, int], None]:
        """Return what a stage without figures reports its count to."""
        show = self.of(title)
        return lambda done, total: show(done, total, {})

    def _switch(self, title: str, done: int, total: int) -> None:
        if title != self._title:
            self._stack.close()
            self._title = title
            self._advance = self._stack.enter_context(progress(title, total, done, enabled=self._enabled))


def _ignore(done: int, figures: Mapping[str, float]) -> None:
    return None
