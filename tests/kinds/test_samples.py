"""`mmdisco sample` writes every modality as people know it, and takes each again with --given."""

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.manifest import complete_rows, read_rows
from mmdisco_cli.errors import ExitCode

IMAGE = "kind: image, shape: [1, 8, 6]"
COLOUR = "kind: image, shape: [3, 8, 6]"
AUDIO = "kind: audio, shape: [1, 800], rate: 8000"
WORD = "kind: text, shape: [4]"
VIDEO = "kind: video, shape: [3, 5, 16, 16], rate: 10"
SOUND = "kind: audio, shape: [2, 4000], rate: 8000"


def sample(recipe: Path, *arguments: str, n: int = 2, out: str = "out") -> ExitCode:
    return mmdisco(["sample", "--recipe", str(recipe), "--independent", "--n", str(n), "--out", out, *arguments])


def names(out: str = "out") -> set[str]:
    return {path.name for path in Path(out).iterdir()} - {"settings.json", "manifest.jsonl", "index.html"}


def streams(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.type for stream in container.streams]


def test_three_modalities_are_three_files_and_one_row(anything, capsys) -> None:
    recipe = anything(image=IMAGE, audio=AUDIO, word=WORD)
    assert sample(recipe, "--json") == ExitCode.OK
    stems = ["00000-seed0", "00001-seed0"]
    assert names() == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "wav", "txt")}
    rows = complete_rows(Path("out"))
    assert [row["path"] for row in rows] == ["00000-seed0.png", "00001-seed0.png"]
    assert list(rows[1]["files"].items()) == [
        ("image", "00001-seed0.png"),
        ("audio", "00001-seed0.wav"),
        ("word", "00001-seed0.txt"),
    ]
    assert rows[0]["kinds"] == {"image": "image", "audio": "audio", "word": "text"}
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["files"]["word"] for one in printed] == [f"out/{stem}.txt" for stem in stems]
    with Image.open("out/00000-seed0.png") as image:
        assert (image.mode, image.size) == ("L", (6, 8))
        assert json.loads(image.info["Comment"])["index"] == "0"
    with wave.open("out/00000-seed0.wav") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (1, 2, 8000, 800)
    assert Path("out/00000-seed0.txt").read_bytes() in {b"zero\n", b"one\n", b"two\n", b"seven\n"}


def test_two_images_are_named_by_their_labels(anything) -> None:
    assert sample(anything(left=IMAGE, right=COLOUR), n=1) == ExitCode.OK
    assert names() == {"00000-seed0-left.png", "00000-seed0-right.png"}
    with Image.open("out/00000-seed0-right.png") as image:
        assert image.mode == "RGB"
    (row,) = complete_rows(Path("out"))
    assert row["path"] == row["files"]["left"] == "00000-seed0-left.png"


@pytest.mark.parametrize(
    ("backbones", "expected"),
    [
        ({"clip": VIDEO, "music": SOUND}, {".mp4": ["video", "audio"]}),
        ({"clip": VIDEO}, {".mp4": ["video"]}),
        ({"clip": VIDEO, "voice": SOUND, "noise": SOUND}, {".mp4": ["video"], "-voice.wav": [], "-noise.wav": []}),
        ({"a": VIDEO, "b": VIDEO, "c": SOUND}, {"-a.mp4": ["video"], "-b.mp4": ["video"], ".wav": []}),
        ({"clip": VIDEO, "music": SOUND, "still": IMAGE}, {".mp4": ["video", "audio"], ".png": []}),
        ({"clip": VIDEO, "six": "kind: audio, shape: [6, 4000], rate: 8000"}, {".mp4": ["video"], ".wav": ["audio"]}),
        ({"x": "kind: vector", "clip": VIDEO, "y": "kind: vector"}, {".mp4": ["video"], ".safetensors": []}),
    ],
)
def test_one_video_and_one_audio_are_one_file(anything, backbones, expected) -> None:
    assert sample(anything(**backbones), n=1) == ExitCode.OK
    assert names() == {f"00000-seed0{ending}" for ending in expected}
    for ending, kinds in expected.items():
        if kinds:
            assert streams(Path(f"out/00000-seed0{ending}")) == kinds
    (row,) = complete_rows(Path("out"))
    assert row["path"] == f"00000-seed0{next(iter(expected))}"
    assert row["files"].keys() == backbones.keys()


