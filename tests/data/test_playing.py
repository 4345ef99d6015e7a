"""Sound whose stamps wander: what players play on through and what is a gap, as ffmpeg's aresample=async has it."""

import math
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_recorder import centre, flat, pulse, record

from mmdisco_cli.data.media import probe, read_audio, read_whole_audio
from mmdisco_cli.data.playing import GAP, Piece, played
from mmdisco_cli.data.windows import ClipWindow, Shape, WindowStore

RATE = 44100
FRAMES = [(0.0, flat(20)), (0.1, flat(30))]
JITTER = random.Random(0)
MOVES: dict[str, Callable[[float], float]] = {
    "slow": lambda t: 1.002 * t,
    "fast": lambda t: 0.998 * t,
    "very slow": lambda t: 1.01 * t,
    "to and fro": lambda t: t + 0.1 * math.sin(2 * math.pi * t / 10),
    "joined pieces": lambda t: t + 0.008 * int(t / 1.7),
}


def tone(seconds: float) -> np.ndarray:
    return (0.25 * np.sin(2 * np.pi * 440 * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)[None]


def above(wave: torch.Tensor, cut: float = 4000) -> float:
    """The energy above a frequency in dB of the whole, but for the ends, where a tone begins and stops."""
    inner = wave[RATE // 10 : -RATE // 10]
    spectrum = torch.stft(inner, 2048, 512, window=torch.hann_window(2048), return_complex=True).abs().square()
    high = spectrum[torch.fft.rfftfreq(2048, 1 / RATE) > cut]
    return float(10 * (high.sum() / spectrum.sum()).log10())


def shifts(wave: torch.Tensor, times: list[float]) -> list[float]:
    """By how many seconds each click comes later than it should."""
    found = []
    for time in times:
        first = round((time - 0.3) * RATE)
        found.append((first / RATE + centre(wave[first : round((time + 0.3) * RATE)].numpy(), RATE)) - time)
    return found


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("form", ["mp4", "mkv"])
def test_drift_makes_no_holes_and_leaves_sound_by_its_stamps(name: str, form: str, tmp_path: Path) -> None:
    # ffmpeg's own async=1 lets 100 ms of drift build up and then cuts; async=1000 stretches, as is done here.
    move = MOVES[name]
    steady = record(tmp_path / f"tone.{form}", FRAMES, tone(15), RATE, move_sound=move)
    assert above(read_whole_audio(probe(steady))[0]) < -70
    clicks = sum(pulse(RATE, 15, at) for at in range(1, 14))
    ticking = record(tmp_path / f"clicks.{form}", FRAMES, clicks, RATE, move_sound=move)
    off = shifts(read_whole_audio(probe(ticking))[0], [move(at) for at in range(1, 14)])
    assert max(map(abs, off)) < 0.012


@pytest.mark.parametrize(
    "move", [lambda t: round(t, 3), lambda t: t + JITTER.uniform(-0.008, 0.008), lambda t: t + 0.015 * (t > 2)]
)
@pytest.mark.parametrize("form", ["mp4", "mkv"])
def test_what_lies_within_the_threshold_is_played_on_sample_by_sample(
    move: Callable[[float], float], form: str, tmp_path: Path
) -> None:
    file = record(tmp_path / f"moved.{form}", FRAMES, tone(4), RATE, move_sound=move)
    with av.open(str(file)) as container:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    inner = read_whole_audio(probe(file))[0][2000:-2000].numpy()
    assert min(np.abs(decoded[k : k + len(inner)] - inner).max() for k in range(1000, 3100)) < 1e-6


def test_rounded_milliseconds_in_mp4_are_no_clicks(tmp_path: Path) -> None:
    first = record(tmp_path / "first.mkv", FRAMES, tone(3), RATE)
    with av.open(str(first)) as source, av.open(str(tmp_path / "again.mp4"), "w") as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    assert above(read_whole_audio(probe(tmp_path / "again.mp4"))[0]) < -60


@pytest.mark.parametrize("width", [0.03, 0.06, 0.3])
def test_a_step_beyond_the_threshold_moves_what_follows_by_all_of_it(width: float, tmp_path: Path) -> None:
    move = lambda t: t + width * (t > 2.505)  # noqa: E731
    clicks = sum(pulse(RATE, 5, at) for at in (1, 2, 3.5, 4.5))
    file = record(tmp_path / "step.mkv", FRAMES, clicks, RATE, move_sound=move)
    off = shifts(read_whole_audio(probe(file))[0], [1, 2, 3.5 + width, 4.5 + width])
    assert max(map(abs, off)) < 2e-3


def test_windows_follow_drift_as_whole_clips_do(tmp_path: Path) -> None:
    move = MOVES["slow"]
    file = record(tmp_path / "clicks.mkv", FRAMES, pulse(RATE, 20, 15), RATE, move_sound=move)
    steady = record(tmp_path / "tone.mkv", FRAMES, tone(20), RATE, move_sound=move)
    sound = read_audio(file, Fraction(29, 2), 1, RATE)[0]
    assert centre(sound.numpy(), RATE) == pytest.approx(move(15) - 14.5, abs=GAP)
    store = WindowStore(Shape(20, Fraction(10), 32, 48, RATE), ("audio",), 0)
    windows = [ClipWindow("tone", "", False, Fraction(start), probe(steady)) for start in range(6, 18, 2)]
    for stored in store.load(windows):
        assert above(stored["audio"][0].float() / 32767) < -60


def test_a_few_wrong_stamps_among_right_ones_move_nothing() -> None:
    pieces = [Piece(Fraction(k, 50) + Fraction(k in (30, 31), 4), torch.full((1, 320), k + 1.0)) for k in range(60)]
    (whole,) = played(pieces, 16000)
    assert torch.equal(whole.wave[0, ::320], torch.arange(1.0, 61))


def test_a_gap_lies_where_it_is_stamped() -> None:
    pieces = [Piece(Fraction(k, 50) + Fraction(k >= 7, 2), torch.full((1, 320), k + 1.0)) for k in range(12)]
    first, second = played(pieces, 16000)
    assert (first.time, first.wave.shape[1]) == (0, 7 * 320)
    assert (second.time, second.wave.shape[1]) == (Fraction(7, 50) + Fraction(1, 2), 5 * 320)


def test_sound_stamped_before_the_end_of_what_precedes_it_begins_there() -> None:
    pieces = [Piece(Fraction(k, 50) - Fraction(3 * (k >= 7), 100), torch.full((1, 320), k + 1.0)) for k in range(12)]
    assert [piece.time for piece in played(pieces, 16000)] == [0, Fraction(11, 100)]


def test_stamps_that_stand_still_are_an_end_and_no_crash() -> None:
    pieces = [Piece(Fraction(k, 1000), torch.ones(1, 320)) for k in range(40)]
    assert all(piece.wave.shape[1] > 0 for piece in played(pieces, 16000))


def test_whole_sound_ends_with_what_is_decoded_and_not_in_a_hole(tmp_path: Path) -> None:
    file = record(tmp_path / "slow.mkv", FRAMES, tone(8), RATE, move_sound=MOVES["slow"], codecs=("libx264", "flac"))
    sound, _ = read_whole_audio(probe(file))
    assert float(sound[-200:].abs().max()) > 0.2
