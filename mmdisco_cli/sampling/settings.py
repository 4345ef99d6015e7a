"""The settings that determine the samples of a directory, under the recipe's keys, and whether two runs agree."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.data.manifest import read_rows, read_settings, write_settings
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.run.files import fingerprint

Settings = dict[str, Any]

MOST_SHOWN = 4
"""Elements of a list that a message shows."""
FORMAT, MP4 = "format", "mp4"
"""The key of how video is written, and what it is where settings do not say it."""
# Settings that only guided samples depend on; independent samples of the same noise share all others.
GUIDANCE = ("sample.weights", "sample.guidance", "sample.window", "sample.guidance_form", "sample.gibbs_guidance")


def settings_of(
    recipe: Recipe,
    assembly: Assembly,
    *,
    independent: bool,
    given: Mapping[str, str],
    prompts: Sequence[str],
    captions: Sequence[Mapping[str, str]] = (),
    video: str = MP4,
) -> Settings:
    """Return every setting that a sample depends on beside its seed and index; `given` are hashes of files.

    Batch size, shard, device and additional outputs are not among them.
    """
    sample = to_plain(recipe.sample)
    settings: Settings = {
        **{f"backbones.{label}": name for label, name in assembly.fingerprints.items()},
        **{f"variants.{label}": variant for label, variant in assembly.variants.items()},
        **{f"request.{key}": value for key, value in to_plain(recipe.request).items()},
        "coupling": str(assembly.coupling),
        **{f"sample.{key}": value for key, value in recipe.sample.solver().items()},
        "sample.scale": recipe.sample.scale,
        "sample.dtype": str(assembly.dtype).removeprefix("torch."),
        **{f"given.{modality}": digest for modality, digest in given.items()},
        "prompts": list(prompts),
        **({"captions": [dict(texts) for texts in captions]} if any(captions) else {}),
        "independent": independent,
        **({FORMAT: video} if video != MP4 else {}),
    }
    if not independent:
        loaded = assembly.discriminator
        settings |= {"sample.weights": loaded and loaded.fingerprint}
        settings |= {f"sample.{key}": sample[key] for key in ("guidance", "window")}
        if recipe.sample.guidance_form != "logit":
            settings["sample.guidance_form"] = recipe.sample.guidance_form
        if recipe.sample.gibbs and recipe.sample.gibbs_guidance:
            settings["sample.gibbs_guidance"] = sample["gibbs_guidance"]
    return settings | {"fingerprint": _fingerprint(settings)}


def is_control(settings: Mapping[str, Any], guided: Mapping[str, Any]) -> bool:
    """Return whether `settings` are those of independent samples that otherwise equal the guided ones."""
    return settings.get("independent") is True and _shared(settings) == _shared(guided)


def disagreement(directory: Path, settings: Mapping[str, Any]) -> str:
    """Return a clause naming the settings in which a directory's samples differ; empty where none do."""
    found = read_settings(directory)
    if found is None or found == settings or not read_rows(directory):
        return ""
    found, settings = {FORMAT: MP4, **found}, {FORMAT: MP4, **settings}
    keys = [key for key in (*found, *(k for k in settings if k not in found)) if key != "fingerprint"]
    differing = [key for key in keys if found.get(key) != settings.get(key)]
    return ", ".join(f"{key} {_shown(found.get(key))} instead of {_shown(settings.get(key))}" for key in differing)


def video_format(directory: Path) -> str:
    """Return how the video of a directory's samples is written; as .mp4 where it has none yet."""
    settings = read_settings(directory) if read_rows(directory) else None
    return str((settings or {}).get(FORMAT, MP4))


def claim(directory: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the directory and write the settings of its samples.

    Raises:
        UsageError: it holds samples made with other settings.
        DataError: it cannot be written.
    """
    if not overwrite:
        require_agreement(directory, settings)
    if read_settings(directory) != settings:
        write_settings(directory, settings)


def require_agreement(directory: Path, settings: Mapping[str, Any]) -> None:
    """Raise UsageError where the directory holds samples made with other settings, naming each."""
    if clause := disagreement(directory, settings):
        raise UsageError(f"{directory}: holds samples made with {clause} (choose another --out, or --overwrite)")


def _shared(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in (*GUIDANCE, FORMAT, "independent", "fingerprint")}


def _shown(value: Any) -> str:
    """Return a setting in a message; of a long list, such as the prompts of a data set, the first and how many."""
    if isinstance(value, list) and len(value) > MOST_SHOWN:
        return f"{json.dumps(value[:MOST_SHOWN], ensure_ascii=False)[:-1]}, … {len(value)} in all]"
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _fingerprint(settings: Mapping[str, Any]) -> str:
    return fingerprint(json.dumps(settings, sort_keys=True, ensure_ascii=False))
