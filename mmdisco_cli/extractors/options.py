"""What the command line may say of an extractor; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class ExtractorOptions:
    """What `--extractor NAME:PRESET=WEIGHTS` says after the name."""

    preset: str = option("", "which published preprocessing; the extractor's first where empty")
    weights: str | None = option(None, "file of weights, for extractors whose packages ship none")
