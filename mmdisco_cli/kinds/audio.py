"""Audio without video as .wav: 16-bit PCM."""

from fractions import Fraction
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.audio import MARGIN
from mmdisco_cli.data.media import read_audio, write_wav
from mmdisco_cli.data.probing import probe
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.drawing import audio_html
from mmdisco_cli.kinds.thumbnails import audio_thumbnail

SHORTEST = Fraction(1, 10)
"""Of a sample: a file that lasts less is taken for a mistake."""


class AudioKind:
    """Audio (channels, samples) at the plan's rate."""

    def misfit(self, plan: ModalityPlan) -> str:
        """Return why media of this plan are not audio."""
        right = len(plan.media_shape) == 2 and plan.rate is not None and plan.rate >= 1
        return "" if right else f"media of shape {plan.media_shape} at {plan.rate} Hz are not (channels, samples)"

    def write(self, path: Path, media: Media, item: Item) -> None:
        """Write a .wav, with `item.about` as JSON in its comment."""
        if isinstance(media, str):
            raise DataError("audio to write must be a tensor, not text")
        write_wav(path, media, round(item.plan.rate or 0), item.about)

    def read(self, path: Path, item: Item) -> Tensor:
        """Return the beginning of the audio of any file, resampled and mixed to the plan's rate and channels.

        A recording may be as short as a tenth of a sample, such as a spoken word: silence follows it.
        """
        length = _seconds(item.plan)
        rate, channels = round(item.plan.rate or 0), item.plan.media_shape[0]
        return read_audio(path, None, length, rate, channels, slack=max(MARGIN, length * (1 - SHORTEST)))

    def change(self, path: Path, item: Item) -> str:
        """Say how much of a sample a file lasts."""
        span, length = probe(path).span(("audio",)), _seconds(item.plan)
        lasts = span.stop - span.start
        short = length - lasts > min(MARGIN, length / 20)
        return f"{float(lasts):.2f} s, then silence to {float(length):.2f} s" if short else ""

    def card(self, path: Path, source: str) -> str:
        """Return a player above the waveform and the spectrogram."""
        return audio_html(path, source)

    def thumbnail(self, path: Path, width: int) -> Tensor:
        """Return the spectrogram, uint8 (3, H, width)."""
        return audio_thumbnail(path, width)


def _seconds(plan: ModalityPlan) -> Fraction:
    return Fraction(plan.media_shape[1], round(plan.rate or 0))


def build() -> AudioKind:
    """Return the kind."""
    return AudioKind()
