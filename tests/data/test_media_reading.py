"""Reading goes by time stamps, and a file that cannot be used is named in one line."""

import struct
from fractions import Fraction
from pathlib import Path

import av.logging
import numpy as np
import pytest
import torch
from media_recorder import centre, flat, pulse, record

from mmdisco_cli.data import audio, reading
from mmdisco_cli.data.media import probe, read_audio, read_clip, read_video
from mmdisco_cli.errors import DataError, ExitCode

SIZE = {"height": 32, "width": 48}


def levels(video: torch.Tensor) -> list[int]:
    """The grey level of each frame, 0 to 255."""
    return [round(float(level)) for level in (video.mean((0, 2, 3)) + 1) * 127.5]


def steady(frames: int, fps: int = 10, first: int = 20, step: int = 12) -> list[tuple[float, np.ndarray]]:
    return [(index / fps, flat(first + step * index)) for index in range(frames)]


def test_frames_of_a_variable_rate_file_are_those_on_screen(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.13, 0.48, 0.5, 0.95, 1.2, 1.6]
    shades = [20 + 25 * index for index in range(len(times))]
    file = record(
        tmp_path / "vfr.mp4", [(t, flat(s)) for t, s in zip(times, shades, strict=True)], pulse(16000, 1.7, 0.4)
    )
    video = read_video(file, 0, 16, 10, **SIZE)
    expected = [max(s for t, s in zip(times, shades, strict=True) if t <= i / 10 + 1e-9) for i in range(16)]
    assert levels(video) == pytest.approx(expected, abs=2)


def test_rounded_stamps_of_matroska_do_not_repeat_a_frame(tmp_path: Path) -> None:
    # 1/15 s is 66.67 ms, stored as 67: requested at 66.67 ms the frame is there all the same.
    file = record(tmp_path / "r.mkv", [(i / 15, flat(20 + 12 * i)) for i in range(15)], pulse(16000, 1, 0.4))
    assert levels(read_video(file, 0, 15, 15, **SIZE)) == pytest.approx([20 + 12 * i for i in range(15)], abs=2)


def test_a_frame_that_starts_late(tmp_path: Path) -> None:
    file = record(tmp_path / "late.mp4", steady(16), pulse(16000, 2.0, 0.9), move_video=lambda t: t + 0.5)
    clip = read_clip(file, None, 8, 10, 32, 48, 16000)
    assert clip.start == pytest.approx(0.5, abs=1e-3)
    assert levels(clip.video) == pytest.approx([20 + 12 * i for i in range(8)], abs=2)
    assert centre(clip.audio[0].numpy(), 16000) == pytest.approx(0.4, abs=1e-3)
    with pytest.raises(DataError, match=r"late\.mp4: video covers 0\.500-2\.100 s, not all of 0\.000-0\.800 s"):
        read_clip(file, 0, 8, 10, 32, 48, 16000)


def test_a_sound_that_starts_late(tmp_path: Path) -> None:
    file = record(tmp_path / "late.mp4", steady(20, step=8), pulse(16000, 1.5, 0.6), move_sound=lambda t: t + 0.4)
    clip = read_clip(file, 0.5, 10, 10, 32, 48, 16000)
    assert levels(clip.video) == pytest.approx([60 + 8 * i for i in range(10)], abs=2)
    assert centre(clip.audio[0].numpy(), 16000) == pytest.approx(0.5, abs=1e-3)


def test_a_gap_in_the_stamps_of_sound_is_silence(tmp_path: Path) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 16000)).astype(np.float32)[None]
    gapped = {"move_sound": lambda t: t if t < 0.5 else t + 0.3}
    file = record(tmp_path / "gap.mkv", steady(18, step=8), tone, codecs=("libx264", "pcm_s16le"), **gapped)
    wave = record(tmp_path / "gap.mp4", steady(18, step=8), tone, **gapped)
    for path in (file, wave):
        sound = read_audio(path, 0, 1.7, 16000)[0]
        loud = sound.unfold(0, 160, 160).abs().amax(1) > 0.2
        gap = [index / 100 for index in range(len(loud)) if not loud[index]]
        assert 0.25 <= len(gap) / 100 <= 0.36, path
        assert 0.42 <= gap[0] <= 0.7


