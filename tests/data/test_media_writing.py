"""What is written is H.264 and AAC of equal length, aligned, whole or not there at all."""

import resource
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from media_recorder import centre, pulse
from torch.nn.functional import avg_pool2d

from mmdisco_cli.data.media import as_fps, probe, read_clip, write_mp4
from mmdisco_cli.errors import DataError


def quadrants(frames: int = 16, size: int = 32) -> torch.Tensor:
    """Red, green, blue and grey quarters, (3, T, H, W)."""
    colours = torch.tensor([[0.9, -0.8, -0.9], [-0.9, 0.7, -0.8], [-0.8, -0.9, 0.8], [0.1, 0.1, 0.1]])
    video = colours.T.reshape(3, 1, 2, 2).repeat_interleave(size // 2, 2).repeat_interleave(size // 2, 3)
    return video.expand(3, frames, size, size).clone()


@pytest.mark.parametrize("rate", [16000, 22254, 44100, 48000])
@pytest.mark.parametrize("at", [0.01, 0.7123, 1.55])
def test_a_click_comes_back_within_a_millisecond(tmp_path: Path, rate: int, at: float) -> None:
    sound = torch.from_numpy(pulse(rate, 1.6, at))
    file = write_mp4(tmp_path / "a.mp4", quadrants(), sound, 10, rate)
    back = read_clip(file, 0, 16, 10, 32, 32, rate).audio
    assert back.shape == sound.shape
    assert centre(back[0].numpy(), rate) == pytest.approx(at, abs=5e-4)
    assert float((back - sound).norm() / sound.norm()) < 0.06


def test_a_flash_and_its_click_stay_together(tmp_path: Path) -> None:
    video = torch.full((3, 16, 32, 32), -0.8)
    video[:, 7:] = 0.8
    file = write_mp4(tmp_path / "a.mp4", video, torch.from_numpy(pulse(16000, 1.6, 0.7)), 10, 16000)
    with av.open(str(file)) as container:
        bright = [f.time for f in container.decode(video=0) if f.to_ndarray(format="gray").mean() > 128]
    with av.open(str(file)) as container:
        blocks = [(f.time, f.to_ndarray()[0]) for f in container.decode(audio=0)]
    start, block = max(blocks, key=lambda item: float((item[1] ** 2).max()))
    assert bright[0] == pytest.approx(0.7, abs=1e-6)
    assert start + abs(block).argmax() / 16000 == pytest.approx(0.7, abs=1e-3)


@pytest.mark.parametrize(
    ("frames", "fps", "rate"), [(16, 10, 16000), (30, Fraction(30000, 1001), 44100), (7, 12.5, 48000)]
)
def test_both_streams_start_together_and_last_equally_long(
    tmp_path: Path, frames: int, fps: float | Fraction, rate: int
) -> None:
    seconds = frames / as_fps(fps)
    sound = torch.zeros(2, round(seconds * rate) + 500)
    file = write_mp4(tmp_path / "a.mp4", torch.zeros(3, frames, 32, 32), sound, fps, rate)
    with av.open(str(file)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, video.pix_fmt, audio.codec.name) == ("h264", "yuv420p", "aac")
        assert video.start_time == audio.start_time == 0
        assert float(video.duration * video.time_base) == pytest.approx(float(seconds), abs=1e-4)
        assert float(audio.duration * audio.time_base) == pytest.approx(float(seconds), abs=1e-4)
    info = probe(file)
    assert info.video
    assert info.audio
    assert abs(info.video.stop - info.audio.stop) < Fraction(1, 1000)


@pytest.mark.parametrize(("scale", "tolerance"), [(2, 0.05), (4, 0.04)])
def test_colours_survive(tmp_path: Path, scale: int, tolerance: float) -> None:
    video = quadrants()
    file = write_mp4(tmp_path / "a.mp4", video, torch.zeros(1, 25600), 10, 16000, scale=scale)
    assert (probe(file).height, probe(file).width) == (32 * scale, 32 * scale)
    back = read_clip(file, 0, 16, 10, 32, 32, 16000).video
    inner = torch.ones(32, dtype=torch.bool)
    inner[15:17] = False  # the border, where 4:2:0 mixes
    assert float((back - video).abs()[..., inner, :][..., inner].max()) < tolerance


def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path) -> None:
    file = write_mp4(tmp_path / "a.mp4", torch.full((3, 4, 9, 15), 0.5), torch.zeros(1, 6400), 10, 16000)
    assert (probe(file).height, probe(file).width) == (10, 16)
    assert float((read_clip(file, 0, 4, 10, 10, 16, 16000).video - 0.5).abs().max()) < 0.04


