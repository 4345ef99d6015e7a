"""Texts that are longer than a text encoder reads, counted before any is encoded."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mmdisco_cli.assembly.models import Assembly, Prompts
from mmdisco_cli.diffusion.backbone import Base, unread

SHOWN = 40
"""Characters of a text that a line shows."""


def unread_lines(assembly: Assembly, texts: Prompts, what: str = "caption") -> list[str]:
    """Return a line for each text encoder that does not read all of some texts (N,), which may differ by modality.

    The models then do not warn of each of these texts when it is encoded. `what` is what one of them is called.
    """
    found = []
    for label, base in assembly.models.items():
        known = _known(base, texts)
        limits: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for text, end in zip(known, unread(base.backbone, known), strict=True):
            if end is not None:
                limits[end.tokens].append((text, end.text))
        found += [_line(label, tokens, cut, what) for tokens, cut in limits.items()]
    return found


def _known(base: Base, texts: Prompts) -> list[str]:
    """Return the different texts that a model is given: a clip cut into several windows has one."""
    parts = [texts[m] for m in base.modalities if m in texts] if isinstance(texts, Mapping) else [texts]
    return list(dict.fromkeys(text for part in parts for text in part if text))


def _line(label: str, tokens: int, cut: Sequence[tuple[str, str]], what: str) -> str:
    one, (text, end) = len(cut) == 1, cut[0]
    subject = f"1 {what} is" if one else f"{len(cut)} {what}s are"
    rest, shown = "it" if one else "them", f"{_short(end)!r} in {_short(text)!r}"
    return (
        f"{subject} longer than the {tokens} tokens that {label}'s text encoder reads; "
        f"the rest of {rest} is not seen, as {shown}"
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
