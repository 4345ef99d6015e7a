"""Media files with PyAV: `read_clip` reads by time stamps, `write_clip` and `write_wav` write whole or not at all."""

from mmdisco_cli.data.breaks import Span
from mmdisco_cli.data.probing import MediaInfo, probe
from mmdisco_cli.data.reading import Clip, WindowFrames, read_clip, read_pictures, read_video, shown_at, walk_pictures
from mmdisco_cli.data.sound import decode_sound, read_audio, read_whole_sound
from mmdisco_cli.data.writing import as_fps, write_clip, write_mp4, write_wav
from mmdisco_cli.data.writing.codecs import CODECS, lacking

__all__ = [
    "CODECS",
    "Clip",
    "MediaInfo",
    "Span",
    "WindowFrames",
    "as_fps",
    "decode_sound",
    "lacking",
    "probe",
    "read_audio",
    "read_clip",
    "read_pictures",
    "read_video",
    "read_whole_sound",
    "shown_at",
    "walk_pictures",
    "write_clip",
    "write_mp4",
    "write_wav",
]
