"""What a finished training leaves to publish: a folder with weights, recipe and model card, and nothing else."""

from mmdisco_cli.training.release.folder import write_release

__all__ = ["write_release"]
