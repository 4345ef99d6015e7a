"""Find the folder of a model that a recipe names; nothing is downloaded without `--download`."""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.fetching import downloads_allowed
from mmdisco_cli.fetching.hub import hub_errors

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
"""The backbone for each pipeline, for error messages."""
NAMING = ("path", "adapter", "unet", "vocoder")
"""Options that name a model."""
MILLIONS = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": 7230,
    "SG161222/Realistic_Vision_V5.1_noVAE": 1067,
    "adamdad/videocrafterv2_diffusers": 1413,
    "auffusion/auffusion-full-no-adapter": 1080,
    "cerspense/zeroscope_v2_576w": 1837,
    "cvssp/audioldm-m-full": 652,
    "cvssp/audioldm2": 1160,
    "guoyww/animatediff-motion-adapter-v1-5-2": 453,
    "stabilityai/stable-audio-open-1.0": 1320,
    "zai-org/CogVideoX-2b": 6670,
}
"""Parameters of the models of the packaged recipes, in millions, text encoders and codecs included, as published."""
GATED = ("stabilityai/stable-audio-open-1.0",)
"""Models whose licence must be accepted on the hub before downloading."""
LICENCES = {
    "SG161222/Realistic_Vision_V5.1_noVAE": "CreativeML OpenRAIL-M",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "Apache-2.0",
    "cerspense/zeroscope_v2_576w": "CC-BY-NC-4.0",
    "cvssp/audioldm-m-full": "CC-BY-NC-SA-4.0",
    "cvssp/audioldm2": "CC-BY-NC-SA-4.0",
    "stabilityai/stable-audio-open-1.0": "Stability AI Community License",
    "zai-org/CogVideoX-2b": "Apache-2.0",
}
"""Their licences, for those whose authors name one on the hub; the page there has the last word."""
LONGEST = 96
"""Most characters of a repository's name on the hub, without its owner's."""
_HUB_WORD = re.compile(r"\w|\w[\w.-]*\w", re.ASCII)
_WHOLE = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.pt")


def find_model(name: str, key: str, *, whole: bool = False) -> Path:
    """Return the folder of a model from its path or its name on the hub; `key` is where the recipe names it.

    Where downloading is allowed, the files that diffusers needs are downloaded, or with `whole` all weights: for a
    single model, or a pipeline with additional parts.

    Raises:
        UsageError: no name at all.
        DataError: neither a folder nor in the cache; the message has the command that fetches it.
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
    return _fetched(name, key, whole) if downloads_allowed() else _cached(name, key)


def models_lacked(label: str, options: Any) -> Iterator[tuple[str, str]]:
    """Yield the recipe's key of each model that is not on this machine, and a sentence with the command for it.

    Models that may be downloaded are left out, as are options without a name.
    """
    for option in NAMING:
        name, key = getattr(options, option, None), f"backbones.{label}.{option}"
        if name and not (downloads_allowed() and _is_hub_name(name) and not Path(name).exists()):
            try:
                find_model(name, key)
            except DataError as error:
                yield key, str(error).removeprefix(f"{key}: ")


def size_of(name: str) -> str:
    """Return in parentheses, after a space, how large a model is and its licence; empty for one that is not known."""
    millions = MILLIONS.get(name)
    if millions is None:
        return ""
    half, licence = millions * 2 / 1000, f"; {LICENCES[name]}" if name in LICENCES else ""
    return f" ({millions / 1000:.2g} billion parameters: {half:.2g} GB in 16 bits, {2 * half:.2g} GB in 32{licence})"


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


def how_to_fetch(place: Path, *, again: bool = False) -> str:
    """Return the end of a message on missing files of a model in the cache: the command that fetches it.

    Empty for a folder elsewhere; `again` replaces existing files.
    """
    for home in place.parents:
        if home.name == "snapshots" and home.parent.name.startswith("models--"):
            name = home.parent.name.removeprefix("models--").replace("--", "/")
            return f"; fetch it with `hf download {name}{' --force-download' if again else ''}`"
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
    """Return a clause that names the backbone for a pipeline."""
    if pipeline in NATIVE:
        return f"the backbone {NATIVE[pipeline]} reads it"
    if pipeline == "StableDiffusionPipeline":
        return "the backbone animatediff reads it with a motion adapter, auffusion where it makes mel spectrograms"
    return "the backbone lockstep runs pipelines that make video or audio from a prompt only"


def _is_hub_name(name: str) -> bool:
    """Return whether a name is valid on the hub; others are paths."""
    parts = name.split("/")
    taken = len(parts[-1]) <= LONGEST and "--" not in name and ".." not in name and not name.endswith(".git")
    return taken and len(parts) == 2 and all(_HUB_WORD.fullmatch(part) for part in parts)


def _cached(name: str, key: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except LocalEntryNotFoundError as error:
        # Of a whole repository diffusers takes what a pipeline needs: parts that lack are named when they are read.
        if partial := getattr(error, "snapshot_path", None):
            return Path(partial)
        licence = f" after accepting its licence at https://huggingface.co/{name}" if name in GATED else ""
        raise DataError(
            f"{key}: {name} is neither a folder nor in the cache{size_of(name)}: "
            f"fetch it with `hf download {name}`{licence}, or add --download"
        ) from error


def _fetched(name: str, key: str, whole: bool) -> Path:
    """Download a model, or find it in the cache."""
    try:
        with hub_errors(name):
            return _downloaded(name, whole)
    except DataError as error:
        raise DataError(f"{key}: {error}") from error


def _downloaded(name: str, whole: bool) -> Path:
    from diffusers import DiffusionPipeline
    from huggingface_hub import snapshot_download

    if whole:
        return Path(snapshot_download(name, allow_patterns=list(_WHOLE)))
    try:
        return Path(DiffusionPipeline.download(name))
    except OSError as error:  # diffusers puts one of its own around what the hub says
        raise error.__cause__ or error from error
