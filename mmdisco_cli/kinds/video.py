"""Video without audio as .mp4, or as .webm where the name of its file ends so."""

from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.media import as_fps, read_video, write_clip
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.drawing import video_html
from mmdisco_cli.kinds.thumbnails import clip_thumbnail


class VideoKind:
    """Video (3, T, H, W) at the plan's rate."""

    def misfit(self, plan: ModalityPlan) -> str:
        """Return why media of this plan are not video."""
        shape = plan.media_shape
        right = len(shape) == 4 and shape[0] == 3 and plan.rate is not None and plan.rate > 0
        return "" if right else f"media of shape {shape} at {plan.rate} Hz are not (3, T, H, W)"

    def write(self, path: Path, media: Media, item: Item) -> None:
        """Write a clip without an audio stream, every pixel `item.scale` times along each edge."""
        if isinstance(media, str):
            raise DataError("video to write must be a tensor, not text")
        write_clip(path, media, None, item.plan.rate or 0.0, 0, item.about, scale=item.scale)

    def read(self, path: Path, item: Item) -> Tensor:
        """Return the beginning of a file's video at the plan's rate and size."""
        _, frames, height, width = item.plan.media_shape
        return read_video(path, None, frames, as_fps(item.plan.rate or 0), height, width)

    def card(self, path: Path, source: str) -> str:
        """Return a player above a strip of frames."""
        return video_html(path, source)

    def thumbnail(self, path: Path, width: int) -> Tensor:
        """Return frames side by side, above the spectrogram of a file with audio, uint8 (3, H, width)."""
        return clip_thumbnail(path, width)


def build() -> VideoKind:
    """Return the kind."""
    return VideoKind()
