"""Frames come in the order in which they are shown, whatever their stamps, the right way up, all of one size."""

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_recorder import flat, pulse, record

from mmdisco_cli.data import reading
from mmdisco_cli.data.clips import open_clips
from mmdisco_cli.data.frames import in_order
from mmdisco_cli.data.media import probe, read_frames, read_video, walk_frames
from mmdisco_cli.errors import DataError

PACKED = Path(__file__).parent / "cases" / "packed_bframes.avi"
RATE, COUNT, BITS = 25, 60, 9
SIZE = (96, 128)


def numbered(number: int) -> np.ndarray:
    """A frame whose bars at the top are its number in binary, with something below that moves."""
    image = flat(30, SIZE)
    for bit in range(BITS):
        if number >> bit & 1:
            image[:40, 14 * bit : 14 * bit + 14] = 220
    image[60:76, 2 * number % 110 : 2 * number % 110 + 16] = 128
    return image


def number_of(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(BITS) if image[10:30, 14 * bit + 5 : 14 * bit + 10].mean() > 120)


def encode(path: Path, codec: str, options: dict[str, str], count: int = COUNT) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def remuxed(source: Path, target: Path, change: Callable[[Any, int], None] = lambda packet, place: None) -> Path:
    """Copy packets as `ffmpeg -fflags +genpts -c copy` does: what has no stamps gets those of the next stored frame."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for place, packet in enumerate(packet for packet in old.demux(video=0) if packet.dts is not None):
            change(packet, place)
            packet.stream = stream
            new.mux(packet)
    return target


MPEG4 = ("mpeg4", {"bf": "2", "qscale": "2", "flags": "+qscale"})
H264 = ("libx264", {"bf": "3", "crf": "10", "g": "20", "b-adapt": "0"})
MPEG2 = ("mpeg2video", {"bf": "2", "qscale": "2", "flags": "+qscale"})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("numbered")
    made = [
        encode(root / "mpeg4.avi", *MPEG4),
        encode(root / "h264.avi", *H264),
        encode(root / "h264.mp4", *H264),
        encode(root / "h264.ts", *H264),
        encode(root / "mpeg2.mpg", *MPEG2),
    ]
    made += [remuxed(root / "h264.avi", root / f"remuxed.{form}") for form in ("mkv", "mp4")]
    return {path.name: path for path in made}


NAMES = ["mpeg4.avi", "h264.avi", "h264.mp4", "h264.ts", "mpeg2.mpg", "remuxed.mkv", "remuxed.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_comes_once_and_in_order(files: dict[str, Path], name: str) -> None:
    walked = list(walk_frames(probe(files[name])))
    assert [number_of(image) for _, image in walked] == list(range(COUNT))
    times = [time for time, _ in walked]
    assert times == sorted(times)
    steps = {round(float(b - a) * RATE, 1) for a, b in pairwise(times)}
    assert steps <= {1.0, 2.0}
    assert abs(float(times[-1] - times[0]) * RATE - (COUNT - 1)) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_window_steps_through_the_frames(files: dict[str, Path], name: str) -> None:
    count = COUNT - 8
    video = read_video(files[name], None, count, RATE, *SIZE)
    found = [number_of((frame.permute(1, 2, 0).numpy() + 1) * 127.5) for frame in video.transpose(0, 1)]
    steps = [b - a for a, b in pairwise(found)]
    # One frame may stay where the container has no frame, as before the first or where a decoder was late.
    assert found[0] == 0
    assert set(steps) <= {0, 1}
    assert steps.count(0) <= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_seek_shows_what_reading_from_the_beginning_shows(
    files: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(files[name])
    starts = [Fraction(k, RATE) + Fraction(1, 100) for k in range(14, COUNT - 4, 3)]

    def shown(far: float) -> Iterator[list[int]]:
        monkeypatch.setattr(reading, "FAR", far)
        for start in starts:
            pair = read_frames(info, [start, start + Fraction(1, RATE)], *SIZE)
            yield [number_of(one.permute(1, 2, 0).numpy()) for one in pair]

    assert list(shown(0)) == list(shown(1e9))


def test_frames_packed_two_to_a_chunk_are_read_in_order() -> None:
    with av.open(str(PACKED)) as container:
        expected = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    walked = list(walk_frames(probe(PACKED)))
    times = [time for time, _ in walked]
    assert [number_of(image) for _, image in walked] == expected
    assert len(set(times)) == len(times)
    assert times == sorted(times)


def test_training_windows_step_through_the_frames(tmp_path: Path) -> None:
    encode(tmp_path / "a.avi", *MPEG4)
    shape: dict[str, Any] = {"frames": 10, "fps": RATE, "height": SIZE[0], "width": SIZE[1], "sample_rate": 8000}
    found = open_clips(tmp_path, **shape, modalities=("video",), holdout=0)
    media = found.media(range(5), ["video"])["video"]
    frames = ((media.permute(0, 2, 3, 4, 1).flatten(0, 1).numpy() + 1) * 127.5).astype(np.uint8)
    assert [number_of(frame) for frame in frames] == list(range(50))


def test_frames_of_equal_stamps_and_without_stamps_keep_their_order(files: dict[str, Path], tmp_path: Path) -> None:
    def equal(packet: Any, place: int) -> None:
        packet.pts = packet.dts = place // 2 * 80

    source = encode(tmp_path / "plain.mkv", "mpeg4", {"bf": "0"}, 20)
    walked = list(walk_frames(probe(remuxed(source, tmp_path / "equal.mkv", equal))))
    assert [number_of(image) for _, image in walked] == list(range(20))
    assert [round(float(time) * 12.5) for time, _ in walked] == [k // 2 for k in range(20)]


def test_a_recording_after_another_goes_on_where_its_stamps_fall_back(tmp_path: Path) -> None:
    one = encode(tmp_path / "one.ts", *H264).read_bytes()
    (tmp_path / "twice.ts").write_bytes(one + one)
    info = probe(tmp_path / "twice.ts")
    assert [number_of(image) for _, image in walk_frames(info)] == [*range(COUNT), *range(COUNT)]
    assert len(info.remarks) == 1
    assert info.remarks[0].startswith("time stamps jump by -2.")


def test_stamps_that_fall_back_by_less_than_a_break_are_an_error_where_no_order_explains_them(tmp_path: Path) -> None:
    one = encode(tmp_path / "one.ts", "libx264", {"bf": "0"}, 10).read_bytes()
    (tmp_path / "twice.ts").write_bytes(one + one)
    with pytest.raises(DataError, match=r"twice\.ts: its time stamps go back from \d\.\d+ to 0\.\d+ s"):
        list(walk_frames(probe(tmp_path / "twice.ts")))


def test_frames_before_a_fault_are_shown() -> None:
    def broken() -> Iterator[tuple[Fraction, str]]:
        yield from ((Fraction(time), name) for time, name in ((0, "a"), (2, "b"), (1, "c")))
        raise DataError("corrupt")

    ordered = in_order(broken(), lambda: 16)
    assert [next(ordered) for _ in range(3)] == [(0, "a"), (1, "b"), (2, "c")]
    with pytest.raises(DataError, match="corrupt"):
        next(ordered)


ONE = 1 << 16
ORIENTATIONS: dict[str, tuple[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]]] = {
    # a, b, c, d of x' = a x + c y, y' = b x + d y, y downwards, and the same as a reordering of rows and columns.
    "as stored": ((ONE, 0, 0, ONE), lambda p: p),
    "mirrored": ((-ONE, 0, 0, ONE), lambda p: p[:, ::-1]),
    "upside down, mirrored": ((ONE, 0, 0, -ONE), lambda p: p[::-1]),
    "half turn": ((-ONE, 0, 0, -ONE), lambda p: p[::-1, ::-1]),
    "quarter turn": ((0, ONE, -ONE, 0), lambda p: np.rot90(p, -1)),
    "quarter turn back": ((0, -ONE, ONE, 0), lambda p: np.rot90(p, 1)),
    "transposed": ((0, ONE, ONE, 0), lambda p: p.swapaxes(0, 1)),
    "transposed about the other diagonal": ((0, -ONE, -ONE, 0), lambda p: p[::-1, ::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_orientation_is_shown_as_players_show_it(tmp_path: Path, name: str) -> None:
    (a, b, c, d), reorder = ORIENTATIONS[name]
    image = flat(20, (32, 64))
    image[:16, :32], image[16:, :32], image[:16, 32:] = (220, 30, 30), (30, 200, 30), (30, 30, 220)
    file = record(tmp_path / "turned.mp4", [(i / 10, image) for i in range(10)], pulse(16000, 1, 0.5))
    stored = next(walk_frames(probe(file)))[1]
    data = bytearray(file.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(data)
    expected = reorder(stored)
    assert np.array_equal(next(walk_frames(probe(file)))[1], expected)
    shown = read_video(file, 0, 1, 10, *expected.shape[:2])[:, 0].permute(1, 2, 0).numpy()
    assert np.abs((shown[:, :, ::-1] + 1) * 127.5 - expected).max() < 2


def resized(path: Path) -> Path:
    """Write two pieces of MPEG-TS of different size as one file, as broadcasts do."""
    tone = 0.1 * np.random.default_rng(0).standard_normal((1, 32000)).astype(np.float32)
    pieces = []
    for k, size in enumerate(((48, 64), (48, 32))):
        image = flat(60, size)
        image[:24, : size[1] // 2] = 200
        later = {"move_video": lambda t, k=k: t + 2 * k, "move_sound": lambda t, k=k: t + 2 * k}
        piece = path.with_name(f"piece{k}.ts")
        record(piece, [(i / 10, image) for i in range(20)], tone, codecs=("libx264", "mp2"), form="mpegts", **later)
        pieces.append(piece.read_bytes())
        piece.unlink()
    path.write_bytes(b"".join(pieces))
    return path


def test_a_stream_that_changes_its_size_is_shown_in_that_of_its_beginning(tmp_path: Path) -> None:
    file = resized(tmp_path / "resized.ts")
    images = [image for _, image in walk_frames(probe(file))]
    assert {image.shape for image in images} == {(48, 64, 3)}
    video = read_video(file, 0, 30, 10, 48, 64)
    for before, after in ((images[5], images[-5]), (video[:, 2].numpy() * 127, video[:, -2].numpy() * 127)):
        # Stretched, the bright quarter stays where it was.
        assert np.abs(before.astype(float) - after.astype(float)).mean() < 4
