"""How clips of each ending are encoded: .mp4 as H.264 and AAC, .webm as VP9 and Opus."""

from collections.abc import Mapping
from dataclasses import dataclass

import av

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


@dataclass(frozen=True)
class Codecs:
    """How clips of one ending are encoded: `depth` is the sample format of audio, `rates` are those it is written at.

    6 bits a sample is the most that AAC allows; above `most` bits per second and channel there is no audible gain.
    """

    muxing: Mapping[str, str]
    video: str
    quality: Mapping[str, str]
    audio: str
    depth: str
    rates: tuple[int, ...]
    most: int


# One thread: the bytes must not depend on the number of cores. Nor on uninitialised memory, which x264's macroblock
# tree reads at some small sizes (observed at 32, 64, 96 and 160 pixels).
_X264 = {"preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
_VP9 = {"b": "0", "deadline": "good", "cpu-used": "2", "threads": "1", "row-mt": "0"}
CODECS = {
    "mp4": Codecs({"movflags": "+faststart"}, "libx264", {"crf": "12", **_X264}, "aac", "fltp", AAC_RATES, 192_000),
    "webm": Codecs({}, "libvpx-vp9", {"crf": "16", **_VP9}, "libopus", "flt", (48000,), 128_000),
}
"""By the ending of a clip's name, without the dot."""


def lacking(form: str) -> str:
    """Return which encoder of clips of an ending this PyAV has not, in a clause; empty where it has both."""
    wanted = CODECS[form]
    found = [name for name in (wanted.video, wanted.audio) if name not in av.codecs_available]
    return f"PyAV {av.__version__} has no encoder {' nor '.join(found)}" if found else ""
