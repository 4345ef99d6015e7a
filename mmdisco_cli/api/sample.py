"""One joint sample in memory."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from mmdisco_cli.diffusion.backbone import VIDEO, ModalityPlan
from mmdisco_cli.errors import UsageError
from mmdisco_cli.kinds.contract import Media
from mmdisco_cli.page.embedding import embedded, embedded_file
from mmdisco_cli.sampling.outputs import Part, sample_stem, write_sample


@dataclass(frozen=True, repr=False)
class Sample:
    """One sample: by modality its `media` and final `latents`, on the CPU and without batch, and the last `logit`.

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
        """Return its number and what it holds, without the numbers of tensors."""
        held = {m: tuple(x.shape) if isinstance(x, Tensor) else x for m, x in self.media.items()}
        prompt = f", {self.prompt!r}" if self.prompt else ""
        logit = "" if self.logit is None else f", logit {self.logit:.2f}"
        return f"Sample({self.index} of seed {self.seed}, {held}{logit}{prompt})"

    def save(self, path: str | Path) -> list[Path]:
        """Write the sample and return its files: into a folder as `mmdisco sample` does, or the one file that is named.

        Raises:
            UsageError: one file is named, and the sample takes several or one of another kind.
            DataError: it cannot be written.
        """
        target = Path(path)
        if target.is_dir() or not target.suffix:
            target.mkdir(parents=True, exist_ok=True)
            return self._write(target, sample_stem(self.index, self.seed), self.parts)
        if len(self.parts) > 1 or not target.name.endswith(self.parts[0].kind.spec.suffix):
            endings = " and ".join(part.ending for part in self.parts)
            raise UsageError(f"{target}: a sample is saved as {endings}: name a folder, or such a file")
        stem = target.name.removesuffix(self.parts[0].ending)
        return self._write(target.parent, stem, self.parts)

    def _write(self, folder: Path, stem: str, parts: Sequence[Part]) -> list[Path]:
        about = {"index": str(self.index), "seed": str(self.seed)} | ({"prompt": self.prompt} if self.prompt else {})
        return write_sample(folder, stem, self.media, parts, self.plans, about, self.scale)

    def _repr_html_(self) -> str:
        """Return a card that plays in a notebook, with everything inside it."""
        with TemporaryDirectory() as folder:
            files = self._write(Path(folder), "sample", self.parts)
            shown = "".join(_shown(file, part) for file, part in zip(files, self.parts, strict=True))
        facts = [f"sample {self.index} of seed {self.seed}"]
        facts += [] if self.logit is None else [f"logit {self.logit:.2f}"]
        facts += [f"“{self.prompt}”"] if self.prompt else []
        return f"<figure>{shown}<figcaption>{escape(', '.join(facts))}</figcaption></figure>"


def _shown(file: Path, part: Part) -> str:
    if part.kind.name == VIDEO:
        return f'<video src="{embedded(file)[0]}" controls loop playsinline style="min-width: 256px"></video>'
    return re.sub(r"\s+", " ", part.kind.card(file, embedded_file(file, part.kind)[0]))
