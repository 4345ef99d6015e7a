"""Clips as .mp4 or .webm and audio as .wav, whole or not at all, and the codecs of each."""

from mmdisco_cli.data.writing.codecs import CODECS, lacking
from mmdisco_cli.data.writing.encoding import as_fps, write_clip, write_mp4, write_wav

__all__ = ["CODECS", "as_fps", "lacking", "write_clip", "write_mp4", "write_wav"]
