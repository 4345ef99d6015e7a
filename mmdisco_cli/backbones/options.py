"""Options of the built-in base models in a recipe; torch-free, because listing plugins imports them."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class TokenOptions:
    """The built-in trainable model; where `weights` are given, all but `pooled` is read from their metadata."""

    weights: str | None = option(None, "path or packaged name of the trained weights", path=True)
    codec: str = option("sound", "how media become latents", choices=("sound", "frames", "pixels"))
    latent_channels: int = option(8, "of the codec; of `pixels` the colours, 1 or 3", minimum=1)
    patch: tuple[int, ...] = option((4,), "latent cells that make one token, along each axis", minimum=1)
    width: int = option(192, "features of a token", minimum=1)
    depth: int = option(6, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    base: str | None = option(
        None, "weights to go on from: sizes are theirs, the codec stays", path=True, identity="used"
    )
    text: int = option(0, "size of a caption's embedding; 0: takes no captions", minimum=0, identity="used")
    pooled: bool = option(True, "the discriminator too sees that embedding", identity="used")


@dataclass(frozen=True)
class BankOptions:
    """A finite set of samples, each equally likely: strings, or the media of a file."""

    texts: tuple[str, ...] = option((), "the strings of a modality of kind text")
    path: str | None = option(None, ".txt of one string a line, or .safetensors of media (N, ...)", path=True)
    kind: str = option("", "of media: audio, video, image, vector; by default by the modality's name")
    rate: float | None = option(None, "of media with a time axis, in Hz", minimum=1e-3)


@dataclass(frozen=True)
class LatentGaussianOptions:
    """A generator of a standard normal latent; where `weights` are given, all else is read from their metadata."""

    weights: str | None = option(None, "path or packaged name of the trained weights", path=True)
    generator: str = option("vae", "what is trained: a VAE, or a GAN with an encoder", choices=("vae", "gan"))
    latent_channels: int = option(12, "numbers in its latent", minimum=1)
    colours: int = option(1, "channels of the images, 1 or 3", minimum=1, maximum=3)
    width: int = option(32, "channels of its finest features, a multiple of 4", minimum=4)
