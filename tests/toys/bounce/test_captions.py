"""Captions of bounce clips: they describe what is there, in other words in held-out clips than in training clips."""

import math
import re
from dataclasses import replace

import pytest

from mmdisco_cli.backbones.text import SALTS, token_ids, words_of
from mmdisco_cli.data.contract import Captioned, Labelled
from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import Measuring, measure_clips
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.toys.bounce.caption_following import (
    METRICS,
    balls_of,
    caption_analysis,
    caption_measures,
    kinds_heard,
    kinds_seen,
)
from mmdisco_cli.toys.bounce.captions import HELDOUT_WORDINGS, KINDS, RADII, WORDINGS, Kind, kind_of
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.events import Impact
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.scene import draw_scene, pitch

SOME = range(300)
SIZE_OF = {"small": 0, "little": 0, "large": 1, "big": 1}
MATERIAL_OF = {"wood": 0, "wooden": 0, "metal": 1, "glass": 2}
NUMBER_OF = {"a": 1, "one": 1, "two": 2, "three": 3}


def clips(part="train", **options):
    return Bounce(BounceOptions(captions=True, **options)).split(part)


def parsed(caption):
    """Return the kinds that a sentence names, read word by word: each ball has a size and a material, in any order."""
    kinds, size, material = [], None, None
    for word in re.findall(r"\w+", caption):
        size, material = SIZE_OF.get(word, size), MATERIAL_OF.get(word, material)
        if size is not None and material is not None:
            kinds.append(Kind(size, material))
            size = material = None
    return kinds


def texts(data, indices=SOME):
    return data.captions(indices, ("audio", "video"))["video"]


@pytest.mark.parametrize("part", ["train", "heldout"])
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_a_caption_tells_every_ball_and_no_other(part, objects):
    data = clips(part, objects=objects)
    for index, text in enumerate(texts(data)):
        balls = data.scene(index).balls
        assert sorted(parsed(text)) == sorted(kind_of(ball.radius, ball.material) for ball in balls), text
        first = next((NUMBER_OF[word] for word in words_of(text) if word in ("two", "three")), None)
        assert first in (None, len(balls))


def test_the_balls_of_a_clip_differ_in_kind_their_number_varies_and_no_radius_lies_in_between():
    data = clips(objects=3)
    counts = set()
    for index in SOME:
        balls = data.scene(index).balls
        kinds = [kind_of(ball.radius, ball.material) for ball in balls]
        counts.add(len(kinds))
        assert len(set(kinds)) == len(kinds)
        for ball, kind in zip(balls, kinds, strict=True):
            assert RADII[kind.size][0] <= ball.radius <= RADII[kind.size][1]
    assert counts == {1, 2, 3}


def test_captions_are_the_same_whatever_is_asked_for_beside_them_and_for_all_modalities():
    data = clips()
    assert isinstance(data, Captioned)
    assert isinstance(data, Labelled)
    whole = data.captions(range(9), ("audio", "video"))
    assert whole["audio"] == whole["video"]
    assert [data.captions([i], ("video",))["video"][0] for i in reversed(range(9))] == whole["video"][::-1]
    assert texts(clips(seed=1), range(9)) != whole["video"]


def test_a_label_is_what_a_caption_says_however_it_is_worded():
    data = clips()
    by_label = {}
    for text, label in zip(texts(data), data.labels(SOME), strict=True):
        by_label.setdefault(label, set()).add(tuple(sorted(parsed(text))))
    assert all(len(contents) == 1 for contents in by_label.values())
    assert len(set.union(*by_label.values())) == len(by_label) == 6 + 15


def test_held_out_clips_have_other_sentences_of_the_same_words():
    many = range(2000)
    seen, held_out = set(texts(clips(), many)), set(texts(clips("heldout"), many))
    assert not seen & held_out
    assert {word for text in held_out for word in words_of(text)} <= {word for text in seen for word in words_of(text)}
    assert not set(WORDINGS) & set(HELDOUT_WORDINGS)


def test_no_two_words_of_the_captions_are_one_to_the_encoder():
    words = {word for text in texts(clips(objects=3), range(2000)) for word in words_of(text)}
    rows = {tuple(token_ids(word)[0].tolist()) for word in words}
    assert len(rows) == len(words) > 20
    assert all(len(row) == len(SALTS) for row in rows)


def test_without_captions_nothing_has_changed():
    data = Bounce(BounceOptions(seed=4, objects=1)).split("heldout")
    assert data.fingerprint == "bounce-1:BounceOptions(objects=1, misalignment=0.0, seed=4):64:heldout"
    assert data.scene(7) == draw_scene("4:heldout", 7, 1)
    assert data.captions([0, 1], ("audio",)) == {"audio": ["", ""]}
    assert data.labels([0, 1]) == ["", ""]
    assert data.fingerprint != replace(data, options=replace(data.options, captions=True)).fingerprint


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return what is found in held-out clips that were written as .mp4, and what their captions say."""
    folder, data, n = tmp_path_factory.mktemp("clips"), clips("heldout"), 40
    media = data.media(range(n), ("audio", "video"))
    pairs = zip(media["video"], media["audio"], strict=True)
    paths = [write_mp4(folder / f"{k}.mp4", *pair, 10, 16000, scale=2) for k, pair in enumerate(pairs)]
    found = measure_clips(paths, Measuring(Analysis(height=32), Cache(None), caption_analysis(2)), "clips", 0, Ranks())
    return [balls_of(found.by_path()[path]) for path in paths], [data.content(i) for i in range(n)]


def test_real_clips_are_judged_to_keep_to_their_captions(written):
    found, described = written
    shares = {name: float(measure.value) for name, measure in caption_measures(found, described).items()}
    assert shares.keys() == set(METRICS)
    assert min(shares.values()) >= 0.95


def test_clips_are_judged_not_to_keep_to_captions_of_another_content(written):
    found, described = written
    others = [next(other for other in described if other != kinds) for kinds in described]
    shares = {name: float(measure.value) for name, measure in caption_measures(found, others).items()}
    assert shares["text_seen"] == 0
    assert shares["text_heard"] <= 0.05


def test_each_aspect_is_judged_by_itself(written):
    clip = written[0][0]
    one = replace(clip, seen=(Kind(0, 1), Kind(1, 2)), heard=(Kind(0, 1),))
    kept = one.follows((Kind(0, 2), Kind(1, 1)))
    assert {name for name, value in kept.items() if value} == {"number_seen", "sizes_seen", "materials_seen"}
    assert {name for name, value in one.follows((Kind(0, 1),)).items() if value} == {
        "text_heard", "number_heard", "sizes_heard", "materials_heard",
    }  # fmt: skip


def test_kinds_are_read_from_sizes_and_pitches():
    for kind in KINDS:
        for radius in RADII[kind.size]:
            assert kinds_seen([(math.log2(radius), kind.material)]) == (kind,)
            strikes = [Impact(time, math.log2(pitch(radius)), kind.material) for time in (0.1, 0.7)]
            assert kinds_heard(strikes) == (kind,)
    assert kinds_heard([]) == kinds_seen([]) == ()
