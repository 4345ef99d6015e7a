"""The Python API: `mmdisco_cli.load(recipe)` returns a model to sample, train and evaluate without the command line."""

from mmdisco_cli.api.model import JointModel, Step, load
from mmdisco_cli.api.sample import Sample, sheet

__all__ = ["JointModel", "Sample", "Step", "load", "sheet"]
