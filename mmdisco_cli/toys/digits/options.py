"""What a recipe may say of the digits data; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class DigitsOptions:
    """Spoken and written digits: any recording with any image of the same digit, and the digit's name."""

    spoken: str | None = option(
        None, "folder of recordings DIGIT_SPEAKER_INDEX.wav (Free Spoken Digit Dataset)", path=True, identity="never"
    )
    written: str | None = option(
        None, "folder of images and labels in MNIST's idx format, as they are or .gz", path=True, identity="never"
    )
    download: bool = option(
        False, "fetch what is not given, once, into ~/.cache/mmdisco/digits, as --download does", identity="never"
    )
    pairs: int = option(24000, "pairs to train on; held-out ones are a tenth as many", minimum=10)
    wrong: float = option(0.0, "share of training pairs whose image shows another digit", minimum=0, maximum=1)
    speakers: tuple[str, ...] = option((), "names of the speakers to keep; by default all")
    slant: float = option(0.0, "shear of the images to the right, in widths for their height", minimum=-1, maximum=1)
    invert: bool = option(False, "black on white instead of white on black")
    seed: int = option(0, "which pairs are drawn", minimum=0)
