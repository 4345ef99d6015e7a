"""The digits data set: pairs by index, parts that have nothing in common, and options of the studies."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.testing import check_dataset
from mmdisco_cli.toys.digits.dataset import WORDS, build
from mmdisco_cli.toys.digits.options import DigitsOptions

ALL = ("audio", "image", "word")


@pytest.fixture
def options(spoken, written):
    return DigitsOptions(spoken=str(spoken), written=str(written), pairs=200)


@pytest.fixture
def digits(options):
    return build(options, Request())


def said(media):
    return ["".join(chr(int(c)) for c in row if c) for row in media.tolist()]


def test_contract(options):
    shapes = {"audio": (1, 16000), "image": (1, 28, 28), "word": (5,)}
    assert check_dataset(lambda: build(options, Request()), shapes) == ()


def test_a_pair_is_of_one_digit_in_every_modality(digits):
    media, labels = digits.media(range(50), ALL), digits.labels(range(50))
    assert said(media["word"]) == [WORDS[int(label)] for label in labels]
    for index in range(50):
        pair = digits.pair(index)
        assert digits.spoken.recordings[pair.recording].path.name.startswith(f"{labels[index]}_")
        assert int(digits.written.digits[pair.image]) == int(labels[index])


def test_the_same_index_is_the_same_pair_alone_beside_others_and_with_fewer_modalities(digits, options):
    media = digits.media(range(20), ALL)
    alone = build(options, Request(), ("image",)).media([7], ("image",))
    assert torch.equal(alone["image"][0], media["image"][7])
    assert torch.equal(digits.media([7], ("audio",))["audio"][0], media["audio"][7])
    assert not torch.equal(media["image"][6], media["image"][7])


def test_no_recording_or_image_is_in_two_parts(digits):
    used = {}
    for part in ("train", "heldout", "judges"):
        for source, name in ((digits.spoken, "recording"), (digits.written, "image")):
            used[part, name] = {place for places in source.places[part].values() for place in places}
    for name, total in (("recording", 30), ("image", 200)):
        sets = [used[part, name] for part in ("train", "heldout", "judges")]
        assert sum(map(len, sets)) == len(set.union(*sets)) == total
    indices = {
        part: {digits.spoken.recordings[p].index for p in used[part, "recording"]} for part in ("train", "heldout")
    }
    assert indices == {"train": {20}, "heldout": {5, 6}}
    drawn = {digits.split("heldout").pair(i).image for i in range(20)}
    assert drawn <= used["heldout", "image"]


def test_judges_have_no_recordings_here(digits):
    with pytest.raises(DataError, match=r"data.spoken: the part judges has nothing of zero, one"):
        digits.split("judges")


def test_every_digit_is_as_likely(digits):
    counts = Counter(replace(digits, options=replace(digits.options, pairs=4000)).labels(range(4000)))
    assert set(counts) == set("0123456789")
    assert all(300 < count < 500 for count in counts.values())  # five standard deviations of 400


def test_a_share_of_pairs_is_wrong_in_training_alone(options):
    digits = build(replace(options, wrong=0.5), Request())
    pairs = [digits.pair(index) for index in range(400)]
    wrong = sum(int(digits.written.digits[pair.image]) != pair.digit for pair in pairs)
    assert 150 < wrong < 250
    assert [pair.recording for pair in pairs[:20]] == [build(options, Request()).pair(i).recording for i in range(20)]
    heldout = digits.split("heldout")
    assert all(int(digits.written.digits[(pair := heldout.pair(i)).image]) == pair.digit for i in range(20))
    assert digits.fingerprint != build(options, Request()).fingerprint


def test_the_number_of_pairs_is_the_length(digits):
    assert (digits.length, digits.split("heldout").length) == (200, 20)


def test_images_may_be_inverted_slanted_and_larger(options):
    plain = build(options, Request()).media(range(8), ("image",))["image"]
    inverted = build(replace(options, invert=True), Request()).media(range(8), ("image",))["image"]
    torch.testing.assert_close(inverted, -plain)
    large = build(options, Request(height=32, width=32)).media(range(8), ("image",))["image"]
    assert torch.equal(large[:, :, 2:-2, 2:-2], plain)
    assert float(large[:, :, :2].max()) == -1
    slanted = build(replace(options, slant=0.5), Request()).media(range(8), ("image",))["image"]
    # To the right: what is above the middle moves right, what is below moves left.
    ink, columns = (plain + 1, slanted + 1), torch.arange(28.0)

    def centre(image, rows):
        part = image[:, 0, rows].sum(1)
        return (part * columns).sum(1) / part.sum(1)

    above, below = slice(0, 11), slice(17, 28)
    moved = [centre(ink[1], rows) - centre(ink[0], rows) for rows in (above, below)]
    assert float(moved[0].mean()) > 1
    assert float(moved[1].mean()) < -1


def test_a_recording_is_cut_or_ends_in_silence(options):
    short = build(options, Request(seconds=0.1)).media([0], ("audio",))["audio"]
    long = build(options, Request(seconds=1.5)).media([0], ("audio",))["audio"]
    assert (short.shape, long.shape) == ((1, 1, 1600), (1, 1, 24000))
    torch.testing.assert_close(long[..., :1500], short[..., :1500], atol=1e-3, rtol=0)
    assert float(long[..., 12000:].abs().max()) == 0


def test_speakers_are_chosen_by_name(options):
    assert build(replace(options, speakers=("nicolas",)), Request()).length == 200
    with pytest.raises(DataError, match=r"data.speakers: no recordings of nicola.*nicolas"):
        build(replace(options, speakers=("nicola",)), Request())


@pytest.mark.parametrize("request_", [Request(height=20), Request(height=28, width=32)])
def test_images_smaller_than_real_or_not_square_are_refused(options, request_):
    with pytest.raises(UsageError, match="digits are square, of at least 28 pixels"):
        build(options, request_)


def test_what_is_not_a_digit_is_left_out_and_reported(options, spoken, tmp_path):
    shutil.copytree(spoken, tmp_path / "s")
    shutil.copy(spoken / "1_nicolas_5.wav", tmp_path / "s" / "hello.wav")
    found = build(replace(options, spoken=str(tmp_path / "s")), Request())
    assert "1 .wav files not named DIGIT_SPEAKER_INDEX.wav are left out" in found.report[0]


def test_unknown_modalities_are_refused(options):
    with pytest.raises(KeyError, match="video"):
        build(options, Request(), ("audio", "video"))
