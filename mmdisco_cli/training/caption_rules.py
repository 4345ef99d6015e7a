"""Checks of a recipe with captions, as one-line errors before anything is computed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.assembly.texts import unread_lines
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.pairing import Captions, Partners, captions_of

LOOKED_AT = 4096
"""Clips that are looked at to decide whether a data set has captions."""


def require_captions(assembly: Assembly, captions: Captions | None) -> None:
    """Raise UsageError where a discriminator would be given prompts that no caption teaches it to read."""
    if captions is None and (shown := assembly.prompt_backbones):
        raise UsageError(
            f"{shown}: the discriminator would be shown prompts, but training has no captions to teach it what they "
            "mean: train with pooled: false"
        )


def require_none_shown(assembly: Assembly, report: Sequence[str], say: Callable[[str], None]) -> None:
    """Require of data without captions that none are needed; lines of their report may say why there are none."""
    try:
        require_captions(assembly, None)
    except UsageError:
        for line in report:
            say(line)
        raise


def require_texts_fit(recipe: Recipe, assembly: Assembly, captions: Captions, batch: int) -> None:
    """Raise UsageError where fakes could not have the captions of the real tuples.

    `batch` is that of a rank. Re-pairing needs clips of one condition: a label, equal captions, or no text at all.
    """
    config, parts = recipe.train, len(assembly.modalities)
    if config.fakes != "shuffled" or not config.lambda_disc:
        return
    if _can_be_paired(captions, parts):
        return
    if not config.text_dropout:
        raise UsageError(
            "train.fakes: shuffled re-pairs clips of one label or of equal captions, and no two of these have either; "
            "use train.fakes=generated, data with labels, or train.text_dropout above 0"
        )
    if batch < 2 * parts:
        raise UsageError(
            f"train.batch_size: shuffled fakes of captions that no two clips share need at least {2 * parts} tuples a "
            f"rank, not {batch}"
        )


def require_an_end(recipe: Recipe, length: int | None) -> None:
    """Raise UsageError where fakes would have to be generated for captions of clips that never end."""
    config = recipe.train
    if config.fakes != "shuffled" and not config.bank and length is None:
        raise UsageError(
            f"train.bank: 0 draws ever new clips, for whose captions {config.fakes} fakes would have to be made "
            "without end: give how many, as 4096, or use train.fakes=shuffled"
        )


def _can_be_paired(captions: Captions, parts: int) -> bool:
    return bool((captions.missing | (Partners(captions.keys, captions.sources).sizes >= parts)).any())


def caption_inputs(captions: Captions, recipe: Recipe) -> dict[str, Any]:
    """Return what a training with captions depends on beside its recipe's own sections.

    These keys are not among those: a training without captions does not depend on them, and goes on as it was.
    """
    config = recipe.train
    used = {"captions": captions.fingerprint, "train.text_dropout": config.text_dropout}
    return used | ({"train.fake_cfg": config.fake_cfg} if config.fakes != "shuffled" else {})


def caption_notes(recipe: Recipe, assembly: Assembly, captions: Captions | None, clips: Dataset) -> list[str]:
    """Return lines on the captions that training draws from, None where it has none, and on what is lost of them."""
    if captions is None:
        return _unused_captions(assembly, clips)
    found = [f"captions: {about_captions(captions)}"]
    if recipe.train.fakes != "generated" and recipe.train.lambda_disc and (labels := differing_labels(captions)):
        one = "1 label has clips" if labels == 1 else f"{labels} labels have clips"
        found.append(
            f"note: {one} of different texts: a tuple re-paired within it carries the text of one of them, so that the "
            "discriminator also learns whether the other fits that text; train.fakes=generated does without"
        )
    return found + [f"warning: {line}" for line in unread_lines(assembly, captions.texts)]


def _unused_captions(assembly: Assembly, clips: Dataset) -> list[str]:
    """Return a note where clips have captions that no model takes; only a few clips are looked at."""
    few = range(min(LOOKED_AT, clips.length or LOOKED_AT))
    if captions_of(clips, few, tuple(assembly.modalities)) is None or assembly.reads_prompts:
        return []
    return ["note: the captions of the clips are not used: no backbone of this recipe takes any prompts"]


def differing_labels(captions: Captions) -> int:
    """Return how many labels have clips of different texts, those without a text left out."""
    texts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    rows = list(zip(*captions.texts.values(), strict=True))
    for label, row in zip(captions.labels, rows, strict=False):
        if label and any(row):
            texts[label].add(row)
    return sum(len(found) > 1 for found in texts.values())


def about_captions(captions: Captions) -> str:
    """Return how many clips have texts, and how many conditions they share."""
    empty, labelled = int(captions.missing.sum()), sum(map(bool, captions.labels))
    parts = [f"{len(captions) - empty} clips", f"{len(set(zip(*captions.texts.values(), strict=True)))} texts"]
    parts += [f"{labelled} with one of {len({*captions.labels} - {''})} labels"] if labelled else []
    parts += [f"{empty} without a text, which see the empty one"] if empty else []
    return ", ".join(parts)
