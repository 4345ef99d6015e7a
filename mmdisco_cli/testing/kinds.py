"""Checks of a kind of modality: files that hold what was written, and a card that is safe to show."""

import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.kinds.contract import Adapting, Choosy, Drawing, Item, Kind, Media
from mmdisco_cli.testing.expecting import expect, undrawn

VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))
"""Elements of HTML that are never closed."""
ABOUT = {"title": "a <b>title</b> & 'more'", "seed": "7"}


def check_files(kind: Kind, suffix: str, media: Media, plan: ModalityPlan) -> None:
    """Expect media to be written, read again in the shape of the plan, and shown."""
    item = Item("label <b>", plan, ABOUT)
    expect(not isinstance(kind, Choosy) or kind.misfit(plan) == "", "media of its own plan do not fit it")
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder) / f"{name} <b> & 'x'{suffix}" for name in ("a", "b"))
        _written(kind, first, media, item)
        found = _read(kind, first, item, media)
        expect(_holds(found, media), "what is read is not what was written")
        _written(kind, second, media, item)
        expect(set(Path(folder).iterdir()) == {first, second}, "write writes other files than the one that it is given")
        expect(first.read_bytes() == second.read_bytes(), "the same media give other bytes the second time")
        expect(not isinstance(kind, Adapting) or kind.change(first, item) == "", "its own files are said to be changed")
        _check_card(kind, first)
        _check_thumbnail(kind, first)


def _written(kind: Kind, path: Path, media: Media, item: Item) -> None:
    before = media.clone() if isinstance(media, Tensor) else media
    undrawn(lambda: kind.write(path, media, item))
    expect(path.is_file(), "write writes no file")
    expect(_same(media, before), "the caller's media were written to")


def _read(kind: Kind, path: Path, item: Item, like: Media) -> Media:
    found: Any = undrawn(lambda: kind.read(path, item))
    expect(isinstance(found, type(like)), f"read gives {type(found).__name__}, not {type(like).__name__}")
    if isinstance(found, Tensor):
        shape = tuple(found.shape)
        expect(shape == item.plan.media_shape, f"read gives {shape}, not {item.plan.media_shape}")
        expect(found.dtype == torch.float32, f"read gives {found.dtype}, not torch.float32")
        expect(bool(found.isfinite().all()), "read gives values that are not finite")
    media: Media = found
    return media


def _same(one: Media, other: Media) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def _holds(found: Media, media: Media) -> bool:
    """Return whether media were read back: a text exactly, a tensor with less error than its mean would have."""
    if isinstance(found, Tensor) and isinstance(media, Tensor):
        return bool((found - media).abs().mean() <= (media - media.mean()).abs().mean())
    return found == media


def _check_thumbnail(kind: Kind, path: Path) -> None:
    for width in (100, 460) if isinstance(kind, Drawing) else ():
        drawn: Any = kind.thumbnail(path, width)  # type: ignore[attr-defined]
        right = isinstance(drawn, Tensor) and drawn.dtype == torch.uint8 and drawn.ndim == 3
        expect(right and drawn.shape[::2] == (3, width), f"thumbnail is not uint8 (3, H, {width})")


class _Tags(HTMLParser):
    """Notes the elements of some HTML, those that are open, and whether one is closed that is not the last opened."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.open: list[str] = []
        self.crossed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.open += [tag] if tag not in VOID else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        self.crossed |= not self.open or self.open.pop() != tag


def _check_card(kind: Kind, path: Path) -> None:
    shown: Any = kind.card(path, "a%20b.x")
    expect(isinstance(shown, str) and bool(shown), f"card gives {shown!r}, not HTML")
    tags = _Tags()
    tags.feed(shown)
    expect("b" not in tags.names, "card does not escape what comes from the file")
    expect("script" not in tags.names, "card has a script")
    expect(not tags.open and not tags.crossed, "card does not close what it opens, and only that")
