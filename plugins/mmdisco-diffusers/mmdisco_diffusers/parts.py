"""The parts of a pipeline on disk, each loaded when first used, in evaluation mode and without gradients."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdisco_cli.errors import DataError
from mmdisco_diffusers.finding import how_to_fetch, read_json
from mmdisco_diffusers.weights_on_disk import count_weights, require_weights

DENOISERS = ("unet", "transformer", "transformer_2")
Make = Callable[["Parts", Any], Any]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Roles:
    """Which parts of a pipeline are the denoiser, the codec and the text encoders."""

    denoiser: tuple[str, ...]
    codec: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Return every part with weights."""
        return (*self.denoiser, *self.codec, *self.text)

    @property
    def named(self) -> tuple[str, ...]:
        """Return the parts that predictions or latents depend on: all but a vocoder, which only decodes."""
        return (*self.denoiser, "scheduler", *(name for name in self.codec if name != "vocoder"), *self.text)


class Parts:
    """The components that a folder's model_index.json names, by its names.

    All arguments are by the part's name: `classes` replaces its class, `folders` is where it is if not in the
    pipeline's folder, `dtypes` its dtype if not float32, `made` converts it once loaded, `readers` read what diffusers
    cannot, and `left` is the prefix of a denoiser's weights that its class does not have.
    """

    def __init__(
        self,
        folder: Path,
        *,
        classes: Mapping[str, str] | None = None,
        folders: Mapping[str, Path] | None = None,
        dtypes: Mapping[str, torch.dtype] | None = None,
        made: Mapping[str, Make] | None = None,
        readers: Mapping[str, Callable[[Path], Any]] | None = None,
        left: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._index = read_json(folder / "model_index.json") or {}
        self._classes, self._folders, self._dtypes = dict(classes or {}), dict(folders or {}), dict(dtypes or {})
        self._made, self._readers, self._left = dict(made or {}), dict(readers or {}), dict(left or {})
        self._loaded: dict[str, Any] = {}
        self._configs: dict[str, dict[str, Any]] = {}

    def has(self, name: str) -> bool:
        """Return whether the pipeline has such a part."""
        return name in self._folders or bool((self._index.get(name) or [None])[0])

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Name the parts that are not in the pipeline's folder."""
        return tuple(self._folders)

    def place(self, name: str) -> Path:
        """Return the folder of a part."""
        return self._folders.get(name, self.folder / name)

    def class_name(self, name: str) -> str:
        """Return the name of a part's class."""
        return self._classes.get(name) or str((self._index.get(name) or ("", "?"))[1])

    def config(self, name: str) -> Mapping[str, Any]:
        """Return a part's configuration: its config.json over its class's defaults."""
        if name not in self._configs:
            file = "scheduler_config.json" if name == "scheduler" else "config.json"
            written = read_json(self.place(name) / file)
            if written is None:
                raise DataError(f"{self.place(name)}: has no {file}{how_to_fetch(self.place(name))}")
            self._configs[name] = {**_defaults(self._class(name)), **written}
        return self._configs[name]

    def get(self, name: str) -> Any:
        """Return a part, loading it where it is not yet; on the CPU unless it was moved.

        Raises:
            DataError: its files are missing or damaged.
        """
        if name not in self._loaded:
            part = self._load(name)
            part = self._made[name](self, part) if name in self._made else part
            self._loaded[name] = part.eval().requires_grad_(False) if isinstance(part, nn.Module) else part
        return self._loaded[name]

    def empty(self, name: str) -> Any:
        """Return a part of diffusers built from its configuration on the meta device, without weights."""
        with torch.device("meta"):
            return self._class(name).from_config(dict(self.config(name)))

    def require_files(self, names: Iterable[str]) -> None:
        """Check, without loading anything, that parts have their weights, and tokenizers their files.

        Raises:
            DataError: files are missing or cut short.
        """
        for name in dict.fromkeys((*names, *self.elsewhere)):
            if self.has(name):
                require_weights(self.place(name))
        for name in self._index:
            if name.startswith("tokenizer") and self.has(name) and not any(self.place(name).glob("*")):
                raise DataError(f"{self.place(name)}: has no files of a tokenizer{how_to_fetch(self.place(name))}")

    def is_loaded(self, name: str) -> bool:
        """Return whether a part is in memory."""
        return name in self._loaded

    def drop(self, names: Iterable[str]) -> None:
        """Free parts; the next `get` loads them again."""
        for name in names:
            self._loaded.pop(name, None)

    def count(self, names: Iterable[str]) -> int:
        """Return how many weights some parts have together."""
        return sum(count_weights(self.place(name)) for name in names if self.has(name))

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a part's weights."""
        return self._dtypes.get(name, torch.float32)

    def _class(self, name: str) -> Any:
        library, _ = self._index.get(name) or ("diffusers", None)
        return find_class(str(library), self.class_name(name))

    def _load(self, name: str) -> Any:
        place = self.place(name)
        if name in self._readers:
            return self._readers[name](place)
        cls = self._class(name)
        try:
            if not issubclass(cls, nn.Module):
                return cls.from_pretrained(str(place), local_files_only=True)
            wanted = _dtype_keyword(cls, self.dtype(name))
            module, report = cls.from_pretrained(str(place), local_files_only=True, output_loading_info=True, **wanted)
        except Exception as error:  # a damaged file raises many kinds of exceptions
            raise DataError(f"{place}: cannot be loaded ({' '.join(str(error).split())})") from error
        _require_whole(place, cls, report, self._left.get(name, "") if name in DENOISERS else None)
        return module


def find_class(library: str, name: str) -> Any:
    """Return a class by the name that model_index.json has for it; some are in a pipeline's own module."""
    import diffusers
    import transformers

    for logs in (diffusers.utils.logging, transformers.utils.logging):  # progress bars inside ours
        logs.disable_progress_bar()
    for home in (transformers, diffusers) if library == "transformers" else (diffusers, transformers):
        if (found := getattr(home, name, None)) is not None:
            return found
    if (found := getattr(_own_module(library), name, None)) is not None:
        return found
    raise DataError(f"this version of {library} has no {name}")


def _own_module(library: str) -> Any:
    try:
        return import_module(f"diffusers.pipelines.{library}")
    except ImportError:
        return None


def _defaults(cls: Any) -> dict[str, Any]:
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _require_whole(place: Path, cls: Any, report: Mapping[str, Iterable[str]], known: str | None) -> None:
    """Raise DataError where weights are missing, or a denoiser's would be ignored: libraries only warn of both."""
    missing = sorted(report["missing_keys"])
    left = sorted(key for key in report["unexpected_keys"] if not (known and key.startswith(known)))
    if missing:
        raise DataError(f"{place}: lacks {len(missing)} weights of a {cls.__name__}, {missing[0]} first")
    if left and known is not None:
        raise DataError(f"{place}: holds {len(left)} weights that a {cls.__name__} does not have, {left[0]} first")


def _dtype_keyword(cls: Any, dtype: torch.dtype) -> dict[str, torch.dtype]:
    return {"torch_dtype" if cls.__module__.startswith("diffusers") else "dtype": dtype}
