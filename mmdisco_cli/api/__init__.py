"""The Python API: `mmdisco_cli.load(recipe)` gives what the commands work with, without files in between."""

from mmdisco_cli.api.model import JointModel, Step, load
from mmdisco_cli.api.sample import Sample, sheet

__all__ = ["JointModel", "Sample", "Step", "load", "sheet"]
