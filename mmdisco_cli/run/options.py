"""The options of each command beside its recipe, as its implementation gets them; torch-free.

In every path a leading ~ is the user's home, also where a shell leaves it, as in `--given video=~/clip.mp4`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from mmdisco_cli.schema import at_home


def path_at_home(path: Path) -> Path:
    """Return a path with a leading ~ replaced by the user's home."""
    return Path(at_home(str(path)))


def _at_home(value: Any) -> Any:
    """Return an option's value with ~ expanded in its paths."""
    if isinstance(value, Path):
        return path_at_home(value)
    if isinstance(value, Mapping):
        return {key: _at_home(item) for key, item in value.items()}
    return tuple(map(_at_home, value)) if isinstance(value, tuple) else value


def _settle(options: Any) -> None:
    """Expand ~ in every path of a command's options."""
    for option in fields(options):
        object.__setattr__(options, option.name, _at_home(getattr(options, option.name)))


@dataclass(frozen=True)
class SampleOptions:
    """The options of `mmdisco sample`; None leaves the choice to the recipe or the machine."""

    n: int = 16
    seed: int = 0
    out: Path | None = None
    batch_size: int | None = None
    prompts: tuple[str, ...] = ()
    captions: tuple[Mapping[str, str], ...] = ()  # beside each prompt, its texts of one modality only
    given: Mapping[str, Any] = field(default_factory=dict)  # modality -> file, folder or text
    independent: bool = False
    format: str | None = None  # of video, mp4 or webm; None: that of the samples that are there, else mp4
    shard: tuple[int, int] | None = None  # (index from 0, count)
    device: str | None = None
    dtype: str | None = None  # float32 or bfloat16
    overwrite: bool = False
    dry_run: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Expand ~ in its paths."""
        _settle(self)


@dataclass(frozen=True)
class TrainOptions:
    """The options of `mmdisco train`."""

    out: Path | None = None
    bank: Path | None = None  # None: below `out`
    fresh: bool = False
    dry_run: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Expand ~ in its paths."""
        _settle(self)


@dataclass(frozen=True)
class EvalOptions:
    """The options of `mmdisco eval`; no metrics means all of the protocol."""

    samples: Path | None = None
    independent: Path | None = None
    reference: Path | None = None
    metrics: tuple[str, ...] = ()
    rule: str = "tempotokens-2025"
    height: int | None = 128  # shorter side of analysed frames, in pixels; None: the file's own
    fps: Fraction | None = Fraction(10)  # analysed frames per second; None: the file's own
    max_bad: float | None = None  # share of clips that may be unusable; None: 0 for samples, 5 % for real ones
    features: tuple[Path, Path] | None = None  # real and fake
    compare: tuple[Path, Path] | None = None
    extractors: tuple[str, ...] = ()  # NAME[:PRESET][=WEIGHTS]
    compat: str = ""  # a publication whose numerics are reported beside the exact ones
    cache: Path | None = Path("runs/cache")
    rows: str = "csv"
    seed: int = 0
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Expand ~ in its paths."""
        _settle(self)


@dataclass(frozen=True)
class ConvertOptions:
    """The options of `mmdisco convert`; without a format it is detected, and `shard` is of a cache of clips."""

    source: Path
    destination: Path
    format: str | None = None
    shard: tuple[int, int] | None = None  # (index from 0, count)

    def __post_init__(self) -> None:
        """Expand ~ in its paths."""
        _settle(self)
