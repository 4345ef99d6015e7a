"""Options of the built-in base models in a recipe; torch-free, because listing plugins imports them."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class TokenOptions:
    """The built-in trainable model; where `weights` are given, all but `pooled` is read from their metadata."""

    weights: str | None = option(None, "path or packaged name of the trained weights", path=True)
    codec: str = option("sound", "how media become latents", choices=("sound", "frames"))
    latent_channels: int = option(8, "of the codec", minimum=1)
    patch: tuple[int, ...] = option((4,), "latent cells that make one token, along each axis", minimum=1)
    width: int = option(192, "features of a token", minimum=1)
    depth: int = option(6, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    base: str | None = option(
        None, "weights to go on from: sizes are theirs, the codec stays", path=True, identity="used"
    )
    text: int = option(0, "size of a caption's embedding; 0: takes no captions", minimum=0, identity="used")
    pooled: bool = option(True, "the discriminator too sees that embedding", identity="used")