def test_vectors_share_a_file_by_their_labels(anything) -> None:
    assert sample(anything(x="kind: vector", y="kind: vector, shape: [3]"), n=1) == ExitCode.OK
    stored = load_file("out/00000-seed0.safetensors")
    assert {label: tuple(x.shape) for label, x in stored.items()} == {"x": (2,), "y": (3,)}
    assert not Path("out/index.html").exists()


def test_what_does_not_fit_its_kind_is_a_vector_and_said_to_be(anything, capsys) -> None:
    assert sample(anything(image="kind: image, shape: [4, 8, 6]", b=IMAGE), n=1) == ExitCode.OK
    assert names() == {"00000-seed0.png", "00000-seed0.safetensors"}
    assert "note: image: written as a vector, not as image: media of shape (4, 8, 6)" in capsys.readouterr().err


def test_a_kind_that_nobody_provides_is_a_plugin_error(anything, capsys) -> None:
    assert sample(anything(x="kind: imaeg, shape: [1, 8, 6]")) == ExitCode.PLUGIN
    assert "unknown kind 'imaeg' (did you mean image?" in capsys.readouterr().err


def test_every_kind_of_a_folder_of_samples_is_given_again(anything, capsys) -> None:
    recipe = anything(left=IMAGE, right=COLOUR, audio=AUDIO, word=WORD, x="kind: vector", last="kind: vector")
    assert sample(recipe) == ExitCode.OK
    for label in ("left", "right", "audio", "word", "x"):
        assert sample(recipe, "--given", f"{label}=out", "--seed", "5", out=f"given-{label}") == ExitCode.OK
        first, again = complete_rows(Path("out")), complete_rows(Path(f"given-{label}"))
        for one, other in zip(first, again, strict=True):
            ours, theirs = (Path(f) / row["files"][label] for f, row in (("out", one), (f"given-{label}", other)))
            assert same(ours, theirs, label)
            named = theirs.read_text().strip() if label == "word" else str(ours)
            assert other["given"] == {label: named}
    assert "resized" not in capsys.readouterr().err


def same(ours: Path, theirs: Path, label: str) -> bool:
    """Return whether two files hold the same media; bytes differ by what is written about the sample."""
    if ours.suffix == ".png":
        with Image.open(ours) as one, Image.open(theirs) as other:
            return np.array_equal(np.asarray(one), np.asarray(other))
    if ours.suffix == ".wav":
        with wave.open(str(ours)) as one, wave.open(str(theirs)) as other:
            return one.readframes(9999) == other.readframes(9999)
    if ours.suffix == ".safetensors":
        return bool((load_file(ours)[label] == load_file(theirs)[label]).all())
    return ours.read_bytes() == theirs.read_bytes()


def given(anything, *arguments: str, out: str = "held", n: int = 3) -> tuple[ExitCode, list]:
    code = sample(anything(image=IMAGE, audio=AUDIO, word=WORD), *arguments, n=n, out=out)
    return code, complete_rows(Path(out)) if code == ExitCode.OK else []


def test_a_text_is_given_as_it_is_or_by_the_lines_of_a_file(anything, capsys) -> None:
    _, rows = given(anything, "--given", "word=seven")
    assert [row["given"] for row in rows] == [{"word": "seven"}] * 3
    assert {Path("held", row["files"]["word"]).read_text() for row in rows} == {"seven\n"}
    assert "note" not in capsys.readouterr().err
    Path("words").write_text("\ufefftwo\r\n\r\n  one \r\n", encoding="utf-8")
    _, rows = given(anything, "--given", "word=words", out="lines")
    assert [row["given"]["word"] for row in rows] == ["two", "one", "two"]
    assert "note: --given word: 2 texts of words" in capsys.readouterr().err


