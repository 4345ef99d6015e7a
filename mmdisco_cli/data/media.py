"""Media files with PyAV: `read_clip` reads by time stamps, `write_clip` and `write_wav` write whole or not at all."""

from mmdisco_cli.data.audio import decode_audio, read_audio, read_whole_audio
from mmdisco_cli.data.breaks import Span
from mmdisco_cli.data.probing import MediaInfo, probe
from mmdisco_cli.data.reading import Clip, WindowFrames, read_clip, read_frames, read_video, shown_at, walk_frames
from mmdisco_cli.data.writing import as_fps, write_clip, write_mp4, write_wav
from mmdisco_cli.data.writing.codecs import CODECS, lacking

__all__ = [
    "CODECS",
    "Clip",
    "MediaInfo",
    "Span",
    "WindowFrames",
    "as_fps",
    "decode_audio",
    "lacking",
    "probe",
    "read_audio",
    "read_clip",
    "read_frames",
    "read_video",
    "read_whole_audio",
    "shown_at",
    "walk_frames",
    "write_clip",
    "write_mp4",
    "write_wav",
]
