"""`mmdisco convert`: checkpoints of other projects into files that say what they are, and the way back."""

from pathlib import Path

from mmdisco_cli.conversion.export import export
from mmdisco_cli.conversion.reading import Tensors, is_safetensors, read_checkpoint
from mmdisco_cli.conversion.recognising import recognised, require_format
from mmdisco_cli.errors import UsageError
from mmdisco_cli.registry.plugins import Registry, load_registry
from mmdisco_cli.run import console
from mmdisco_cli.run.files import sha256_of
from mmdisco_cli.run.options import ConvertOptions
from mmdisco_cli.tensors.guard import require_finite, require_room
from mmdisco_cli.weights_file import has_about, save_weights


def convert(options: ConvertOptions) -> None:
    """Convert a checkpoint, or one of our own back into its authors' layout, and print where it lies.

    Raises:
        UsageError: an unknown format, or a destination that cannot be meant.
        PluginError: the format's plugin is not installed, or fails.
        DataError: the source cannot be read, or is not what it seems; nothing is then written.
    """
    source, destination, registry = options.source, options.destination, load_registry()
    if options.format is not None:
        require_format(registry, options.format)
    if source.exists() and destination.exists() and source.samefile(destination):
        raise UsageError(f"{destination}: is the source itself")
    if source.is_file() and is_safetensors(source) and has_about(source):
        export(source, destination)
    else:
        convert_file(registry, source, destination, options.format)
    console.result(str(destination))


def convert_file(registry: Registry, source: Path, destination: Path, format_name: str | None) -> None:
    """Convert a checkpoint of another project; errors as for `convert`."""
    checkpoint = read_checkpoint(source)
    tensors = checkpoint.tensors
    candidate = recognised(registry, source, tensors, format_name)
    # Only now the values: names, shapes and kinds of numbers cost nothing, whatever a file declares.
    require_room(source, tensors.values())
    require_finite(source, tensors)
    about = {**candidate.about, "source": {"file": source.name, "sha256": sha256_of(source)}}
    save_weights(destination, _owned(tensors), about, exact=True)
    count = sum(tensor.numel() for tensor in tensors.values())
    console.note(f"{candidate.title}: {len(tensors)} tensors, {count:,} parameters")
    for text in checkpoint.notes:
        console.note(text)
    if candidate.note and format_name is None:
        console.note(candidate.note)


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