def test_silence_follows_a_short_recording(anything, capsys) -> None:
    with wave.open("short.wav", "wb") as file:
        file.setparams((1, 2, 8000, 400, "NONE", ""))
        file.writeframes(np.full(400, 8192, "<i2").tobytes())
    code, rows = given(anything, "--given", "audio=short.wav", n=1)
    assert code == ExitCode.OK
    assert "note: --given audio: short.wav: 0.05 s, then silence to 0.10 s" in capsys.readouterr().err
    with wave.open(str(Path("held", rows[0]["files"]["audio"]))) as file:
        written = np.frombuffer(file.readframes(800), "<i2")
    assert written[:390].min() > 8000
    assert abs(written[410:]).max() == 0


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        ("word=eight", "--given word: 'eight' is not one of zero, one, two, seven", ExitCode.USAGE),
        ("word=eight.txt", "eight.txt: no such file or folder", ExitCode.DATA),
        ("word=latin", "latin: not text in UTF-8", ExitCode.DATA),
        ("word=blank", "blank: holds no text", ExitCode.DATA),
        ("word=empty", "empty: no file ends in .txt", ExitCode.DATA),
        ("image=tone.wav", "--given image: tone.wav is a file of kind audio, not image (.png)", ExitCode.USAGE),
        ("audio=words.txt", "--given audio: words.txt is a file of kind text, not audio (.wav)", ExitCode.USAGE),
        ("image=broken.png", "broken.png: ", ExitCode.DATA),
        ("image=empty", "empty: no file ends in .png, .jpg", ExitCode.DATA),
        ("image=absent.png", "absent.png: no such file or folder", ExitCode.DATA),
        ("audio=tone.wav", "tone.wav: ", ExitCode.DATA),  # shorter than a sample
        ("imaeg=a.png", "unknown modality (did you mean image?)", ExitCode.USAGE),
    ],
)
def test_what_cannot_be_given_is_said_in_one_line(anything, capsys, arguments, said, code) -> None:
    Path("latin").write_bytes(b"sieben, f\xfcnf")
    Path("blank").write_text(" \n\n")
    Path("empty").mkdir()
    Path("words.txt").write_text("one\n")
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    with wave.open("tone.wav", "wb") as file:
        file.setparams((1, 2, 8000, 8, "NONE", ""))
        file.writeframes(b"\0\1" * 8)
    found, _ = given(anything, "--given", arguments)
    err = capsys.readouterr().err
    assert (found, said in err) == (code, True), err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error")]) == 1
    assert not Path("held").exists() or read_rows(Path("held")) == []


def test_an_image_of_another_size_and_colour_is_changed_with_a_note(anything, capsys) -> None:
    block = np.zeros((16, 12, 3), np.uint8)
    block[:8] = (255, 255, 255)
    Image.fromarray(block).save("colour.png")
    _, rows = given(anything, "--given", "image=colour.png", n=1)
    assert "note: --given image: colour.png: 12 x 16 pixels resized to 6 x 8, made grey" in capsys.readouterr().err
    with Image.open(Path("held") / rows[0]["files"]["image"]) as image:
        found = np.asarray(image)
    assert (found[:4] == 255).all()
    assert (found[4:] < 8).all()  # the latents of these models reach 0.99
    assert rows[0]["given"] == {"image": "colour.png"}


def test_a_vector_is_given_by_its_label_or_alone(anything, capsys) -> None:
    import torch

    recipe = anything(x="kind: vector", y="kind: vector", z="kind: vector")
    save_file({"whatever": torch.tensor([0.25, -0.5])}, "one.safetensors")
    save_file({"x": torch.zeros(2), "y": torch.tensor([0.5, 0.75])}, "two.safetensors")
    save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, "none.safetensors")
    save_file({"y": torch.zeros(3)}, "three.safetensors")
    for file, expected in (("one", [0.25, -0.5]), ("two", [0.5, 0.75])):
        assert sample(recipe, "--given", f"y={file}.safetensors", n=1, out=file) == ExitCode.OK
        assert load_file(f"{file}/00000-seed0.safetensors")["y"].tolist() == pytest.approx(expected, abs=1e-6)
    capsys.readouterr()
    assert sample(recipe, "--given", "y=none.safetensors", n=1, out="no") == ExitCode.DATA
    assert "none.safetensors: holds a, b, but no y" in capsys.readouterr().err
    assert sample(recipe, "--given", "y=three.safetensors", n=1, out="no") == ExitCode.DATA
    assert "three.safetensors: holds a tensor (3,), not (2,)" in capsys.readouterr().err


