"""What a folder is that was given in place of a checkpoint, as far as the names in it say; torch-free."""

from pathlib import Path

_PARTS = "a checkpoint in several files: load them all and save one file of them"
_KNOWN = {
    "model_index.json": "a pipeline of diffusers, which needs no conversion: a recipe names it as backbones.LABEL.path",
    "data.pkl": "an unpacked file of torch.save: pack it again, uncompressed and with its folder (zip -0 -r)",
    ".metadata": "a distributed checkpoint: torch.distributed.checkpoint.format_utils makes one file of it",
    "model.safetensors.index.json": _PARTS,
    "pytorch_model.bin.index.json": _PARTS,
    "diffusion_pytorch_model.safetensors.index.json": _PARTS,
}


def describe_folder(folder: Path) -> str:
    """Return in a clause that a folder is not a checkpoint, what its names say that it is, and what to do with it."""
    found = next((text for name, text in _KNOWN.items() if (folder / name).exists()), None)
    if found is not None:
        return f"a folder, not a checkpoint; it looks like {found}"
    return (
        "a folder, not a checkpoint: give one file (clips become a cache with --recipe; to train, a recipe names their "
        "folder in data.path)"
    )
