"""One joint sample in memory."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from mmdisco_cli.data.manifest import append_row, complete_rows, write_settings
from mmdisco_cli.data.writing.codecs import CODECS
from mmdisco_cli.diffusion.backbone import VIDEO, ModalityPlan
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.kinds.contract import Media
from mmdisco_cli.page.embedding import embedded, embedded_file
from mmdisco_cli.page.sheet import write_sheet
from mmdisco_cli.sampling.outputs import Part, files_by_label, in_format, sample_stem, write_sample
from mmdisco_cli.sampling.settings import MP4


@dataclass(frozen=True, repr=False)
class Sample:
    """One sample: its `media` and final `latents` by modality, on the CPU without a batch axis, and the last `logit`.

    Media are as base models have them: audio (channels, samples), video (3, T, H, W) and image (1 or 3, H, W) in
    [-1, 1] at the rates of `plans`, and of kind text a string; `kinds` says what each modality is.
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

    def __repr__(self) -> str:
        """Return a short description with the shapes of tensors, not their values."""
        held = {m: tuple(x.shape) if isinstance(x, Tensor) else x for m, x in self.media.items()}
        prompt = f", {self.prompt!r}" if self.prompt else ""
        logit = "" if self.logit is None else f", logit {self.logit:.2f}"
        return f"Sample({self.index} of seed {self.seed}, {held}{logit}{prompt})"

    def save(self, path: str | Path, *, video: str = MP4) -> list[Path]:
        """Write the sample into a folder as `mmdisco sample` does, or to the one file named, and return its files.

        `video` is the format of clips in a folder, mp4 or webm; for a single file its suffix decides.

        Raises:
            UsageError: one file is named, and the sample takes several or one of another kind; an unknown `video`.
            DataError: it cannot be written.
        """
        if video not in CODECS:
            raise UsageError(f"video {video}: unknown{did_you_mean(video, CODECS)}")
        target = Path(path)
        if target.is_dir() or not target.suffix:
            target.mkdir(parents=True, exist_ok=True)
            return self._write(target, sample_stem(self.index, self.seed), self._parts(video))
        for form in CODECS:
            (first, *others) = self._parts(form)
            if not others and target.name.endswith(first.ending):
                return self._write(target.parent, target.name.removesuffix(first.ending), [first])
        endings = " and ".join(part.ending for part in self.parts)
        raise UsageError(f"{target}: a sample is saved as {endings}: name a folder, or such a file")

    def _parts(self, video: str) -> list[Part]:
        return [in_format(part, video) for part in self.parts]

    def _write(self, folder: Path, stem: str, parts: Sequence[Part]) -> list[Path]:
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


def sheet(samples: Sequence[Sample] | str | Path, path: str | Path) -> Path:
    """Draw samples, or those in a folder that `mmdisco sample` wrote, as one .png image, and return its path.

    Raises:
        UsageError: the path does not end in .png.
        DataError: there are none, or the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise UsageError(f"{target}: a sheet is written as .png")
    if isinstance(samples, str | Path):
        return write_sheet(Path(samples), complete_rows(Path(samples)), target)
    with TemporaryDirectory() as folder:
        write_folder(Path(folder), samples)
        return write_sheet(Path(folder), complete_rows(Path(folder)), target)


def write_folder(folder: Path, samples: Sequence[Sample]) -> None:
    """Write samples as `mmdisco sample` does, with a manifest."""
    write_settings(folder, {"independent": False})
    for sample in samples:
        files = sample.save(folder)
        append_row(folder, {
            "path": files[0].name, "files": files_by_label(sample.parts, files), "kinds": dict(sample.kinds),
            "index": sample.index, "seed": sample.seed, "prompt": sample.prompt, "logit": sample.logit,
        })  # fmt: skip
