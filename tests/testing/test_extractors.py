"""`check_extractor` passes honest extractors and names the first broken promise of any other."""

import itertools
import socket
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from mmdisco_cli.extractors.contract import Audio, AudioVideo, Extractor, Frames, Score
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.measures.distances import Feature
from mmdisco_cli.testing import check_extractor

COUNT = itertools.count()
SOUND = Audio(100, least=0.5)
FRAMES = Frames(lambda frame: torch.from_numpy(frame[:4, :4].copy()).float(), Fraction(5))


def embed(sound):
    found = torch.stack([sound.mean(), sound.std()])[None]
    return {"tone": found, "loud": sound.abs().max()[None]}


def honest(**changes):
    extractor = Extractor("tone-1", SOUND, embed, (Feature("tone", "kd_tone"),), {"of": "tones"}, (Score("loud"),))
    return replace(extractor, **changes)


def test_an_honest_extractor_passes():
    check_extractor(honest)


@pytest.mark.parametrize(
    "wants",
    [
        FRAMES,
        replace(FRAMES, fps=None, least=3),
        replace(FRAMES, most=4),
        replace(FRAMES, moments=lambda seconds: [0.1 * k for k in range(int(seconds / 0.4))], least=2),
    ],
)
def test_frames_come_as_they_are_wanted(wants):
    numbers = []

    def look(frames):
        numbers.append(len(frames))
        return {"tone": frames.flatten(1).mean(0)[None]}

    check_extractor(lambda: honest(wants=wants, embed=look, scores=()))
    assert min(numbers) >= wants.least
    assert max(numbers) <= (wants.most or 1000)


def test_frames_and_sound_come_together():
    def both(frames, sound):
        return {"tone": torch.stack([frames.mean(), sound.mean()])[None]}

    check_extractor(lambda: honest(wants=AudioVideo(FRAMES, SOUND), embed=both, scores=()))


def test_one_with_weights_passes():
    pytest.importorskip("efficientnet_lite_pytorch")
    from mmdisco_cli.extractors.effnet import build

    check_extractor(lambda: build(ExtractorOptions()), seconds=0.3)


def ask_the_network():
    try:
        socket.getaddrinfo("example.invalid", 80)
    except OSError:
        return 0
    return 0


def found(change):
    """Return one that finds what `change` makes of what an honest one finds, and of the sound."""
    return lambda: honest(embed=lambda sound: change(embed(sound), sound))


def vectors(change):
    return found(lambda one, sound: one | {"tone": change(one["tone"], sound)})


def scores(change):
    return found(lambda one, sound: one | {"loud": change(one["loud"], sound)})


def remembering():
    last = []
    return honest(embed=lambda sound: embed(sound) | {"tone": embed(sound)["tone"] + (last.append(sound) or len(last))})


def drawn():
    scale = next(COUNT)
    return honest(embed=lambda sound: embed(sound) | {"tone": embed(sound)["tone"] + scale})


def writing(frame):
    frame[:] = 0
    return torch.zeros(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dict, "build gives dict, not an Extractor"),
        (lambda: honest(name=""), "the name is empty"),
        (lambda: honest(name=f"tone-{next(COUNT)}"), "the name, under which results are kept, is another"),
        (lambda: honest(features=(), scores=(), embed=lambda sound: {}), "neither features nor scores"),
        (lambda: honest(scores=(Score("tone"),)), "two features or scores have one key: tone, tone"),
        (lambda: honest(features=(Feature("tone", "kd", scale="log"),)), "tone: unknown scale 'log'"),
        (lambda: honest(about={"weights": torch.ones(1)}), "about cannot be written as JSON"),
        (lambda: honest(scores=(Score("loud", {"of": {1}}),)), "about cannot be written as JSON"),
        (found(lambda one, sound: {"tone": one["tone"]}), r"embed gives \['tone'\], not \['loud', 'tone'\]"),
        (found(lambda one, sound: one | {"more": one["loud"]}), r"embed gives \['loud', 'more', 'tone'\], not"),
        (vectors(lambda x, sound: x[0]), r"tone: embed gives \(2,\), not \(K, D\)"),
        (vectors(lambda x, sound: x[:0]), r"tone: embed gives \(0, 2\), not \(K, D\)"),
        (scores(lambda x, sound: x[0]), r"loud: embed gives \(\), not \(K,\)"),
        (scores(lambda x, sound: float(x[0])), "loud: float, not a tensor"),
        (vectors(lambda x, sound: x.long()), "tone: embed gives torch.int64, not floats"),
        (vectors(lambda x, sound: x / 0), "tone: embed gives values that are not finite"),
        (scores(lambda x, sound: x * torch.ones(1, requires_grad=True)), "loud: embed builds a graph"),
        (vectors(lambda x, sound: sound[None]), "tone: vectors have 50 and 150 dimensions"),
        (vectors(lambda x, sound: x + sound.zero_().sum()), "the caller's media 0 were written to"),
        (vectors(lambda x, sound: x + torch.rand(())), "generator was drawn from, or seeded"),
        (remembering, "tone: a clip is embedded otherwise after another"),
        (vectors(lambda x, sound: x.repeat(1 + next(COUNT) % 7, 1)), r"\(other shapes\)"),
        (drawn, "tone: a clip is embedded otherwise where the extractor is built again"),
        (lambda: honest(wants=Frames(writing, Fraction(5)), embed=lambda frames: {}), "each writes to the frame"),
        (lambda: honest(wants=replace(FRAMES, moments=lambda seconds: [])), "moments gives fewer than 1 even for"),
        (lambda: honest(wants=replace(FRAMES, moments=lambda seconds: [seconds + 1])), "moments gives some outside"),
        (vectors(lambda x, sound: x + ask_the_network()), "started: .*example.invalid"),
        (vectors(lambda x, sound: [x, torch.set_grad_enabled(False)][0]), "it changes torch's grad mode"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(make, message):
    with pytest.raises(AssertionError, match=message):
        check_extractor(make)
