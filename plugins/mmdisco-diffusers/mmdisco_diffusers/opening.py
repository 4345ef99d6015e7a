"""Open a recipe's model: find it, check that it is a pipeline for the backbone, and set up its parts."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from mmdisco_diffusers.finding import find_model, pipeline_class
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import DTYPES, Make, Parts, Roles


def open_parts(
    label: str,
    options: ModelOptions,
    expected: Collection[str],
    roles: Roles,
    classes: Mapping[str, str] | None = None,
    folders: Mapping[str, Path] | None = None,
    made: Mapping[str, Make] | None = None,
    readers: Mapping[str, Callable[[Path], Any]] | None = None,
    left: Mapping[str, str] | None = None,
) -> Parts:
    """Return the parts of the pipeline that a recipe names; their files are there, and nothing is loaded yet.

    The codec stays in float32 for quality; all other parts take the recipe's dtype.

    Raises:
        UsageError, DataError: no path, not found, another pipeline, or missing files.
    """
    key = f"backbones.{label}.path"
    folder = find_model(options.path, key)
    pipeline_class(folder, expected, key)
    dtypes = dict.fromkeys((*roles.denoiser, *roles.text), DTYPES[options.dtype])
    parts = Parts(folder, classes=classes, folders=folders, dtypes=dtypes, made=made, readers=readers, left=left)
    parts.require_files(roles.all)
    return parts