def test_jitter_of_millisecond_stamps_leaves_no_holes(tmp_path: Path) -> None:
    # Matroska rounds each 64 ms-1/3 block to a millisecond; placed block by block, the tone would crackle.
    rate = 44100
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)[None]
    file = record(tmp_path / "jitter.mkv", steady(10), tone, rate, codecs=("libx264", "aac"))
    sound = read_audio(file, 0.1, 0.8, rate)[0].numpy()
    time = np.arange(len(sound)) / rate
    basis = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)])
    residual = sound - basis.T @ np.linalg.lstsq(basis.T, sound, rcond=None)[0]
    assert np.abs(residual).max() < 0.01


@pytest.mark.parametrize("rate", [8000, 11025, 22254, 44100, 96000])
def test_resampling_leaves_a_click_where_it_was(tmp_path: Path, rate: int) -> None:
    file = record(tmp_path / "click.wav", sound=pulse(rate, 1.0, 0.4321), rate=rate, codecs=("", "pcm_s16le"))
    sound = read_audio(file, None, 0.9, 16000)
    assert sound.shape == (1, 14400)
    assert centre(sound[0].numpy(), 16000) == pytest.approx(0.4321, abs=1e-4)
    assert float(sound.abs().max()) == pytest.approx(0.8, rel=0.05)


def test_channels_are_mixed_down_and_mono_is_doubled(tmp_path: Path) -> None:
    surround = 0.5**0.5
    side = 1 + 2 * surround  # front, centre and back reach each ear
    # FL FR FC LFE BL BR: the share of each in the mean of both downmixed channels
    for loud, share in ((0, 0.5 / side), (2, surround / side), (3, 0.0), (4, 0.5 * surround / side)):
        wave = np.zeros((6, 16000), dtype=np.float32)
        wave[loud] = pulse(16000, 1.0, 0.5)[0]
        file = record(tmp_path / f"{loud}.wav", sound=wave, layout="5.1", codecs=("", "pcm_s16le"))
        peak = float(read_audio(file, None, 0.9, 16000).abs().max())
        assert peak == pytest.approx(0.8 * share, abs=2e-3), loud
    mono = record(tmp_path / "mono.wav", sound=pulse(16000, 1.0, 0.5), codecs=("", "pcm_s16le"))
    left, right = read_audio(mono, None, 0.9, 16000, 2)
    assert torch.equal(left, right)
    assert float(left.max()) == pytest.approx(0.8, abs=0.01)


def test_a_turned_frame_is_shown_as_a_player_shows_it(tmp_path: Path) -> None:
    image = flat(20, (32, 64))
    image[:16, :32] = 220  # bright top left, which a quarter turn clockwise brings to the top right
    file = record(tmp_path / "turned.mp4", [(i / 10, image) for i in range(10)], pulse(16000, 1, 0.5))
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version and flags, five times and numbers, two reserved, four shorts
    assert data[matrix : matrix + 4] == struct.pack(">i", 1 << 16)
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data)
    shown = read_video(file, 0, 1, 10, 64, 32)[:, 0].mean(0)
    assert float(shown[4:28, 20:28].mean()) > 0.6
    assert float(shown[4:28, 4:12].mean()) < -0.7
    assert float(shown[36:60].mean()) < -0.7


def test_a_frame_is_scaled_to_cover_and_cropped_about_its_centre(tmp_path: Path) -> None:
    image = flat(20, (32, 96))
    image[:, 32:64] = 220
    file = record(tmp_path / "wide.mp4", [(i / 10, image) for i in range(5)])
    assert float(read_video(file, 0, 1, 10, 16, 16)[:, 0, :, 1:-1].min()) > 0.6


