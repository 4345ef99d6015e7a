"""What a text encoder leaves out of a prompt is named: those words change nothing, and the word before them does."""

import logging
import re

import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from test_against_pipelines import request_of
from tiny import BUILDERS, clip_tokenizer, roberta_tokenizer, t5_tokenizer

from mmdisco_cli.diffusion.backbone import Payload, Request
from mmdisco_diffusers import tokens
from mmdisco_diffusers.tokens import truncated_texts, without_own_warnings

WORDS = [f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrst"]
LONG = " ".join(WORDS)  # in tiny vocabularies every letter is a token


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    tokens._said.clear()
    # In the tiny vocabulary, where a letter is a token, the template alone would be more than is read.
    monkeypatch.setitem(DEFAULT_PROMPT_TEMPLATE, "template", "{}")
    monkeypatch.setitem(DEFAULT_PROMPT_TEMPLATE, "crop_start", 0)


def condition(model, prompt: str, request: Request) -> Payload:
    found = model.encode_prompt([prompt], None, model.plan(request))
    return found if isinstance(found, dict) else {"": found}


def same(a, b) -> bool:
    return all(torch.equal(a[m].positive[key], b[m].positive[key]) for m in a for key in a[m].positive)


@pytest.mark.parametrize("family", [*BUILDERS, "ltx2"])
def test_the_words_that_are_named_are_those_that_change_nothing(family, backbone, capsys):
    model = backbone(family)
    request = Request(frames=9, fps=8, height=64, width=64) if family == "ltx2" else request_of(family)
    text = " ".join([LONG] * 2)
    whole = condition(model, text, request)
    said = [line for line in capsys.readouterr().err.splitlines() if "leaves out" in line]
    tails = [
        re.fullmatch(r"warning: \w+ reads \d+ tokens of a prompt, which leaves out '(.*)'", line)[1] for line in said
    ]
    assert len(said) == (2 if family in ("audioldm2", "hunyuan-video") else 1)
    assert all(tail and text.endswith(tail) for tail in tails)
    shortest = min(map(len, tails))
    kept, left = text[: len(text) - shortest], text[len(text) - shortest :]
    assert same(whole, condition(model, kept + left[:-1] + "!", request))
    last = kept.rstrip()[-1]
    assert not same(whole, condition(model, kept.rstrip()[:-1] + ("z" if last != "z" else "y") + " " + left, request))
    condition(model, text, request)
    assert not [line for line in capsys.readouterr().err.splitlines() if line in said], "said once"


@pytest.mark.parametrize("family", [*BUILDERS, "ltx2"])
def test_what_is_left_out_is_known_before_and_then_not_warned_of(family, backbone, capsys):
    model = backbone(family)
    request = Request(frames=9, fps=8, height=64, width=64) if family == "ltx2" else request_of(family)
    text = " ".join([LONG] * 2)
    fits, cut, again = model.unread(["a cat", text, text])
    assert fits is None
    assert cut == again
    condition(model, text, request)
    assert [line for line in capsys.readouterr().err.splitlines() if "leaves out" in line] == []
    tokens._said.clear()
    condition(model, text + " or another", request)
    said = [line for line in capsys.readouterr().err.splitlines() if "leaves out" in line]
    longest = max(
        (re.search(r"reads (\d+) tokens .* leaves out '(.*)'", line).groups() for line in said), key=lambda x: len(x[1])
    )
    assert (str(cut.tokens), f"{cut.text} or another") == longest


@pytest.mark.parametrize("family", BUILDERS)
def test_a_prompt_that_fits_is_not_spoken_of(family, backbone, capsys):
    condition(backbone(family), "a cat", request_of(family))
    said = [line for line in capsys.readouterr().err.splitlines() if "leaves out" in line]
    assert said == []


def test_a_negative_prompt_is_reported_too(backbone, capsys):
    model = backbone("animatediff")
    model.encode_prompt(["a", "b"], [LONG, LONG], model.plan(request_of("animatediff")))
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("tokenizer", "text", "length", "left"),
    [
        (clip_tokenizer, "a b c d e f", 8, ""),
        (clip_tokenizer, "a b c d e f g", 8, "g"),
        (clip_tokenizer, "A b c d e f g\nH", 8, "g h"),
        (clip_tokenizer, "", 8, ""),
        (roberta_tokenizer, "abcdefgh", 10, ""),
        (roberta_tokenizer, "abcdefghi", 10, "i"),
        (t5_tokenizer, "abcdef", 8, ""),
        (t5_tokenizer, "abcdefgh", 8, "gh"),
    ],
)
def test_the_end_is_what_does_not_fit_beside_the_marks(tokenizer, text, length, left):
    made = tokenizer()
    assert truncated_texts(made, ["a", text], length) == ["", left]
    kept = made(text, max_length=length, truncation=True).input_ids
    assert (made(text).input_ids == kept) == (left == "")


def test_a_pipeline_does_not_say_it_again_and_may_later(caplog):
    class Pipeline: ...

    log = logging.getLogger(Pipeline.__module__)
    with without_own_warnings(Pipeline()):
        log.warning("cut")
    assert caplog.messages == []
    log.warning("cut")
    assert caplog.messages == ["cut"]
