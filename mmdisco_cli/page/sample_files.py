"""The files of one sample as a page shows them: the one clip among them, if any, and all others as their kinds do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdisco_cli.diffusion.backbone import VIDEO
from mmdisco_cli.kinds.known import OpenKind
from mmdisco_cli.page.cards import Shown

Parts = Sequence[tuple[str, OpenKind]]
"""The modalities of one file, each with its kind."""


@dataclass(frozen=True)
class SampleFiles:
    """The files of a sample, each with its modalities."""

    parts: Mapping[Path, Parts]

    @property
    def clip(self) -> Path | None:
        """Return the file that holds video, with audio or alone, where there is exactly one such."""
        videos = [path for path, parts in self.parts.items() if any(kind.name == VIDEO for _, kind in parts)]
        return videos[0] if len(videos) == 1 else None

    def beside_clip(self, source: Callable[[Path, OpenKind], str]) -> list[Shown]:
        """Return all files but the clip; `source` gives the address by which the page finds one."""
        return [
            Shown(", ".join(label for label, _ in parts), parts[0][1], path, source(path, parts[0][1]))
            for path, parts in self.parts.items()
            if path != self.clip
        ]


def sample_files(
    files: Mapping[str, str | Path], kinds: Mapping[str, str], known: Mapping[str, OpenKind], folder: Path
) -> SampleFiles:
    """Return the files of a sample by modality as those of one sample; relative names are of `folder`."""
    found: dict[Path, list[tuple[str, OpenKind]]] = {}
    for label, name in files.items():
        found.setdefault(folder / name, []).append((label, known[kinds[label]]))
    return SampleFiles(found)
