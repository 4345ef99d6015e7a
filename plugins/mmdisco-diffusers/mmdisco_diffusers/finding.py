"""From what a recipe calls a model to a folder that holds it; nothing is fetched unless that was asked for."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError, UsageError

DOWNLOAD = "MMDISCO_DOWNLOAD"
"""Environment variable that `--download` sets: models that are not on this machine may be fetched."""
NATIVE = {
    "AnimateDiffPipeline": "animatediff",
    "AudioLDM2Pipeline": "audioldm2",
    "AudioLDMPipeline": "audioldm",
    "CogVideoXPipeline": "cogvideox",
    "HunyuanVideoPipeline": "hunyuan-video",
    "LTX2Pipeline": "ltx2",
    "LTXPipeline": "ltx",
    "LongCatAudioDiTPipeline": "longcat",
    "MochiPipeline": "mochi",
    "StableAudio3Pipeline": "stable-audio-3",
    "StableAudioPipeline": "stable-audio",
    "TextToVideoSDPipeline": "text-to-video-sd",
    "WanPipeline": "wan",
}
"""Which backbone reads a pipeline, for whoever has named another one."""
_WHOLE = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.pt")


def find_model(name: str, key: str, *, whole: bool = False) -> Path:
    """Return the folder of a model from its path or its name on the hub; `key` is where the recipe names it.

    Where it may be fetched, what a pipeline needs is, or with `whole` all weights: of a single model, or of a pipeline
    with more beside it than diffusers knows.

    Raises:
        UsageError: no name at all.
        DataError: neither a folder nor in the cache; the message is the command that fetches it.
    """
    if not name:
        raise UsageError(f"{key}: missing; name the folder of a model, or its name on the hub")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise DataError(f"{key}: {name}: a single file, which is not read; name a folder as diffusers saves a pipeline")
    if not _is_hub_name(name):
        raise DataError(f"{key}: {name}: no such folder")
    return _fetched(name, key, whole) if os.environ.get(DOWNLOAD) == "1" else _cached(name, key)


def pipeline_class(folder: Path, expected: Collection[str], key: str) -> str:
    """Return the class of the pipeline in a folder, which must be one of those expected.

    Raises:
        DataError: it is another one, or none.
    """
    index = read_json(folder / "model_index.json")
    if index is None:
        what = "a single model" if (folder / "config.json").is_file() else "no pipeline of diffusers"
        raise DataError(f"{key}: {folder}: holds {what}: it has no model_index.json{how_to_fetch(folder)}")
    found = str(index.get("_class_name"))
    if found not in expected:
        raise DataError(f"{key}: {folder}: holds the pipeline {found}, not {' or '.join(expected)}; {_reader(found)}")
    return found


def how_to_fetch(place: Path, *, anew: bool = False) -> str:
    """Return how a sentence ends on what lacks in a model from the cache: with the command that fetches it.

    It is empty for a folder elsewhere; `anew` replaces files that are there.
    """
    for home in place.parents:
        if home.name == "snapshots" and home.parent.name.startswith("models--"):
            name = home.parent.name.removeprefix("models--").replace("--", "/")
            return f"; fetch it with `hf download {name}{' --force-download' if anew else ''}`"
    return ""


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, None where there is no such file; raise DataError where it is damaged."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error
    return content


def _reader(pipeline: str) -> str:
    """Say which backbone reads a pipeline."""
    if pipeline in NATIVE:
        return f"the backbone {NATIVE[pipeline]} reads it"
    if pipeline == "StableDiffusionPipeline":
        return "the backbone animatediff reads it with a motion adapter, auffusion where it paints mel pictures"
    return "the backbone lockstep runs pipelines that make a film or sound of a prompt alone"


def _is_hub_name(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(part and not part.startswith(".") for part in parts)


def _cached(name: str, key: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError as error:
        fetch = f"hf download {name}"
        raise DataError(
            f"{key}: {name} is neither a folder nor in the cache: fetch it with `{fetch}`, or add --download"
        ) from error


def _fetched(name: str, key: str, whole: bool) -> Path:
    """Fetch a model, or find it in the cache."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import snapshot_download

    try:
        if whole:
            return Path(snapshot_download(name, allow_patterns=list(_WHOLE)))
        return Path(DiffusionPipeline.download(name))
    except Exception as error:  # whatever the network or the hub has to say, in one line
        raise DataError(f"{key}: {name} could not be fetched ({' '.join(str(error).split())})") from error
