"""What each command was asked for beyond its recipe; torch-free, and all that the work behind a command sees of it.

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
    """Return a value of any option with the paths in it at home."""
    if isinstance(value, Path):
        return path_at_home(value)
    if isinstance(value, Mapping):
        return {key: _at_home(item) for key, item in value.items()}
    return tuple(map(_at_home, value)) if isinstance(value, tuple) else value


def _settle(options: Any) -> None:
    """Put every path of a command's options at home."""
    for option in fields(options):
        object.__setattr__(options, option.name, _at_home(getattr(options, option.name)))


@dataclass(frozen=True)
class SampleOptions:
    """What `mmdisco sample` was asked for; None leaves the choice to the recipe or the machine."""

    n: int = 16
    seed: int = 0
    out: Path | None = None
    batch_size: int | None = None
    prompts: tuple[str, ...] = ()
    given: Mapping[str, Path] = field(default_factory=dict)  # modality -> file
    independent: bool = False
    shard: tuple[int, int] | None = None  # (index from 0, count)
    device: str | None = None
    dtype: str | None = None  # float32 or bfloat16
    overwrite: bool = False
    dry_run: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Put its paths at home."""
        _settle(self)


@dataclass(frozen=True)
class TrainOptions:
    """What `mmdisco train` was asked for."""

    out: Path | None = None
    fresh: bool = False
    dry_run: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        """Put its paths at home."""
        _settle(self)


@dataclass(frozen=True)
class EvalOptions:
    """What `mmdisco eval` was asked for; no metrics means all of the protocol."""

    samples: Path | None = None
    independent: Path | None = None
    reference: Path | None = None
    metrics: tuple[str, ...] = ()
    rule: str = "tempotokens-2025"
    height: int | None = 128  # of analysed pictures, their shorter side; None: the file's own
    fps: Fraction | None = Fraction(10)  # of analysed pictures; None: the file's own
    max_bad: float | None = None  # share of clips that may be unusable; None: 0 for samples, 5 % for real ones
    features: tuple[Path, Path] | None = None  # real and fake
    compare: tuple[Path, Path] | None = None
    extractors: tuple[str, ...] = ()  # NAME[:PRESET][=WEIGHTS]
    compat: str = ""  # a publication whose numerics are to be shown beside the exact ones
    cache: Path | None = Path("runs/cache")
    rows: str = "csv"
    seed: int = 0
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Put its paths at home."""
        _settle(self)


@dataclass(frozen=True)
class ConvertOptions:
    """What `mmdisco convert` was asked for; without a format it is told from the source."""

    source: Path
    destination: Path
    format: str | None = None

    def __post_init__(self) -> None:
        """Put its paths at home."""
        _settle(self)
