"""The released sizes on no device: what a run would make, before the weights are there."""

import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_mmdiffusion.backbone import MMDiffusionBackbone, describe
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.options import MMDiffusionOptions
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig


def build(label: str, options: MMDiffusionOptions, request: Request) -> MMDiffusionBackbone:
    """Return the backbone of a recipe with networks that can be planned with and counted, but not called."""
    with torch.device("meta"):
        unet = CoupledUNet(UNetConfig())
        enlarger = Enlarger(EnlargerConfig()) if options.sr_weights else None
    return MMDiffusionBackbone(unet, enlarger, options, describe(unet, "missing", "missing weights", options))
