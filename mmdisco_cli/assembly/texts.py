"""Texts that are longer than a text encoder reads, counted before any is encoded."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mmdisco_cli.assembly.models import Assembly, Prompts
from mmdisco_cli.diffusion.backbone import Base, Unread, unread

SHOWN = 40
"""Characters of a text that a line shows."""


def unread_lines(assembly: Assembly, texts: Prompts, what: str = "caption") -> list[str]:
    """Return a line for each text encoder that does not read all of some texts (N,), which may differ by modality.

    The models then do not warn of each of these texts when it is encoded. `what` is what one of them is called.
    """
    found = []
    for label, base in assembly.models.items():
        rows = _rows(base, texts)
        known = list(dict.fromkeys(text for row in rows for text in row if text))
        cut = {text: end for text, end in zip(known, unread(base.backbone, known), strict=True) if end is not None}
        limits: dict[int, list[str]] = defaultdict(list)
        for row in rows:
            if long := [text for text in row if text in cut]:
                limits[cut[long[0]].tokens].append(long[0])
        found += [_line(label, tokens, long, cut[long[0]], what) for tokens, long in limits.items()]
    return found


def _rows(base: Base, texts: Prompts) -> list[tuple[str, ...]]:
    """Return the texts that a model is given for each sample."""
    if not isinstance(texts, Mapping):
        return [(text,) for text in texts]
    return list(zip(*(texts[m] for m in base.modalities if m in texts), strict=True))


def _line(label: str, tokens: int, long: Sequence[str], first: Unread, what: str) -> str:
    one = len(long) == 1
    subject = f"1 {what} is" if one else f"{len(long)} {what}s are"
    rest, shown = "it" if one else "them", f"{_short(first.text)!r} in {_short(long[0])!r}"
    return (
        f"{subject} longer than the {tokens} tokens that {label}'s text encoder reads; "
        f"the rest of {rest} is not seen, as {shown}"
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
