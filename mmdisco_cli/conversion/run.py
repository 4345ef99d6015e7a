"""`mmdisco convert`: checkpoints of other projects into files that say what they are, and the way back."""

from pathlib import Path
from typing import Any

from mmdisco_cli.conversion.describing import about
from mmdisco_cli.conversion.export import export
from mmdisco_cli.conversion.kinds import Candidate, describe_misfits, nearest
from mmdisco_cli.conversion.published import about_aist, formats
from mmdisco_cli.conversion.reading import Tensors, is_safetensors, read_checkpoint
from mmdisco_cli.errors import DataError, UsageError, did_you_mean
from mmdisco_cli.run import console
from mmdisco_cli.run.files import sha256_of
from mmdisco_cli.run.options import ConvertOptions
from mmdisco_cli.tensors.guard import form_trouble, require_finite, require_room
from mmdisco_cli.weights_file import has_about, save_weights


def convert(options: ConvertOptions) -> None:
    """Convert a checkpoint, or one of our own back into its authors' layout, and print where it lies.

    Raises:
        UsageError: an unknown format, or a destination that cannot be meant.
        DataError: the source cannot be read, or is not what it seems; nothing is then written.
    """
    source, destination = options.source, options.destination
    if options.format is not None and options.format not in formats():
        raise UsageError(f"--format {options.format}: unknown{did_you_mean(options.format, formats())}")
    if source.exists() and destination.exists() and source.samefile(destination):
        raise UsageError(f"{destination}: is the source itself")
    if source.is_file() and is_safetensors(source) and has_about(source):
        export(source, destination)
    else:
        _convert(source, destination, options.format)
    console.result(str(destination))


def _convert(source: Path, destination: Path, asked: str | None) -> None:
    checkpoint = read_checkpoint(source)
    tensors = checkpoint.tensors
    candidate = recognised(source, tensors, asked)
    # Only now the values: names, shapes and kinds of numbers cost nothing, whatever a file declares.
    require_room(source, tensors.values())
    require_finite(source, tensors)
    save_weights(destination, _owned(tensors), _about(candidate, source), exact=True)
    count = sum(tensor.numel() for tensor in tensors.values())
    console.note(f"{candidate.title}: {len(tensors)} tensors, {count:,} parameters")
    for text in checkpoint.notes:
        console.note(text)
    if candidate.released is not None and asked is None and candidate.format.startswith("mmdiffusion_"):
        console.note(
            f"taken for {candidate.format} by the file's name, for Landscape and AIST++ share one architecture: "
            "--format says otherwise"
        )


def recognised(source: Path, tensors: Tensors, asked: str | None) -> Candidate:
    """Return what a checkpoint holds.

    Raises:
        DataError: no network that is known, another one than was asked for, or one with tensors that do not fit.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    candidate = nearest(shapes, about_aist([asked] if asked else [source.name]))
    if candidate is None:
        first = ", ".join(f"{name} ({str(t.dtype)[6:]} {tuple(t.shape)})" for name, t in list(tensors.items())[:3])
        raise DataError(f"{source}: no network that mmdisco knows; its {len(shapes)} tensors begin with {first}")
    misfits = candidate.misfits(shapes)
    misfits += [f"{name} {trouble}" for name, t in tensors.items() if (trouble := form_trouble(t))]
    said = f" {describe_misfits(misfits)}" if misfits else ""
    if asked is not None and candidate.format != asked:
        near = f", apart from:{said}" if misfits else ""
        raise DataError(f"{source}: is no {asked}; it looks like {candidate.title}{near}")
    if misfits:
        raise DataError(f"{source}: looks like {candidate.title}, but {len(misfits)} tensors do not fit:{said}")
    return candidate


def _about(candidate: Candidate, source: Path) -> dict[str, Any]:
    return about(candidate) | {"source": {"file": source.name, "sha256": sha256_of(source)}}


def _owned(tensors: Tensors) -> Tensors:
    """Return tensors each with memory of its own, in an order that does not depend on the source's."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in sorted(tensors.items()):
        storage = tensor.untyped_storage()
        alone = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        owned[name] = tensor if alone else tensor.clone()
    return owned