def test_the_same_clip_gives_the_same_bytes_and_its_index_comes_first(tmp_path: Path) -> None:
    sound = torch.from_numpy(pulse(16000, 1.6, 0.5))
    tags = {"title": "ball ü", "seed": "7"}
    one, two = (write_mp4(tmp_path / n, quadrants(), sound, 10, 16000, tags).read_bytes() for n in ("1.mp4", "2.mp4"))
    assert one == two
    assert one.index(b"moov") < one.index(b"mdat")
    with av.open(str(tmp_path / "1.mp4")) as container:
        assert container.metadata["comment"] == '{"seed": "7", "title": "ball ü"}'
        assert container.metadata["title"] == "ball ü"


@pytest.mark.parametrize("size", [32, 64, 160])
def test_bytes_do_not_depend_on_what_was_in_memory(tmp_path: Path, size: int) -> None:
    """Sizes at which x264's macroblock tree, now off, gave up to eight different files in 60."""
    generator = torch.Generator().manual_seed(size)
    video = avg_pool2d(torch.rand(3, 16, size, size, generator=generator) * 2 - 1, 5, 1, 2)
    written = set()
    for k in range(25):
        _ = [torch.rand(1000 + 997 * k) for _ in range(5)]  # fills freed memory again each time
        written.add(write_mp4(tmp_path / "a.mp4", video, torch.zeros(1, 25600), 10, 16000).read_bytes())
    assert len(written) == 1


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = torch.rand(3, 16, 64, 64) * 2 - 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(DataError, match=r"a\.mp4: cannot write"):
            write_mp4(target, noise, torch.zeros(1, 25600), 10, 16000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.mp4", b"old")]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/a\.mp4: cannot write \(No such file or directory\)"):
        write_mp4(tmp_path / "nowhere" / "a.mp4", quadrants(), torch.zeros(1, 25600), 10, 16000)


@pytest.mark.parametrize(
    ("video", "audio", "fps", "options", "reason"),
    [
        (torch.zeros(16, 3, 32, 32), torch.zeros(1, 25600), 10, {}, r"must be \(3, T, H, W\)"),
        (torch.zeros(3, 16, 32, 32), torch.zeros(25600), 10, {}, "audio to write"),
        (torch.zeros(3, 16, 32, 32), torch.zeros(3, 25600), 10, {}, "audio to write"),
        (torch.zeros(3, 16, 32, 32), torch.zeros(1, 32000), 10, {}, "does not fit"),
        (torch.full((3, 16, 32, 32), torch.nan), torch.zeros(1, 25600), 10, {}, "not finite"),
        (torch.zeros(3, 16, 32, 32), torch.full((1, 25600), torch.inf), 10, {}, "not finite"),
        (torch.zeros(3, 16, 32, 32), torch.zeros(1, 25600), 0, {}, "frame rate"),
        (torch.zeros(3, 16, 32, 32), torch.zeros(1, 25600), 10, {"scale": 0}, "scale"),
    ],
)
def test_what_cannot_be_a_clip_is_refused(
    tmp_path: Path, video: torch.Tensor, audio: torch.Tensor, fps: float, options: dict[str, int], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        write_mp4(tmp_path / "a.mp4", video, audio, fps, 16000, **options)
    assert not list(tmp_path.iterdir())
