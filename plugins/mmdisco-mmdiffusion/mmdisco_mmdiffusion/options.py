"""What a recipe may say of the model; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import KeyProblem, option


@dataclass(frozen=True)
class MMDiffusionOptions:
    """MM-Diffusion (Ruan et al. 2023, arXiv 2212.09478): pixels and waveform from one network, denoised together."""

    weights: str = option("", "path of the converted U-Net", path=True)
    sr_weights: str | None = option(
        None, "path of the converted super-resolution network; without one, no enlargement", path=True
    )
    sr_steps: int = option(25, "DDIM steps of the enlargement", minimum=1, maximum=1000)
    shift: int | None = option(None, "frames by which attention windows are shifted; drawn where not given", minimum=0)
    spacing: str = option(
        "logsnr", "where the sampler's levels lie", choices=("logsnr", "leading", "trailing", "linspace")
    )

    def __post_init__(self) -> None:
        """Refuse a model without weights: what an untrained one makes is noise."""
        if not self.weights:
            raise KeyProblem("weights", "must name the file that `mmdisco convert` made of the checkpoint")
