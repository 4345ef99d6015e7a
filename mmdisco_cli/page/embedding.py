"""Clips inside a page: as they are where they are small and any browser plays them, else as a small copy."""

import base64
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from mmdisco_cli.data.media import probe, read_audio, read_video, write_mp4, write_wav
from mmdisco_cli.data.naming import file_errors
from mmdisco_cli.data.probing import audio_stream, opened, video_stream
from mmdisco_cli.diffusion.backbone import AUDIO
from mmdisco_cli.kinds.known import OpenKind

LARGEST = 600_000
"""Bytes up to which a clip is embedded as it is."""
CODECS = {"video": ("h264", "vp8", "vp9", "av1"), "audio": ("aac", "opus", "vorbis", "mp3", "mp3float", "libopus")}
TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
SIDE, FPS, SECONDS, RATE = 192, 15, 10, 16000


def embedded(path: Path) -> tuple[str, bool]:
    """Return a clip as a data: address, and whether it is a small copy of at most 10 s and 15 frames a second.

    Raises:
        DataError: it cannot be read.
    """
    if path.stat().st_size <= LARGEST and path.suffix.lower() in TYPES and _plays(path):
        return _address(path.read_bytes(), TYPES[path.suffix.lower()]), False
    with TemporaryDirectory() as folder:
        copy = _copied(path, Path(folder) / "copy.mp4")
        return _address(copy.read_bytes(), "video/mp4"), True


def image_address(path: Path) -> str:
    """Return an image of which this program is the author, such as a plot, as a data: address.

    Raises:
        DataError: it cannot be read.
    """
    with file_errors(path):
        return _address(path.read_bytes(), f"image/{path.suffix[1:]}")


def _plays(path: Path) -> bool:
    with opened(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        names = {"video": video and video.codec_context.name, "audio": audio and audio.codec_context.name}
        depth = video.codec_context.pix_fmt if video else None
    known = all(name in CODECS[kind] for kind, name in names.items() if name)
    return known and names["video"] is not None and depth in ("yuv420p", "yuvj420p")


def embedded_file(path: Path, kind: OpenKind) -> tuple[str, bool]:
    """Return a file that is not a clip as a data: address, and whether it is the first 10 s of audio in place of more.

    Of what is large and no audio there is no address: its kind may draw it all the same.

    Raises:
        DataError: it cannot be read.
    """
    if path.stat().st_size <= LARGEST:
        return _address(path.read_bytes(), kind.spec.mime), False
    if kind.name != AUDIO:
        return "data:,", False
    info = probe(path)
    span = info.span(("audio",))
    audio = read_audio(path, span.start, min(span.stop - span.start, Fraction(SECONDS)), RATE, info=info)
    with TemporaryDirectory() as folder:
        return _address(write_wav(Path(folder) / "copy.wav", audio, RATE).read_bytes(), kind.spec.mime), True


def _copied(path: Path, target: Path) -> Path:
    info = probe(path)
    span = info.span() if info.audio else info.span(("video",))
    seconds = min(float(span.stop - span.start), float(SECONDS))
    scale = min(1.0, SIDE / max(1, min(info.height, info.width)))
    height, width = (max(2, round(side * scale / 2) * 2) for side in (info.height, info.width))
    frames = max(1, int(seconds * FPS))
    video = read_video(path, span.start, frames, FPS, height, width, info=info)
    length = min(seconds, frames / FPS)
    audio = read_audio(path, span.start, length, RATE, info=info) if info.audio else None
    return write_mp4(target, video, audio, FPS, RATE)


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()
