"""From a recipe to its models: the backbones on a device, and the discriminator that joins them."""

from mmdisco_cli.assembly.build import assemble, build_discriminator, request_of
from mmdisco_cli.assembly.discriminator import load_discriminator
from mmdisco_cli.assembly.models import Assembly, LoadedDiscriminator

__all__ = [
    "Assembly",
    "LoadedDiscriminator",
    "assemble",
    "build_discriminator",
    "load_discriminator",
    "request_of",
]
