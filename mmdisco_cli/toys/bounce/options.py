"""What a recipe may say of the bounce data; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class BounceOptions:
    """Objects that move under simple physics, with every impact audible."""

    objects: int = option(2, "moving objects in a clip", minimum=1)
    misalignment: float = option(0.0, "fraction of pairs deliberately wrong", minimum=0, maximum=1)
    seed: int = option(0, "which infinite sequence of clips", minimum=0)
    captions: bool = option(
        False, "clips of up to that many objects, with a sentence that describes them", identity="used"
    )
