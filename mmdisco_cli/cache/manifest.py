"""What a cache says of itself: before it is made what it depends on, and when it is whole what it holds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdisco_cli.cache.content import Content
from mmdisco_cli.cache.layout import FORMAT, KEY, MANIFEST, Clips, Texts, clip_shards, rows_a_shard, text_shards
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import differences, value_at
from mmdisco_cli.run.files import make_directory, write_json

_WORDS = {
    "format": "another version of mmdisco",
    "models": "other models",
    "windows": "other windows",
    "latents": "latents of other shapes",
    "prompts": "texts encoded otherwise",
    "options": "other windows or columns",
    "captions": "other captions",
    "clips": "other clips",
}


@dataclass(frozen=True)
class Holding:
    """What a cache holds of a part: of its first `clips` clips all but those lost, and what is said of each.

    `texts` are, by modality, places in the cache's own list of texts; `sources` number what clips are cut from, and are
    left out where each clip is of its own.
    """

    clips: int
    lost: list[tuple[int, str]]
    texts: Mapping[str, Sequence[int]]
    labels: Sequence[str]
    sources: Sequence[int]

    @property
    def rows(self) -> list[int]:
        """Return the numbers of the clips that are there."""
        gone = {row for row, _ in self.lost}
        return [row for row in range(self.clips) if row not in gone]


@dataclass(frozen=True)
class Manifest:
    """The content of cache.json."""

    key: Mapping[str, Any]
    parts: Mapping[str, Holding]
    texts: Sequence[str]
    encoded: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "format": FORMAT,
            "key": self.key,
            "parts": {name: vars(part) for name, part in self.parts.items()},
            "texts": self.texts,
            "encoded": self.encoded,
        }

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Return the latent shape of every modality."""
        return dict(self.key["latents"])

    def shards(self) -> list[Clips | Texts]:
        """Return all shards."""
        return [*self.text_shards(), *(shard for name in self.parts for shard in self.clip_shards(name))]

    def clip_shards(self, part: str) -> list[Clips]:
        """Return the shards of a part."""
        return clip_shards(part, self.parts[part].clips, rows_a_shard(self.shapes))

    def text_shards(self) -> list[Texts]:
        """Return the shards of encoded texts."""
        return text_shards(self.texts) if self.encoded else []


def manifest_of(content: Content, lost: Mapping[str, list[tuple[int, str]]]) -> Manifest:
    """Return what a cache of a content holds."""
    own = [text for part in content.parts.values() for texts in part.texts.values() for text in texts]
    texts = list(dict.fromkeys(["", *own]))
    places = {text: place for place, text in enumerate(texts)}
    parts = {
        name: Holding(
            part.count,
            lost[name],
            {m: [places[t] for t in found] for m, found in part.texts.items()},
            list(part.labels),
            _numbered(part.sources),
        )
        for name, part in content.parts.items()
    }
    return Manifest(content.key, parts, texts, content.encode_text is not None)


def _numbered(sources: Sequence[str]) -> list[int]:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(sources))}
    return [numbers[name] for name in sources] if len(numbers) < len(sources) else []


def claim(folder: Path, key: Mapping[str, Any]) -> None:
    """Write down what a cache depends on; raise DataError where another one lies there, whole or half made."""
    found = _read(folder / KEY)
    if found is None:
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
        found = _read(folder / KEY)  # another process may have begun meanwhile
        if found is None and others:
            raise DataError(f"{folder}: holds other things ({others[0]}), and no cache: choose another folder")
    if found is None:
        make_directory(folder)
        write_json(folder / KEY, key)
    elif wrong := differing(found, key):
        raise DataError(f"{folder}: a cache of {wrong}; choose another folder, or delete this one")


def read_manifest(folder: Path) -> Manifest | None:
    """Return what a cache holds, None where there is none or a half made one; raise DataError where it is damaged."""
    found = _read(folder / MANIFEST)
    if found is None:
        return None
    try:
        parts = {
            name: Holding(
                part["clips"],
                [(row, why) for row, why in part["lost"]],
                part["texts"],
                part["labels"],
                part.get("sources", []),
            )
            for name, part in found["parts"].items()
        }
        return Manifest(found["key"], parts, found["texts"], found["encoded"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(folder / MANIFEST, error) from error


def is_cache(path: str | Path) -> bool:
    """Return whether a path is a cache, whole or half made."""
    return any((Path(path) / name).is_file() for name in (MANIFEST, KEY))


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in a clause in what a cache's key is other than the wanted one, empty where it is not."""
    keys = differences({k: found.get(k) for k in wanted}, dict(wanted))  # such as models.audio
    if not keys:
        return ""
    heads = [head for head in _WORDS if any(key.split(".")[0] == head for key in keys)]
    # What names the clips changes with their windows and texts too.
    heads = [head for head in heads if head != "clips"] or heads
    shown = [_shown(key, found, wanted) for key in keys if key.split(".")[0] in heads]
    return f"{' and '.join(_WORDS[head] for head in heads)} ({'; '.join(shown[:3])})"


def _shown(key: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    old, new = (value_at(plain, key) for plain in (found, wanted))
    named = key.replace("options.", "data.", 1)
    return f"{named} is {json.dumps(old, ensure_ascii=False)}, not {json.dumps(new, ensure_ascii=False)}"


def _read(path: Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise _damaged(path, "not an object")
    return found


def _damaged(path: Path, error: object) -> DataError:
    return DataError(f"{path}: not readable ({str(error).splitlines()[0]}); delete it, and make the cache again")