KILLER = """
import os, sys
from mmdisco_cli.kinds import text
def die(self, path, media, item):
    path.write_text("half")
    os.kill(os.getpid(), 9)
text.TextKind.write = die
from mmdisco_cli.app import run
sys.exit(run(sys.argv[1:]))
"""


def test_a_kill_between_two_files_of_a_sample_leaves_no_half_row(anything, tmp_path) -> None:
    recipe = anything(image=IMAGE, word=WORD, audio=AUDIO)
    arguments = ["sample", "--recipe", str(recipe), "--independent", "--n", "2", "--out", "out"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    dead = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments], env={**os.environ, "PYTHONPATH": path}, capture_output=True
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert read_rows(Path("out")) == []
    assert Path("out/00000-seed0.png").exists()
    assert not Path("out/00000-seed0.txt").exists()
    assert mmdisco(arguments) == ExitCode.OK
    assert len(complete_rows(Path("out"))) == 2
    assert names() == {f"0000{i}-seed0.{suffix}" for i in (0, 1) for suffix in ("png", "wav", "txt")}


@pytest.mark.parametrize("left", [None, 0, 0.5])
@pytest.mark.parametrize("suffix", ["txt", "png"])
def test_a_sample_that_lost_a_file_or_a_part_of_one_is_made_again(anything, suffix, left) -> None:
    recipe = anything(image=IMAGE, word=WORD)
    assert sample(recipe) == ExitCode.OK
    file = Path(f"out/00001-seed0.{suffix}")
    before = file.read_bytes()
    file.unlink() if left is None else file.write_bytes(before[: int(left * len(before))])
    assert [row["index"] for row in complete_rows(Path("out"))] == [0]
    assert sample(recipe) == ExitCode.OK
    assert file.read_bytes() == before
    assert len(complete_rows(Path("out"))) == 2


def test_a_plan_says_the_kinds(anything, capsys) -> None:
    recipe = anything(image=IMAGE, word=WORD)
    assert sample(recipe, "--dry-run", "--given", "word=one") == ExitCode.OK
    said = capsys.readouterr().out
    assert "image: 1 x 8 x 6, from a latent of 1 x 8 x 6, as image" in said
    assert "word: given by 1 text, the first one" in said
    assert not Path("out").exists()


def test_a_kind_whose_files_end_as_latents_do_loses_none_to_them(anything, make_plugin) -> None:
    make_plugin("mmdisco-raw", RAW)
    recipe = anything(raw="kind: raw, shape: [3]", other="kind: vector, shape: [2]")
    assert sample(recipe, "--set", "sample.keep_latents=true", n=1) == ExitCode.OK
    row = complete_rows(Path("out"))[0]
    assert row["files"]["raw"] == "00000-seed0-raw.latents.safetensors"
    assert set(load_file("out/00000-seed0.latents.safetensors")) == {"raw", "other"}
    assert list(load_file(Path("out") / row["files"]["raw"])) == ["values"]
    assert sample(recipe, "--given", "raw=out", n=1, out="given") == ExitCode.OK


RAW = """
from safetensors.torch import load_file, save_file

from mmdisco_cli.hookspecs import KindSpec, hookimpl, lazy


@hookimpl
def mmdisco_kinds():
    yield KindSpec("raw", "numbers", lazy("mmdisco_raw:Raw"), 1, ".latents.safetensors")


class Raw:
    def write(self, path, media, item):
        save_file({"values": media.contiguous()}, path)

    def read(self, path, item):
        return load_file(path)["values"]

    def card(self, path, source):
        return f'<a href="{source}">numbers</a>'
"""