def test_a_window_far_into_a_file_is_found_by_seeking_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [(i / 10, flat(20 + i)) for i in range(160)]
    for name in ("long.mp4", "long.mkv"):
        file = record(tmp_path / name, images, pulse(16000, 16, 9.7))
        sought = read_clip(file, 9.25, 16, 10, 32, 48, 16000)
        assert centre(sought.audio[0].numpy(), 16000) == pytest.approx(0.45, abs=1e-3)
        assert levels(sought.video) == pytest.approx([112 + i for i in range(16)], abs=2)
        with monkeypatch.context() as patch:
            patch.setattr(reading, "FAR", 1e9)
            patch.setattr(audio, "FAR", 1e9)
            walked = read_clip(file, 9.25, 16, 10, 32, 48, 16000)
        assert torch.equal(sought.video, walked.video)
        assert float((sought.audio - walked.audio).abs().max()) < 2e-3


def test_padding_of_the_last_block_is_not_sound(tmp_path: Path) -> None:
    # One second is 15.6 blocks of 1024 samples; the tone must stop with the stream.
    tone = np.full((1, 16000), 0.5, dtype=np.float32)
    file = record(tmp_path / "tail.mp4", steady(10), tone)
    assert probe(file).span().stop == Fraction(1)


@pytest.mark.parametrize("name", ["ünï çödé & spaces #1.mp4", "100%d.mp4", "http:x.mp4", "-i.mp4"])
def test_any_file_name_is_only_a_file_name(tmp_path: Path, name: str) -> None:
    file = record(tmp_path / "plain.mp4", steady(8), pulse(16000, 1, 0.5)).rename(tmp_path / name)
    assert read_clip(file, 0, 8, 10, 32, 48, 16000).video.shape == (3, 8, 32, 48)


def _broken(folder: Path) -> dict[str, Path]:
    good = record(folder / "good.mp4", steady(20, step=8), pulse(16000, 2, 0.5)).read_bytes()
    noisy = bytearray(good)
    body = good.index(b"mdat") + 8
    noisy[body : body + 3000] = np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes()
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"hello, this is no video\n" * 40,
        "noise.mp4": np.random.default_rng(1).integers(0, 256, 20000, dtype=np.uint8).tobytes(),
        "no_index.mp4": good[: good.index(b"moov") - 10],
        "overwritten.mp4": bytes(noisy),
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ngood.mp4\n#EXT-X-ENDLIST\n",
        "concat.mp4": b"ffconcat version 1.0\nfile good.mp4\n",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.mp4").mkdir()
    made = {name: folder / name for name in (*contents, "folder.mp4", "absent.mp4")}
    return made | {
        "silent_video.mp4": record(folder / "silent_video.mp4", steady(20, step=8)),
        "sound_alone.mp4": record(folder / "sound_alone.mp4", sound=pulse(16000, 2, 0.5)),
        "short.mp4": record(folder / "short.mp4", steady(2), pulse(16000, 0.2, 0.1)),
    }


def test_every_unusable_file_is_a_data_error_of_one_line_that_names_it(tmp_path: Path) -> None:
    for name, file in _broken(tmp_path).items():
        with pytest.raises(DataError) as caught:
            read_clip(file, None, 16, 10, 32, 48, 16000)
        message = str(caught.value)
        assert message.startswith(f"{file}: "), name
        assert "\n" not in message
        assert caught.value.exit_code == ExitCode.DATA


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    from mmdisco_cli.data.media import write_mp4

    noise = torch.rand(3, 40, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    file = write_mp4(tmp_path / "cut.mp4", noise, torch.from_numpy(pulse(16000, 4, 0.5)), 10, 16000)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.mp4: cut short: \w+ ends after"):
        read_clip(file, 0, 8, 10, 32, 32, 16000)


def test_no_thread_of_a_decoder_waits_to_log(tmp_path: Path) -> None:
    """As it would for ever while the decoder is closed; torchvision below 0.26 turns the log on when it is imported."""
    file = record(tmp_path / "a.mp4", steady(8), pulse(16000, 0.8, 0.4))
    av.logging.set_level(av.logging.ERROR)
    try:
        read_video(file, 0, 8, 10, **SIZE)
        assert av.logging.get_level() is None
    finally:
        av.logging.set_level(None)
