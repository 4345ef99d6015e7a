"""The conformance kit holds a modality to the layout of its kind, and a text to its strings."""

from dataclasses import dataclass

import pytest
import torch

from mmdisco_cli.diffusion.backbone import (
    Condition,
    ModalityInfo,
    ModalityPlan,
    as_joint,
    text_decoder,
    text_encoder,
)
from mmdisco_cli.diffusion.schedules import cosine
from mmdisco_cli.testing import check_backbone

WORDS = ("zero", "one", "two", "three")


class Still:
    """The ideal denoiser of standard normal data of one shape, whose media are its latents in [-1, 1]."""

    fingerprint = "still"
    shape: tuple[int, ...] = (1, 4, 6)
    kind = "image"
    label = "left"

    @property
    def info(self):
        return ModalityInfo(self.label, "epsilon", self.shape[0], None, kind=self.kind)

    def plan(self, request):
        return ModalityPlan(self.shape, self.shape, None, 0.0)

    def grid(self, steps, plan):
        return cosine().grid(steps)

    def levels_at(self, u, plan):
        return cosine().levels_at(u)

    def encode_prompt(self, prompts, negatives, plan):
        return Condition()

    def predict(self, x, t, condition, plan):
        return cosine().levels_at(t).sigma.reshape(-1, *[1] * (x.ndim - 1)) * x

    def encode(self, media, plan):
        return media

    def decode(self, latent, plan):
        return latent.clamp(-1, 1)


@dataclass(frozen=True)
class Word(Still):
    """One of four words as a vector of scores."""

    kind: str = "text"
    shape: tuple[int, ...] = (4,)

    def to_text(self, media, plan):
        return [WORDS[k] for k in media.argmax(1).tolist()]

    def from_text(self, texts, plan):
        if unknown := [text for text in texts if text not in WORDS]:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(WORDS)}")
        return torch.eye(4)[[WORDS.index(text) for text in texts]]


def test_images_grey_and_coloured_and_words_pass():
    check_backbone(Still())
    check_backbone(type("Coloured", (Still,), {"shape": (3, 4, 6)})())
    check_backbone(Word())


@pytest.mark.parametrize(
    ("label", "kind", "expected"),
    [
        ("audio", "", "audio"),
        ("image", "", "image"),
        ("left", "", "vector"),
        ("left", "image", "image"),
        ("audio", "vector", "vector"),
        ("melody", "piano-roll", "piano-roll"),
    ],
)
def test_a_kind_that_is_not_declared_is_that_of_the_label(label, kind, expected):
    assert ModalityInfo(label, "epsilon", 1, None, kind=kind).kind == expected


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"shape": (2, 4, 6)}, r"left: media of shape \(2, 4, 6\) are not grey or RGB first"),
        ({"shape": (3, 2, 4, 6)}, "are not laid out as image"),
        ({"shape": (3, 4, 6), "kind": "video"}, "are not laid out as video"),
        ({"decode": lambda self, latent, plan: 255 * latent}, r"far outside of \[-1, 1\]"),
    ],
)
def test_an_image_that_is_none_is_named(members, message):
    with pytest.raises(AssertionError, match=message):
        check_backbone(type("Dishonest", (Still,), members)())


def wordy(texts, plan):
    return torch.eye(4)[[WORDS.index(text) for text in texts]]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"to_text": None}, "left: is of kind text without a member to_text"),
        ({"to_text": lambda self, media, plan: "one"}, "not one string for each of 2"),
        ({"to_text": lambda self, media, plan: ["one"]}, "not one string for each of 2"),
        ({"to_text": lambda self, media, plan: [1] * len(media)}, "not one string for each of 2"),
        ({"to_text": lambda self, m, plan: Word.to_text(self, m.mul_(0), plan)}, "the caller's left were written to"),
        (
            {"to_text": lambda self, m, plan: [WORDS[int(m.abs().sum() * 1000) % 4]] * len(m)},
            "says something else alone",
        ),
        ({"from_text": lambda self, texts, plan: torch.zeros(len(texts), 3)}, "from_text gives"),
        (
            {"from_text": lambda self, texts, plan: wordy(texts, plan).roll(1, 1)},
            "to_text does not give back what from_text was given",
        ),
        (
            {"from_text": lambda self, texts, plan: wordy(texts, plan) * (1 + len(texts))},
            "text 0 becomes other media alone",
        ),
    ],
)
def test_a_text_that_keeps_no_promise_is_named(members, message):
    dishonest = type("Dishonest", (Word,), members)
    if members.get("to_text", 0) is None:
        dishonest = type("Silent", (Still,), {"kind": "text", "shape": (4,)})
    with pytest.raises(AssertionError, match=message):
        check_backbone(dishonest())


def test_a_model_of_one_modality_gives_strings_by_its_label():
    joint = as_joint(Word())
    plan = joint.plan(None)
    decoder, encoder = text_decoder(joint), text_encoder(joint)
    media = encoder.from_text({"left": ["two", "zero"]}, plan)
    assert media["left"].argmax(1).tolist() == [2, 0]
    assert decoder.to_text(media, plan) == {"left": ["two", "zero"]}
    assert text_decoder(as_joint(Still())) is None
    assert text_encoder(as_joint(Still())) is None
