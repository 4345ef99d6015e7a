"""Open a recipe's model: find it, make sure that it is what the backbone reads, and wire its parts."""

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

    The codec stays in float32, for sound and colour; the rest takes the recipe's number format.

    Raises:
        UsageError, DataError: nothing is named, it cannot be found, is another pipeline, or lacks files.
    """
    key = f"backbones.{label}.path"
    folder = find_model(options.path, key)
    pipeline_class(folder, expected, key)
    dtypes = dict.fromkeys((*roles.denoiser, *roles.text), DTYPES[options.dtype])
    parts = Parts(folder, classes=classes, folders=folders, dtypes=dtypes, made=made, readers=readers, left=left)
    parts.require_files(roles.all)
    return parts
