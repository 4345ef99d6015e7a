"""A clip as .webm: VP9 and Opus, in time with each other, and the same bytes each time."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from media_recorder import centre, pulse

from mmdisco_cli.data.media import probe, read_audio, read_clip, write_clip, write_mp4
from mmdisco_cli.data.writing import codecs
from mmdisco_cli.errors import DataError


def flicker(frames: int, size: int = 64) -> torch.Tensor:
    """Blocks of other colours in every frame, (3, T, H, W): a frame taken for its neighbour is far off."""
    noise = torch.rand(3, frames, size // 8, size // 8, generator=torch.Generator().manual_seed(frames)) * 2 - 1
    return noise.repeat_interleave(8, 2).repeat_interleave(8, 3)


@pytest.mark.parametrize("fps", [10, 12.5, 24, Fraction(30000, 1001)])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2)])
def test_frames_and_a_click_come_back_in_time(tmp_path: Path, fps: float | Fraction, rate: int, channels: int) -> None:
    video, seconds = flicker(24), 24 / exact(fps)
    sound = torch.from_numpy(pulse(rate, float(seconds), 0.6123)).repeat(channels, 1)
    file = write_clip(tmp_path / "a.webm", video, sound, fps, rate)
    back = read_clip(file, 0, 24, fps, 64, 64, rate, channels=channels)
    assert float((back.video - video).abs().mean()) < 0.03
    assert back.audio.shape == sound.shape
    for channel in back.audio:
        assert centre(channel.numpy(), rate) == pytest.approx(0.6123, abs=5e-4)
    assert float((back.audio - sound).norm() / sound.norm()) < 0.1


def exact(fps: float | Fraction) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def test_it_is_vp9_and_opus_of_one_length_with_its_words(tmp_path: Path) -> None:
    tags = {"title": "ball ü", "seed": "7"}
    sound = torch.zeros(1, 26000)
    first, second = (write_clip(tmp_path / name, flicker(16), sound, 10, 16000, tags) for name in ("1.webm", "2.WEBM"))
    assert first.read_bytes() == second.read_bytes()
    with av.open(str(first)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, video.pix_fmt, audio.codec.name) == ("vp9", "yuv420p", "opus")
        assert container.metadata["COMMENT"] == '{"seed": "7", "title": "ball ü"}'
        assert container.metadata["title"] == "ball ü"
    info = probe(first)
    assert info.video is not None
    assert info.audio is not None
    assert info.video.start == info.audio.start == 0
    assert abs(info.video.stop - Fraction(8, 5)) <= Fraction(1, 500)
    assert abs(info.audio.stop - Fraction(8, 5)) <= Fraction(1, 500)


@pytest.mark.parametrize("size", [32, 160])
def test_bytes_do_not_depend_on_what_was_in_memory(tmp_path: Path, size: int) -> None:
    written = set()
    for k in range(6):
        _ = [torch.rand(1000 + 997 * k) for _ in range(5)]  # fills freed memory with other values each time
        written.add(write_clip(tmp_path / "a.webm", flicker(8, size), torch.zeros(1, 12800), 10, 16000).read_bytes())
    assert len(written) == 1


def test_a_silent_clip_has_no_audio_and_is_enlarged(tmp_path: Path) -> None:
    file = write_clip(tmp_path / "a.webm", flicker(4, 32), None, 10, 0, scale=3)
    info = probe(file)
    assert info.audio is None
    assert (info.height, info.width) == (96, 96)
    with pytest.raises(DataError, match="no audio stream"):
        read_audio(file, 0, 0.4, 16000)


def test_any_other_ending_is_an_mp4(tmp_path: Path) -> None:
    sound = torch.zeros(1, 6400)
    expected = write_mp4(tmp_path / "a.mp4", flicker(4), sound, 10, 16000).read_bytes()
    assert write_clip(tmp_path / "b.m4v", flicker(4), sound, 10, 16000).read_bytes() == expected


def test_a_pyav_without_the_encoders_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codecs.av, "codecs_available", {"libx264", "aac"})
    with pytest.raises(DataError, match=r"a\.webm: cannot write \(PyAV .* has no encoder libvpx-vp9 nor libopus\)"):
        write_clip(tmp_path / "a.webm", flicker(4), torch.zeros(1, 6400), 10, 16000)
    assert list(tmp_path.iterdir()) == []
    assert codecs.lacking("mp4") == ""
