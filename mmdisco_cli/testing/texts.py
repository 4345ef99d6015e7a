"""Checks of a modality of kind text: strings from media, and media from strings."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmdisco_cli.diffusion.backbone import TEXT, Base, State, text_decoder, text_encoder
from mmdisco_cli.testing.expecting import expect, expect_close, expect_state, noise, row, unchanged

Strings = dict[str, list[str]]


def check_text(base: Base, batch: int, tolerance: float) -> None:
    """Expect media of kind text to become one string for each sample, in any batch, and the reverse."""
    names = [name for name, info in base.modalities.items() if info.kind == TEXT]
    if not names:
        return
    expect(text_decoder(base.backbone) is not None, f"{names[0]}: is of kind text without a member to_text")
    media = {m: x for m, x in _decoded(base, batch).items() if m in names}
    said = _said(base, media, batch)
    expect(_said(base, media, batch) == said, "to_text gives two answers to one question")
    for i in range(batch):
        alone = {name: [texts[i]] for name, texts in said.items()}
        expect(_said(base, row(media, i), 1) == alone, f"sample {i} says something else alone")
    if text_encoder(base.backbone) is not None:
        _check_way_back(base, media, said, tolerance)


def _check_way_back(base: Base, media: State, said: Strings, tolerance: float) -> None:
    found = _written(base, said)
    expect_state(found, media, "from_text")
    batch = len(next(iter(media.values())))
    expect(_said(base, found, batch) == said, "to_text does not give back what from_text was given")
    for i in range(batch):
        alone = _written(base, {name: [texts[i]] for name, texts in said.items()})
        expect_close(alone, row(found, i), tolerance, f"text {i} becomes other media alone")


def _decoded(base: Base, batch: int) -> State:
    latents = noise({name: plan.latent_shape for name, plan in base.plan.modalities.items()}, batch)
    return base.backbone.decode(latents, base.plan)


def _said(base: Base, media: State, batch: int) -> Strings:
    decoder = text_decoder(base.backbone)
    given: dict[str, Any] = {}

    def call() -> dict[str, Tensor]:
        given.update(decoder.to_text(media, base.plan) if decoder else {})
        return {}

    unchanged(call, media)
    expect(set(given) == set(media), f"to_text gives {sorted(given)}, not {sorted(media)}")
    for name, texts in given.items():
        listed = isinstance(texts, Sequence) and not isinstance(texts, str)
        right = listed and all(isinstance(text, str) for text in texts)
        expect(right and len(texts) == batch, f"{name}: to_text gives {texts!r}, not one string for each of {batch}")
    return {name: list(texts) for name, texts in given.items()}


def _written(base: Base, texts: Strings) -> State:
    encoder = text_encoder(base.backbone)
    return encoder.from_text(texts, base.plan) if encoder else {}
