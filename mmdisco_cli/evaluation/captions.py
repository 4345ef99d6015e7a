"""Texts that the rows of a report share: samples are made for the captions of held-out clips, row by row.

Real, independent and guided clips then differ in how they were made, but not in their texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from mmdisco_cli.assembly import assemble
from mmdisco_cli.data.clips import ClipsDataset
from mmdisco_cli.data.manifest import complete_rows, read_settings
from mmdisco_cli.evaluation.real_clips import RealSet, halves
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.options import EvalOptions

Text = Mapping[str, str]
"""The text of one clip by modality."""


@dataclass(frozen=True)
class Texts:
    """The prompts of samples, in turn, and texts by modality where these differ from the prompt."""

    prompts: tuple[str, ...] = ()
    captions: tuple[Text, ...] = ()


@dataclass(frozen=True)
class SharedTexts:
    """The real row of a report, one clip for each sample, and the texts that samples are made of.

    `rows` are those of the samples one by one. `own` says that samples are made for them, and not found in a folder;
    `agrees` that every sample has the text of its real clip. `clips` counts the files that the real row is of.
    """

    real: RealSet
    texts: Texts
    rows: Sequence[Text]
    own: bool = True
    agrees: bool = True
    clips: int = 0
    whose: str = "held-out clips"

    @property
    def n(self) -> int:
        """Return how many samples there are in a row."""
        return len(self.real.indices)

    @property
    def line(self) -> str:
        """Say in a sentence which texts the samples have."""
        if self.agrees:
            return f"samples are of the captions of {self.clips} {self.whose}, which are the row real"
        return f"samples are of other texts than the {self.whose} in the row real"


@dataclass
class _Unused:
    """Clips by text, each to be taken once."""

    places: dict[tuple[tuple[str, str], ...], list[int]] = field(default_factory=dict)

    def add(self, text: Text, index: int) -> None:
        self.places.setdefault(_key(text), []).append(index)

    def take(self, text: Text) -> int | None:
        found = self.places.get(_key(text))
        return found.pop(0) if found else None


def described(dataset: ClipsDataset) -> list[int]:
    """Return the windows that have a text for any modality; of those that show the same, which differ in text, one."""
    places: dict[object, int] = {}
    for index, window in enumerate(dataset.windows):
        if window.row is not None and window.row.captioned:
            places.setdefault(window.place, index)
    return list(places.values())


def texts_of(dataset: ClipsDataset, indices: Sequence[int], modalities: Sequence[str]) -> list[Text]:
    """Return the texts of some windows, each by modality."""
    found = dataset.captions(indices, modalities)
    return [{m: found[m][place] for m in modalities} for place in range(len(indices))]


def as_prompts(texts: Sequence[Text]) -> Texts:
    """Return texts as `mmdisco sample` takes them: a prompt each, with texts by modality where these differ."""
    own = [text if len(set(text.values())) > 1 else {} for text in texts]
    return Texts(tuple(map(shown, texts)), tuple(own) if any(own) else ())


def captioned(recipe: Recipe, dataset: ClipsDataset) -> list[int]:
    """Return the windows whose captions samples can be made for; none where no model of the recipe takes prompts.

    Raises:
        UsageError, DataError, PluginError: as for `assemble`.
    """
    found = described(dataset)
    if len(found) < 2:
        return []
    if assemble(recipe, torch.device("cpu"), with_discriminator=False).reads_prompts:
        return found
    console.note("the captions of the clips are not used: no backbone of this recipe takes any prompts")
    return []


def share_texts(
    recipe: Recipe, options: EvalOptions, dataset: ClipsDataset, windows: Sequence[int], found: Sequence[Path] | None
) -> tuple[SharedTexts, RealSet]:
    """Return the real row of these windows with the texts that samples share with it, and what it is compared with.

    Samples `found` in a folder have texts already: their real clips are chosen after these.
    """
    side, second = halves(dataset, len(windows), windows)
    wanted = min(len(found), recipe.eval.n) if found else recipe.eval.n
    n = min(wanted, len(side.indices))
    if n < wanted:
        console.warn(
            f"{len(windows)} held-out clips with captions, every other one of them for comparison: so {n} samples a "
            f"row instead of {wanted}"
        )
    source = f"clips in {options.reference}" if options.reference else "held-out clips"
    if found and options.samples:
        shared = _of_found(side, found[:n], options.samples, recipe.modalities, dataset)
    else:
        texts = texts_of(dataset, side.indices, recipe.modalities)
        # Those of all, so that more samples later are only more of the same.
        shared = SharedTexts(replace(side, indices=side.indices[:n]), as_prompts(texts), texts[:n])
    return replace(shared, clips=_files(dataset, shared.real.indices), whose=source), replace(
        second, indices=second.indices[:n]
    )


def _of_found(
    side: RealSet, found: Sequence[Path], folder: Path, modalities: Sequence[str], dataset: ClipsDataset
) -> SharedTexts:
    """Return a clip of that side for each sample found in a folder, of the same text by its manifest; warn where none.

    The independent samples beside them get the prompts that these were made with.
    """
    unused, texts = _Unused(), texts_of(dataset, side.indices, modalities)
    for index, text in zip(side.indices, texts, strict=True):
        unused.add(text, index)
    known = manifest_texts(folder, modalities)
    taken = [unused.take(known[path]) if path in known else None for path in found]
    places = [index for index in taken if index is not None]
    if agrees := len(places) == len(found):
        real = replace(side, indices=places)
    else:
        _warn(folder, found, taken, known)
        real = replace(side, indices=side.indices[: len(found)])
    if not known:
        return SharedTexts(real, as_prompts(texts), [{} for _ in found], agrees=False)
    return SharedTexts(real, prompts_of(folder), [known.get(path, {}) for path in found], own=False, agrees=agrees)


def manifest_texts(folder: Path, modalities: Sequence[str]) -> dict[Path, Text]:
    """Return the text of each sample that a folder's manifest lists, by modality; empty where it had no prompt."""
    found: dict[Path, Text] = {}
    for row in complete_rows(folder):
        own, prompt = row.get("captions") or {}, row.get("prompt") or ""
        found[folder / str(row["path"])] = {m: str(own.get(m, prompt)) for m in modalities}
    return found


