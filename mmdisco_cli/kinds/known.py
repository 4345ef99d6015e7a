"""The kinds that are installed, mmdisco's own and those of plugins, with errors that name the plugin."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import TEXT, VECTOR, VIDEO, ModalityPlan
from mmdisco_cli.errors import DataError, ExitCode, PluginError, describe, exit_code_of
from mmdisco_cli.hookspecs import KindSpec
from mmdisco_cli.kinds.contract import Adapting, Choosy, Drawing, Item, Kind, Media
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run.files import replacing

ENTRY = "kind"


@dataclass(frozen=True)
class OpenKind:
    """A kind with its description; its members are those of `Kind`, and never give what a contract forbids."""

    spec: KindSpec
    kind: Kind

    @property
    def name(self) -> str:
        """Return what `ModalityInfo.kind` calls it."""
        return self.spec.name

    def owns(self, path: Path) -> bool:
        """Return whether a file's name ends as those that it reads."""
        return _ends(path, self.suffixes)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Return the endings of the files that it reads, that of those it writes first."""
        return tuple(dict.fromkeys((self.spec.suffix, *self.spec.reads)))

    def write(self, path: Path, media: Media, item: Item) -> Path:
        """Write one sample whole or not at all; raise DataError or PluginError where that fails."""
        plain = media.detach().cpu().float() if isinstance(media, Tensor) else media
        with replacing(path, suffix=self._suffix(path)) as part:
            try:
                with self._errors("write", path):
                    self.kind.write(part, plain, item)
            finally:
                others = _removed_beside(part) if self.spec.owner else []
            if not part.is_file():
                raise self._wrong("write writes no file")
            if others:
                raise self._wrong("write writes more than the one file that it is given the path of")
        return path

    def _suffix(self, path: Path) -> str:
        """Return the ending of a file that is written: a video may be written as others than its kind's first."""
        return path.suffix if self.name == VIDEO and self.owns(path) else self.spec.suffix

    def read(self, path: Path, item: Item) -> Media:
        """Return a file's media in the shape of the plan, text of kind text; raise DataError or PluginError."""
        with self._errors("read", path):
            media = self.kind.read(path, item)
        if self.name == TEXT:
            return media
        if not isinstance(media, Tensor) or tuple(media.shape) != item.plan.media_shape:
            shape = tuple(media.shape) if isinstance(media, Tensor) else type(media).__name__
            raise self._wrong(f"read gives {shape}, not {item.plan.media_shape}")
        if not bool(media.isfinite().all()):
            raise DataError(f"{path}: holds values that are not finite")
        return media.float()

    def card(self, path: Path, source: str) -> str:
        """Return what a page shows of a file; raise DataError or PluginError."""
        with self._errors("card", path):
            shown: Any = self.kind.card(path, source)
        if not isinstance(shown, str):
            raise self._wrong(f"card gives {type(shown).__name__}, not HTML")
        return shown

    def thumbnail(self, path: Path, width: int) -> Tensor | None:
        """Return a drawing of a file, uint8 (3, H, W), None of a kind that has none; raise DataError or PluginError."""
        if not isinstance(self.kind, Drawing):
            return None
        with self._errors("thumbnail", path):
            drawn = self.kind.thumbnail(path, width)
        if not isinstance(drawn, Tensor) or drawn.dtype != torch.uint8 or drawn.ndim != 3 or len(drawn) != 3:
            raise self._wrong("thumbnail gives no uint8 (3, H, W)")
        return drawn

    def misfit(self, plan: ModalityPlan) -> str:
        """Return why media of a plan cannot be of the kind, empty where they can."""
        return self.kind.misfit(plan) if isinstance(self.kind, Choosy) else ""

    def change(self, path: Path, item: Item) -> str:
        """Return what reading changes of a file, empty where that is nothing."""
        with self._errors("change", path):
            return self.kind.change(path, item) if isinstance(self.kind, Adapting) else ""

    @contextmanager
    def _errors(self, member: str, path: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if exit_code_of(error) != ExitCode.UNEXPECTED:
                raise
            if not self.spec.owner:
                raise DataError(f"{path}: {describe(error)}") from error
            raise self._wrong(f"{member} fails for {path.name}: {describe(error)}") from error

    def _wrong(self, what: str) -> PluginError:
        owner = f"plugin {self.spec.owner}: " if self.spec.owner else ""
        return PluginError(f"{owner}kind {self.name!r}: {what}")


def open_kinds(names: Iterable[str]) -> dict[str, OpenKind]:
    """Return kinds by name; raise PluginError, with names that are close, for one that no plugin provides."""
    registry = load_registry()
    found = {}
    for name in dict.fromkeys(names):
        spec = cast(KindSpec, registry.find(ENTRY, name))
        build: Callable[[], Any] = spec.factory()
        kind = build()
        lacking = [member for member in ("write", "read", "card") if not callable(getattr(kind, member, None))]
        if lacking:
            raise PluginError(f"plugin {spec.owner}: kind {name!r}: {type(kind).__name__} has no {', '.join(lacking)}")
        found[name] = OpenKind(spec, kind)
    return found


def kinds_by_label(
    kinds: Mapping[str, str], plans: Mapping[str, ModalityPlan], texts: Iterable[str] = ()
) -> tuple[dict[str, OpenKind], list[str]]:
    """Return the kind of each modality, and a note for each whose media do not fit theirs: these become vectors.

    `kinds` are names by label; `texts` are the labels whose backbones make strings of their media.
    """
    known, found, notes = open_kinds((*kinds.values(), VECTOR)), {}, []
    speaking = frozenset(texts)
    for label, name in kinds.items():
        silent = name == TEXT and label not in speaking
        why = "its backbone has no to_text" if silent else known[name].misfit(plans[label])
        found[label] = known[VECTOR if why else name]
        notes += [f"{label}: written as a vector, not as {name}: {why}"] if why else []
    return found, notes


def kind_of_file(path: Path) -> str | None:
    """Return the kind whose files end as this one, None where none or several do."""
    entries = [cast(KindSpec, spec) for _, spec in load_registry().entries(ENTRY)]
    writing = [spec.name for spec in entries if _ends(path, (spec.suffix,))]
    reading = [spec.name for spec in entries if _ends(path, (spec.suffix, *spec.reads))]
    named = writing if len(writing) == 1 else reading
    return named[0] if len(named) == 1 else None


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    # Not by Path.suffix, which is .json of a.notes.json.
    return path.name.lower().endswith(tuple(suffix.lower() for suffix in suffixes))


def _removed_beside(part: Path) -> list[Path]:
    """Remove what a writer has left under the name of its temporary file with another ending, and return it."""
    stem = part.name.partition(".part")[0]
    others = [other for other in part.parent.iterdir() if other != part and other.name.startswith(f"{stem}.")]
    for other in others:
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    return others
