"""Checks of a data set: the same clip for the same index, separate training and held-out parts, and texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mmdisco_cli.assembly.trial import DATASET, RANGED, expect_clips, expect_members, expect_part
from mmdisco_cli.data.contract import Captioned, Compact, Dataset, Labelled, Sourced, SplitDataset, as_float
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.errors import DataError
from mmdisco_cli.testing.expecting import expect, expect_close, row, undrawn

UNKNOWN = "no such modality"
Shapes = Mapping[str, tuple[int, ...]]


def parts_of(make: Callable[[], SplitDataset]) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a data set, and a remark on a part for which there are too few clips."""
    whole = make()
    expect_members(expect, whole, DATASET)
    parts, notes = {}, []
    for name in ("train", "heldout"):
        try:
            part = whole.split(name)
        except DataError as error:
            expect(name != "train", f"there is nothing to train on ({error})")
            notes.append(f"heldout: {error}; nothing of it was checked")
            continue
        expect_members(expect, part, [member for member in DATASET if member != "split"])
        expect_part(expect, part)
        expect(bool(part.fingerprint), "the fingerprint is empty")
        parts[name] = part
    return parts, notes


def check_media(part: Dataset, indices: Sequence[int], shapes: Shapes, tolerance: float) -> None:
    """Expect each index to give one clip, alone or beside others, in all modalities or in one."""
    together = media(part, indices, shapes)
    expect_close(media(part, indices, shapes), together, tolerance, "one index gives two clips")
    turned = media(part, indices[::-1], shapes)
    expect_close({m: x.flip(0) for m, x in turned.items()}, together, tolerance, "rows do not follow the indices")
    for k, index in enumerate(indices):
        alone = media(part, [index], shapes)
        expect_close(alone, row(together, k), tolerance, f"index {index} gives another clip alone")
    for m in shapes:
        single = media(part, indices, {m: shapes[m]})
        expect_close(single, {m: together[m]}, tolerance, "another clip where it alone is wanted")
    twice = media(part, [indices[0]] * 2, shapes)
    expect_close(row(twice, 1), row(together, 0), tolerance, "an index that is given twice gives two clips")


def check_unknown_modality(part: Dataset) -> None:
    """Expect a modality that does not exist to be left out, or to raise a KeyError with its name."""
    try:
        found = part.media([0], [UNKNOWN])
    except KeyError as error:
        expect(error.args[:1] == (UNKNOWN,), f"an unknown modality raises KeyError{error.args}, not of its name")
        return
    except Exception as error:
        raise AssertionError(f"an unknown modality raises {type(error).__name__}, not KeyError of its name") from error
    expect(UNKNOWN not in found, "media gives a modality that does not exist")


def check_same(part: Any, other: Any, indices: Sequence[int], shapes: Shapes, tolerance: float) -> None:
    """Expect the same part, built again, to hold the same clips under the same name."""
    expect(part.fingerprint == part.fingerprint, "the fingerprint changes from call to call")
    expect(part.fingerprint == other.fingerprint, "the fingerprint changes from one building to the next")
    expect(part.length == other.length, "the length changes from one building to the next")
    found, expected = media(other, indices, shapes), media(part, indices, shapes)
    expect_close(found, expected, tolerance, "one index gives another clip where the data set is built again")
    for name, text in texts_of(part, indices, shapes).items():
        again = texts_of(other, indices, shapes).get(name)
        expect(text == again, f"{name} change where the data set is built again")


def check_apart(train: Any, heldout: Any, numbers: Mapping[str, Sequence[int]], shapes: Shapes) -> None:
    """Expect no clip of one part in the other, and parts whose names differ."""
    expect(train.fingerprint != heldout.fingerprint, "train and heldout have one fingerprint")
    ours, theirs = media(train, numbers["train"], shapes), media(heldout, numbers["heldout"], shapes)
    for i in range(len(numbers["train"])):
        for j in range(len(numbers["heldout"])):
            same = all(torch.equal(ours[m][i], theirs[m][j]) for m in shapes)
            expect(not same, f"clip {numbers['train'][i]} of train is clip {numbers['heldout'][j]} of heldout")


def check_texts(part: Any, indices: Sequence[int], shapes: Shapes) -> None:
    """Expect captions, labels and sources, if any, to be one text for each clip, in any batch."""
    together = texts_of(part, indices, shapes)
    expect(texts_of(part, indices, shapes) == together, "captions or labels change from call to call")
    for k, index in enumerate(indices):
        alone = texts_of(part, [index], shapes)
        for name, texts in together.items():
            expect(alone[name] == [texts[k]], f"{name}: index {index} has another text alone")
    for m in shapes if isinstance(part, Captioned) else ():
        single = part.captions(indices, [m])
        expect(set(single) == {m}, f"captions of {m} alone give {sorted(single)}")
        expect(list(single[m]) == together[f"captions of {m}"], f"captions of {m} are others where it alone is wanted")


def texts_of(part: Any, indices: Sequence[int], shapes: Shapes) -> dict[str, list[str]]:
    """Return captions by modality, labels and sources of some clips, as far as it has any, by name."""
    found: dict[str, Any] = {}
    if isinstance(part, Captioned):
        captions = part.captions(indices, list(shapes))
        expect(isinstance(captions, Mapping), f"captions gives {type(captions).__name__}, not a mapping of modalities")
        expect(set(captions) == set(shapes), f"captions gives {sorted(captions)}, not {sorted(shapes)}")
        found = {f"captions of {m}": texts for m, texts in captions.items()}
    if isinstance(part, Labelled):
        found["labels"] = part.labels(indices)
    if isinstance(part, Sourced):
        found["sources"] = part.sources(indices)
    for name, texts in found.items():
        listed = isinstance(texts, Sequence) and not isinstance(texts, str)
        right = listed and all(isinstance(text, str) for text in texts)
        expect(right, f"{name} are {texts!r}, not a sequence of texts")
        expect(len(texts) == len(indices), f"{name} are {len(texts)} texts for {len(indices)} clips")
    return {name: list(texts) for name, texts in found.items()}


def media(part: Dataset, indices: Sequence[int], shapes: Shapes) -> State:
    """Return the media of some clips in some modalities, and expect their form."""
    found: Any = undrawn(lambda: part.media(indices, list(shapes)))
    expect(isinstance(found, Mapping), f"media gives {type(found).__name__}, not a mapping of modalities")
    absent = [m for m in shapes if m not in found]
    expect(not absent, f"media gives no {' and no '.join(absent)}")
    for m, shape in shapes.items():
        expect_clips(expect, m, found[m], len(indices), m in RANGED)
        given = tuple(found[m].shape[1:])
        expect(given == tuple(shape), f"media of {m} are {given}, not {tuple(shape)}")
        expect(found[m].dtype == torch.float32, f"media of {m} are {found[m].dtype}, not torch.float32")
    if isinstance(part, Compact):
        compact = part.compact(indices, list(shapes))
        same = all(torch.equal(as_float(compact[m]), found[m]) for m in shapes)
        expect(same, "media are not what `compact` gives, converted by `as_float`")
    return {m: found[m] for m in shapes}