def texts_in(folder: Path) -> list[tuple[Path, str]]:
    """Return the samples that a folder's manifest lists, with what each was made of, in one line."""
    rows = complete_rows(folder)
    return [(folder / str(row["path"]), shown(row.get("captions") or {"": row.get("prompt") or ""})) for row in rows]


def prompts_of(folder: Path) -> Texts:
    """Return the prompts that the samples of a folder were made with, in turn."""
    settings = read_settings(folder) or {}
    prompts, captions = settings.get("prompts"), settings.get("captions")
    return Texts(tuple(map(str, prompts or ())), tuple(captions or ()))


def shown(text: Text) -> str:
    """Return a text in one line."""
    return " / ".join(filter(None, dict.fromkeys(text.values())))


def _warn(folder: Path, found: Sequence[Path], taken: Sequence[int | None], known: Mapping[Path, Text]) -> None:
    if not known:
        console.warn(f"{folder}: no manifest says of which texts these samples are: rows may not share theirs")
        return
    bare = [path for path, index in zip(found, taken, strict=True) if index is None]
    first = shown(known.get(bare[0], {}))
    console.warn(
        f"{folder}: {len(bare)} of {len(found)} samples are not of the caption of a real clip of their own (as "
        f"{bare[0].name} of {first!r}), so rows do not share their texts"
    )


def _files(dataset: ClipsDataset, indices: Sequence[int]) -> int:
    return len({dataset.windows[index].name for index in indices})


def _key(text: Text) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((m, " ".join(value.split())) for m, value in text.items()))
