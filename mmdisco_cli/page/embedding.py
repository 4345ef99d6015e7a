"""Clips inside a page: as they are where they are small and any browser plays them, else as a small copy."""

import base64
from pathlib import Path
from tempfile import TemporaryDirectory

from mmdisco_cli.data.media import probe, read_audio, read_video, write_mp4
from mmdisco_cli.data.probing import audio_stream, opened, video_stream

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


def _plays(path: Path) -> bool:
    with opened(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        names = {"video": video and video.codec_context.name, "audio": audio and audio.codec_context.name}
        depth = video.codec_context.pix_fmt if video else None
    return all(names[kind] in CODECS[kind] for kind in CODECS) and depth in ("yuv420p", "yuvj420p")


def _copied(path: Path, target: Path) -> Path:
    info = probe(path)
    span = info.span()
    seconds = min(float(span.stop - span.start), float(SECONDS))
    scale = min(1.0, SIDE / max(1, min(info.height, info.width)))
    height, width = (max(2, round(side * scale / 2) * 2) for side in (info.height, info.width))
    frames = max(1, int(seconds * FPS))
    video = read_video(path, span.start, frames, FPS, height, width, info=info)
    audio = read_audio(path, span.start, min(seconds, frames / FPS), RATE, info=info)
    return write_mp4(target, video, audio, FPS, RATE)


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()
