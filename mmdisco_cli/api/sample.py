"""One joint sample in memory."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from mmdisco_cli.api import arguments
from mmdisco_cli.data.manifest import Row, append_row, complete_rows, write_settings
from mmdisco_cli.data.writing.codecs import CODECS
from mmdisco_cli.diffusion.backbone import VIDEO, ModalityPlan
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.kinds.contract import Media
from mmdisco_cli.page.embedding import embedded, embedded_file
from mmdisco_cli.page.sheet import write_sheet
from mmdisco_cli.run.files import make_directory
from mmdisco_cli.sampling.outputs import Part, files_by_label, in_format, sample_stem, write_sample
from mmdisco_cli.sampling.settings import FORMAT, MP4


@dataclass(frozen=True, repr=False)
class Sample:
    """One sample: its `media` and final `latents` by modality, on the CPU without a batch axis, and the last `logit`.

    Media are as base models have them: audio (channels, samples), video (3, T, H, W) and image (1 or 3, H, W) in
    [-1, 1] at the rates of `plans`, and of kind text a string; `kinds` says what each modality is, and `settings` how
    they were made.
    """

    index: int
    seed: int
    media: Mapping[str, Media]
    latents: Mapping[str, Tensor]
    plans: Mapping[str, ModalityPlan]
    parts: Sequence[Part]
    kinds: Mapping[str, str]
    prompt: str | None = None
    logit: float | None = None
    scale: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        """Return a short description with the shapes of tensors, not their values."""
        held = {m: tuple(x.shape) if isinstance(x, Tensor) else x for m, x in self.media.items()}
        prompt = f", {self.prompt!r}" if self.prompt else ""
        logit = "" if self.logit is None else f", logit {self.logit:.2f}"
        return f"Sample({self.index} of seed {self.seed}, {held}{logit}{prompt})"

    def save(self, path: str | Path, *, video: str = MP4) -> list[Path]:
        """Write the sample into a folder as `mmdisco sample` does, or to the one file named, and return its files.

        Folders that are missing are made; a file that is there is replaced.
        `video` is how clips of a folder are written, mp4 or webm; the name of a file says it itself.

        Raises:
            UsageError: one file is named, and the sample takes several or one of another kind; an unknown `video`.
            DataError: it cannot be written.
        """
        if video not in CODECS:
            raise UsageError(f"video {video}: unknown{did_you_mean(str(video), CODECS)}")
        target = arguments.path("path", path)
        if target.is_dir() or not target.suffix:
            return self._write(target, sample_stem(self.index, self.seed), self._parts(video))
        for form in CODECS:
            (first, *others) = self._parts(form)
            if not others and target.name.endswith(first.ending):
                return self._write(target.parent, target.name.removesuffix(first.ending), [first])
        raise UsageError(f"{target}: a sample is saved as {self._endings()}: name a folder, or such a file")

    def _endings(self) -> str:
        """Return how the names of a sample's files may end."""
        each = [dict.fromkeys(in_format(part, form).ending for form in CODECS) for part in self.parts]
        return " and ".join(" or ".join(endings) for endings in each)

    def row(self, folder: Path, stem: str, settings: Mapping[str, Any]) -> Row:
        """Write the sample into a folder whose samples have these settings, and return its line of the manifest."""
        parts = self._parts(MP4)
        files = self._write(folder, stem, parts)
        return {
            "path": files[0].name, "files": files_by_label(parts, files), "kinds": dict(self.kinds),
            "index": self.index, "seed": self.seed, "prompt": self.prompt, "logit": self.logit,
            "settings": settings.get("fingerprint"),
        }  # fmt: skip

    def _parts(self, video: str) -> list[Part]:
        return [in_format(part, video) for part in self.parts]

    def _write(self, folder: Path, stem: str, parts: Sequence[Part]) -> list[Path]:
        make_directory(folder)
        about = {"index": str(self.index), "seed": str(self.seed)} | ({"prompt": self.prompt} if self.prompt else {})
        return write_sample(folder, stem, self.media, parts, self.plans, about, self.scale)

    def _repr_html_(self) -> str:
        """Return HTML that plays in a notebook, with all media embedded."""
        with TemporaryDirectory() as folder:
            files = self._write(Path(folder), "sample", self._parts(MP4))
            shown = "".join(_shown(file, part) for file, part in zip(files, self.parts, strict=True))
        facts = [f"sample {self.index} of seed {self.seed}"]
        facts += [] if self.logit is None else [f"logit {self.logit:.2f}"]
        facts += [f"“{self.prompt}”"] if self.prompt else []
        return f"<figure>{shown}<figcaption>{escape(', '.join(facts))}</figcaption></figure>"


def _shown(file: Path, part: Part) -> str:
    if part.kind.name == VIDEO:
        return f'<video src="{embedded(file)[0]}" controls loop playsinline style="min-width: 256px"></video>'
    return re.sub(r"\s+", " ", part.kind.card(file, embedded_file(file, part.kind)[0]))


def sheet(samples: Sample | Sequence[Sample] | str | Path, path: str | Path) -> Path:
    """Draw samples, or those of a folder that `mmdisco sample` wrote, on one image, a .png, and return its path.

    Folders that are missing are made; a file that is there is replaced.

    Raises:
        UsageError: the path does not end in .png, or there are no samples.
        DataError: the folder has none, or the file cannot be written.
    """
    target = arguments.path("path", path)
    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: a sheet is written as .png")
    if isinstance(samples, str | Path):
        folder = arguments.path("samples", samples)
        return _drawn(folder, complete_rows(folder), target)
    chosen = arguments.samples("samples", samples, Sample)
    with TemporaryDirectory() as made:
        return _drawn(Path(made), write_folder(Path(made), chosen), target)


def _drawn(folder: Path, rows: Sequence[Row], target: Path) -> Path:
    make_directory(target.parent)
    return write_sheet(folder, rows, target)


def write_folder(folder: Path, samples: Sequence[Sample]) -> list[Row]:
    """Write samples as `mmdisco sample` does, with a manifest, and return its lines.

    Each has files of its own, also where two are of one number and seed. Settings are written where all samples have
    the same.
    """
    settings = _shared_settings(samples)
    write_settings(folder, settings)
    rows = [sample.row(folder, f"{place:05d}", settings) for place, sample in enumerate(samples)]
    for row in rows:
        append_row(folder, row)
    return rows


def _shared_settings(samples: Sequence[Sample]) -> dict[str, Any]:
    # Samples in memory are written as .mp4, whatever those of the recipe's folder are.
    each = [{key: value for key, value in sample.settings.items() if key != FORMAT} for sample in samples]
    if all(each) and all(one == each[0] for one in each):
        return each[0]
    return {"independent": any(one.get("independent") for one in each)}
