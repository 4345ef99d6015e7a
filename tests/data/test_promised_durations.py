"""Durations that libavformat only estimates are no promise; those that a header counts are."""

from pathlib import Path

import av
import numpy as np
import pytest
from media_recorder import flat, record

from mmdisco_cli.data.media import probe, read_whole_audio
from mmdisco_cli.errors import DataError

RATE = 44100


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (1, round(RATE * seconds))).astype(np.float32)


def mp3(path: Path, wave: np.ndarray, bits: int, *, xing: bool = False) -> bytes:
    options = {"write_xing": str(int(xing)), "id3v2_version": "0"}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(("first", "second"), [(32000, 128000), (128000, 32000)])
def test_mp3_of_a_varying_rate_without_a_count_is_read_whole(first: int, second: int, tmp_path: Path) -> None:
    parts = [mp3(tmp_path / "part.mp3", noise(6), bits) for bits in (first, second)]
    file = tmp_path / "both.mp3"
    file.write_bytes(b"".join(parts))
    with av.open(str(file)) as container:
        estimated = (container.duration or 0) / av.time_base
    assert abs(estimated - 12) > 3
    sound, rate = read_whole_audio(probe(file))
    assert len(sound) / rate == pytest.approx(12, abs=0.2)


def test_mp3_that_counts_its_frames_is_refused_where_they_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "cut.mp3"
    whole = mp3(file, noise(8), 64000, xing=True)
    assert float(probe(file).span(("audio",)).stop) == pytest.approx(8, abs=0.1)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.mp3: cut short: audio ends after 4\.00 s of 8\.00 s"):
        probe(file)


@pytest.mark.parametrize("quiet_first", [False, True])
def test_adts_is_read_whole_whatever_its_first_packets_weigh(quiet_first: bool, tmp_path: Path) -> None:
    halves = [np.zeros((1, 6 * RATE), np.float32), noise(6)]
    wave = np.concatenate(halves if quiet_first else halves[::-1], axis=1)
    file = record(tmp_path / "adts.aac", sound=wave, rate=RATE, codecs=("", "aac"), form="adts")
    sound, rate = read_whole_audio(probe(file))
    assert len(sound) / rate == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF - 36, 10 * RATE])
def test_wav_from_a_pipe_is_read_whole_whatever_its_header_says(size: int, tmp_path: Path) -> None:
    file = record(tmp_path / "pipe.wav", sound=noise(3), rate=RATE, codecs=("", "pcm_s16le"))
    data = bytearray(file.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = size.to_bytes(4, "little")
    file.write_bytes(data)
    sound, rate = read_whole_audio(probe(file))
    assert len(sound) / rate == pytest.approx(3, abs=0.01)


def test_avi_from_a_pipe_promises_nothing(tmp_path: Path) -> None:
    file = record(tmp_path / "pipe.avi", sound=noise(3), rate=RATE, codecs=("", "pcm_s16le"))
    data = bytearray(file.read_bytes())
    # A stream's header ends in its length, which a writer who cannot go back leaves at 2 ** 30.
    place = data.index(b"strh") + 8 + 32
    data[place : place + 4] = (1 << 30).to_bytes(4, "little")
    file.write_bytes(data)
    assert float(probe(file).span(("audio",)).stop) == pytest.approx(3, abs=0.01)


def test_matroska_promises_the_whole_file_and_no_single_stream(tmp_path: Path) -> None:
    frames = [(k / 10, flat(20 + 8 * k)) for k in range(4)]
    file = record(tmp_path / "cut.mkv", frames, noise(4), RATE)
    info = probe(file)
    assert info.video is not None
    assert float(info.video.stop) == pytest.approx(0.4, abs=0.02)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.mkv: cut short: ends after [12]\.\d+ s of 4\.\d+ s"):
        probe(file)
