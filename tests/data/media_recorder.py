"""Make the odd media files that the tests of reading need, with PyAV alone."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)
BLOCK = 1024


def pulse(rate: int, seconds: float, at: float, channels: int = 1) -> np.ndarray:
    """A click of 2 ms about `at`, band-limited so that any sample rate can carry it."""
    time = np.arange(round(rate * seconds)) / rate - at
    click = 0.8 * np.exp(-((time / 5e-4) ** 2)) * np.cos(2 * np.pi * 500 * time)
    return np.tile(click.astype(np.float32), (channels, 1))


def centre(wave: np.ndarray, rate: int) -> float:
    """The time of the centre of energy about the loudest sample, in seconds."""
    energy = np.asarray(wave, dtype=np.float64) ** 2
    peak = int(energy.argmax())
    near = np.arange(max(0, peak - rate // 200), min(len(energy), peak + rate // 200 + 1))
    return float((near * energy[near]).sum() / energy[near].sum() / rate)


def flat(level: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.full((*size, 3), level, dtype=np.uint8)


def record(
    path: Path,
    frames: Sequence[tuple[float, np.ndarray]] = (),
    sound: np.ndarray | None = None,
    rate: int = 16000,
    *,
    layout: str = "mono",
    codecs: tuple[str, str] = ("libx264", "aac"),
    move_video: Callable[[float], float] = lambda t: t,
    move_sound: Callable[[float], float] = lambda t: t,
    form: str | None = None,
) -> Path:
    """Write frames at their times (seconds) and sound (C, S); `move_*` map a packet's time to the one it is given."""
    with av.open(str(path), "w", format=form) as container:
        packets = []
        video = container.add_stream(codecs[0], rate=10) if len(frames) else None
        audio = container.add_stream(codecs[1], rate=rate, layout=layout) if sound is not None else None
        if video is not None:
            height, width = frames[0][1].shape[:2]
            video.height, video.width, video.pix_fmt = height, width, "yuv420p"
            video.codec_context.time_base = MILLISECOND
            video.options = {"crf": "4", "bf": "0", "g": "20"} if codecs[0] == "libx264" else {}
            for time, image in frames:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round(time * 1000), MILLISECOND
                packets += [(packet, move_video) for packet in video.encode(frame)]
            packets += [(packet, move_video) for packet in video.encode(None)]
        if audio is not None:
            audio.bit_rate = 6 * rate
            for first in range(0, sound.shape[1], BLOCK):
                frame = _sound_frame(sound[:, first : first + BLOCK], codecs[1], layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
                packets += [(packet, move_sound) for packet in audio.encode(frame)]
            packets += [(packet, move_sound) for packet in audio.encode(None)]
        for packet, move in packets:
            shift = round(move(float(packet.pts * packet.time_base)) / packet.time_base) - packet.pts
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        for packet, _ in sorted(packets, key=lambda item: item[0].dts * item[0].time_base):
            container.mux(packet)
    return path


def _sound_frame(wave: np.ndarray, codec: str, layout: str) -> av.AudioFrame:
    if codec == "aac":
        return av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
    packed = np.ascontiguousarray((wave.T.reshape(1, -1) * 32767).round().astype(np.int16))
    return av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
