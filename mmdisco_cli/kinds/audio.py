"""Audio without video as .wav: 16-bit PCM."""

from fractions import Fraction
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.media import read_audio, write_wav
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.drawing import audio_html


class AudioKind:
    """Audio (channels, samples) at the plan's rate."""

    def misfit(self, plan: ModalityPlan) -> str:
        """Return why media of this plan are no audio."""
        right = len(plan.media_shape) == 2 and plan.rate is not None and plan.rate >= 1
        return "" if right else f"media of shape {plan.media_shape} at {plan.rate} Hz are not (channels, samples)"

    def write(self, path: Path, media: Media, item: Item) -> None:
        """Write a .wav, with `item.about` as JSON in its comment."""
        if isinstance(media, str):
            raise DataError("audio to write must be a tensor, not text")
        write_wav(path, media, round(item.plan.rate or 0), item.about)

    def read(self, path: Path, item: Item) -> Tensor:
        """Return the beginning of the audio of any file, resampled and mixed to the plan's rate and channels."""
        channels, samples = item.plan.media_shape
        rate = round(item.plan.rate or 0)
        return read_audio(path, None, Fraction(samples, rate), rate, channels)

    def card(self, path: Path, source: str) -> str:
        """Return a player above the waveform and the spectrogram."""
        return audio_html(path, source)


def build() -> AudioKind:
    """Return the kind."""
    return AudioKind()
