"""A pipeline in memory in the place of one on disk: `mmdisco_cli.load(..., backbones={"audio": pipeline})`."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError, describe
from mmdisco_cli.hookspecs import Factory


def adopting(build: Factory) -> Callable[[str, Any, Request, Any], Any]:
    """Return a function that builds a backbone from a pipeline in memory, as `build` does from its folder.

    The pipeline is written to a temporary folder once and read from there, because a model is named by its files; the
    object is left as it is, and may be deleted.
    """

    def adopt(label: str, options: Any, request: Request, pipeline: Any) -> Any:
        return build(label, replace(options, path=str(_written(label, pipeline))), request)

    return adopt


def _written(label: str, pipeline: Any) -> Path:
    if not callable(getattr(pipeline, "save_pretrained", None)):
        raise UsageError(f"backbones.{label}: a {type(pipeline).__name__} is not a pipeline of diffusers")
    folder = Path(tempfile.mkdtemp(prefix="mmdisco-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        pipeline.save_pretrained(str(folder))
    except OSError as error:
        raise DataError(f"backbones.{label}: the pipeline cannot be written to {folder}: {describe(error)}") from error
    return folder
