"""Media in containers that `mmdisco` does not write, made with PyAV alone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def mpeg_program_stream(path: Path, seconds: int = 2) -> Path:
    """Write MPEG-1 video at 25 frames a second and MP2 sound, as a .mpg holds them."""
    draw = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg1video", rate=25)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        audio = container.add_stream("mp2", rate=16000, layout="mono")
        for place in range(25 * seconds):
            image = np.full((32, 48, 3), 20 + 2 * place, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            sound = (3000 * draw.standard_normal((1, 640))).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, 640 * place, Fraction(1, 16000)
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path
