"""What a finished training leaves to publish: a folder with weights, recipe and model card, and nothing else."""

from mmdisco_cli.training.release.figures import add_figures
from mmdisco_cli.training.release.folder import is_released, write_release

__all__ = ["add_figures", "is_released", "write_release"]
