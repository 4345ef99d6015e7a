"""`--given` for a modality of kind text: a text, a file of lines, or a folder of files of one text each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.text import read_text
from mmdisco_cli.run.files import fingerprint
from mmdisco_cli.schema import at_home

SUFFIX = ".txt"


@dataclass(frozen=True)
class Texts:
    """Texts of a given modality, and the file or folder that they come from, None where the option names them."""

    modality: str
    texts: tuple[str, ...]
    path: Path | None = None

    @property
    def names(self) -> Sequence[str]:
        """Return the texts."""
        return self.texts

    def name(self, index: int) -> str:
        """Return the text of one sample."""
        return self.texts[index % len(self.texts)]

    def read(self, indices: Sequence[int], plan: ModalityPlan) -> Sequence[str]:
        """Return the texts of some samples."""
        return [self.name(index) for index in indices]

    def digest(self) -> str:
        """Return a hash of the texts; where they come from makes no difference."""
        return fingerprint("\0".join(self.texts))

    def notes(self, plan: ModalityPlan, count: int) -> list[str]:
        """Say that what was given is a file, for it might have been meant as a text."""
        return [f"--given {self.modality}: {number_of(self.texts)} of {self.path}"] if self.path else []


def number_of(texts: Sequence[str], what: str = "text") -> str:
    """Return how many there are, in words."""
    return f"{len(texts)} {what}{'' if len(texts) == 1 else 's'}"


def find_texts(modality: str, value: str, listed: Sequence[Path] = ()) -> Texts:
    """Return the texts that an option names: those of a file or folder of that name where there is one, else itself.

    Every line of a file that is not blank is a text; every .txt of a folder is one, or of one with a manifest those
    that are `listed`.

    Raises:
        DataError: nothing in the file or folder, no UTF-8, or a name that ends in .txt of nothing that exists.
    """
    path = Path(at_home(value))
    if _exists(path):
        texts = _of_folder(path, listed) if path.is_dir() else _lines(path)
        return Texts(modality, texts, path)
    if value.endswith(SUFFIX):
        raise DataError(f"{path}: no such file or folder")
    return Texts(modality, (value,))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name can be
        return False


def _lines(path: Path) -> tuple[str, ...]:
    lines = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not lines:
        raise DataError(f"{path}: holds no text")
    return lines


def _of_folder(folder: Path, listed: Sequence[Path]) -> tuple[str, ...]:
    named = (file for file in folder.iterdir() if file.suffix.lower() == SUFFIX and not file.name.startswith("."))
    files = listed or sorted(named)
    if not files:
        raise DataError(f"{folder}: no file ends in {SUFFIX}")
    return tuple(read_text(file).removesuffix("\n") for file in files)
