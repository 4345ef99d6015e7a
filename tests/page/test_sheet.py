"""Samples on one sheet: what is drawn stands where it happens, whatever the kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmdisco_cli.data.media import write_clip, write_mp4, write_wav
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.known import open_kinds
from mmdisco_cli.kinds.thumbnails import GROUND, MARKS, clip_thumbnail, text_thumbnail
from mmdisco_cli.page.sheet import EDGE, GAP, LAYOUTS, MOST, write_sheet

RATE = 16000


def clip(path: Path, at: float = 1.2, seconds: float = 1.6) -> Path:
    """A clip that turns from blue to red, and sounds, at one time."""
    frames = round(10 * seconds)
    video = torch.full((3, frames, 32, 32), -1.0)
    video[2, : round(10 * at)] = 1
    video[0, round(10 * at) :] = 1
    sound = torch.zeros(1, round(RATE * seconds))
    sound[:, round(RATE * at) :] = 0.5 * torch.sin(torch.arange(sound.shape[1] - round(RATE * at)) * 0.7)
    return write_clip(path, video, sound, 10, RATE)


def row(index: int, kinds: dict[str, str], files: dict[str, str], prompt: str | None = None) -> dict[str, Any]:
    return {"index": index, "seed": 0, "prompt": prompt, "kinds": kinds, "files": files}


def pair(index: int, name: str) -> dict[str, Any]:
    return row(index, {"audio": "audio", "video": "video"}, {"audio": name, "video": name})


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_frames_and_sound_stand_at_their_time(tmp_path: Path, suffix: str) -> None:
    drawn = clip_thumbnail(clip(tmp_path / f"a.{suffix}"), 960, {"seen": [0.4], "heard": [1.2]}).float()
    strip, ticks, spectrum = drawn[:, :60], drawn[:, 60:78], drawn[:, 78:]
    red, blue = strip[0].mean(0), strip[2].mean(0)
    assert (red > blue).long().argmax() == 720  # 1.2 of 1.6 s
    loud = spectrum.amax((0, 1))
    assert loud[:700].max() < 60 < 150 < loud[740:].min()
    for half, (time, colour) in enumerate(zip((0.4, 1.2), MARKS.values(), strict=True)):
        marked = (ticks[:, 9 * half + 4] - torch.tensor(colour)[:, None]).abs().amax(0) < 1
        assert marked.nonzero().flatten().tolist() == [round(600 * time) - 1, round(600 * time)]


def test_wide_and_tall_videos_keep_their_shape_and_silence_has_no_spectrogram(tmp_path: Path) -> None:
    wide = write_mp4(tmp_path / "wide.mp4", torch.zeros(3, 4, 18, 32), None, 10, 0)
    tall = write_mp4(tmp_path / "tall.mp4", torch.zeros(3, 4, 32, 18), None, 10, 0)
    assert clip_thumbnail(wide, 640).shape == (3, 60, 640)  # six frames of 107 x 60
    assert clip_thumbnail(tall, 640).shape == (3, 60, 640)  # nineteen of 34 x 60


def test_every_kind_has_its_place_beside_the_others(tmp_path: Path) -> None:
    kinds = open_kinds(("image", "audio", "text", "vector"))
    Image.new("L", (8, 8), 255).save(tmp_path / "a.png")
    write_wav(tmp_path / "a.wav", 0.5 * torch.sin(torch.arange(8000) * 0.9)[None], 8000)
    (tmp_path / "a.txt").write_text("seven\n")
    image, audio, text = (kinds[k].thumbnail(tmp_path / f"a.{s}", 200) for k, s in
                          (("image", "png"), ("audio", "wav"), ("text", "txt")))  # fmt: skip
    assert image is not None
    assert image.shape == (3, 96, 200)  # 12 times as large
    assert image[:, :96, :96].eq(255).all()
    assert torch.equal(text, text_thumbnail("seven", 200))
    assert not torch.equal(text, text_thumbnail("six", 200))
    assert audio is not None
    assert audio.max() > 200
    names = {"image": "a.png", "audio": "a.wav", "text": "a.txt"}
    sheet = write_sheet(tmp_path, [row(0, {k: k for k in names}, names)], tmp_path / "sheet.png")
    with Image.open(sheet) as file:
        pixels = torch.from_numpy(np.asarray(file).copy())
    each = (940 - 2 * GAP) // 3
    left = EDGE + each + GAP
    assert pixels[:, EDGE : EDGE + 50].amin(2).max() == 255  # the image
    assert pixels[25:, left : left + each].max() > 200  # the spectrogram
    assert (pixels[:, EDGE - 1] == torch.tensor(GROUND)).all()


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (4, 1), (5, 2), (17, 4), (MOST + 3, 4)])
def test_columns_grow_with_samples_and_no_sheet_is_endless(tmp_path: Path, count: int, columns: int) -> None:
    for k in range(count):
        (tmp_path / f"{k}.txt").write_text(f"{k}\n")
    rows = [row(k, {"word": "text"}, {"word": f"{k}.txt"}, "a prompt") for k in range(count)]
    with Image.open(write_sheet(tmp_path, rows, tmp_path / "sheet.png")) as file:
        width = next(width for most, number, width in LAYOUTS if number == columns)
        assert file.width == columns * (width + GAP) - GAP + 2 * EDGE
        high = file.height
    lines = -(-min(count, MOST) // columns)
    with Image.open(write_sheet(tmp_path, rows[:1], tmp_path / "one.png")) as file:
        assert high == EDGE + lines * (file.height - EDGE)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    first, second = (
        write_sheet(tmp_path, [pair(0, "a.mp4")], tmp_path / name).read_bytes() for name in ("1.png", "2.png")
    )
    assert first == second
    clip(tmp_path / "a.mp4", at=0.8)
    assert write_sheet(tmp_path, [pair(0, "a.mp4")], tmp_path / "3.png").read_bytes() != first


def test_a_file_that_cannot_be_read_is_said_in_its_place(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"no clip")
    broken = write_sheet(tmp_path, [pair(0, "b.mp4"), pair(1, "a.mp4")], tmp_path / "1.png")
    alone = write_sheet(tmp_path, [pair(1, "a.mp4")], tmp_path / "2.png")
    with Image.open(broken) as both, Image.open(alone) as one:
        whole = both.crop((0, both.height - one.height + EDGE, both.width, both.height))
        assert whole.tobytes() == one.crop((0, EDGE, one.width, one.height)).tobytes()


def test_no_samples_are_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no samples to draw"):
        write_sheet(tmp_path, [], tmp_path / "sheet.png")
