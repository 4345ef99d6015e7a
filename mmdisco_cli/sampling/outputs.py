"""The files of one sample: a clip of video and audio where there is one of each, and one of its kind for all else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from mmdisco_cli.data.media import write_clip
from mmdisco_cli.diffusion.backbone import AUDIO, VECTOR, VIDEO, ModalityPlan
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.known import OpenKind
from mmdisco_cli.sampling.settings import MP4
from mmdisco_cli.weights_file import save_weights

LONGEST_GAP = 0.1
"""Seconds by which video and audio may differ in length: the audio is cut or padded."""
LATENTS = ".latents.safetensors"
"""How the file of a sample's latents ends, which are no media."""
MOST_CHANNELS = 2
"""Of the audio of a clip."""


@dataclass(frozen=True)
class Part:
    """One file of every sample: the modalities in it, their kind (that of the pair is video), and how its name ends."""

    labels: tuple[str, ...]
    kind: OpenKind
    ending: str

    @property
    def is_pair(self) -> bool:
        """Return whether it is a video with its audio."""
        return len(self.labels) > 1 and self.kind.name == VIDEO


def sample_stem(index: int, seed: int) -> str:
    """Return the name of a sample's files, without suffix."""
    return f"{index:05d}-seed{seed}"


def sample_parts(kinds: Mapping[str, OpenKind], plans: Mapping[str, ModalityPlan], video: str = MP4) -> list[Part]:
    """Return the files of every sample, the main one first.

    They are a clip where there is exactly one video and one audio, of two channels at most, then all others as the
    recipe orders them, and one file of all plain vectors. Where several would be named alike, each is named by its
    label too. Names of video end in `video`, of what `write_clip` writes.

    Raises:
        UsageError: video and audio would differ in length.
    """
    of_kind = {name: [m for m, kind in kinds.items() if kind.name == name] for name in (VIDEO, AUDIO, VECTOR)}
    pair = (*of_kind[AUDIO], *of_kind[VIDEO])
    paired = len(of_kind[AUDIO]) == len(of_kind[VIDEO]) == 1 and plans[pair[0]].media_shape[0] <= MOST_CHANNELS
    pair = pair if paired else ()
    if pair:
        _require_one_length(*(plans[m].seconds for m in pair))
    vectors = tuple(of_kind[VECTOR])
    single = [(m,) for m in kinds if m not in (*pair, *vectors)]
    groups = [group for group in (pair, *single, vectors) if group]
    suffixes = [_suffix(kinds[group[-1]], video) for group in groups]
    # Upper and lower case are one to some file systems.
    taken = [LATENTS, *(suffix.lower() for suffix in suffixes)]
    return [
        Part(group, kinds[group[-1]], f"-{group[0]}{suffix}" if alike and len(group) == 1 else suffix)
        for group, suffix, alike in zip(groups, suffixes, (taken.count(s.lower()) > 1 for s in suffixes), strict=True)
    ]


def in_format(part: Part, video: str) -> Part:
    """Return a part with its video, if it has any, written in another format."""
    stem = part.ending[: part.ending.rindex(".")]
    return replace(part, ending=f"{stem}.{video}") if part.kind.name == VIDEO else part


def _suffix(kind: OpenKind, video: str) -> str:
    return f".{video}" if kind.name == VIDEO else kind.spec.suffix


def _require_one_length(audio: float, video: float) -> None:
    if abs(audio - video) > LONGEST_GAP:
        raise UsageError(
            f"request: the audio would last {audio:g} s and the video {video:g} s: let request.seconds be "
            "request.frames / request.fps"
        )


def write_sample(
    folder: Path, stem: str, media: Mapping[str, Media], parts: Sequence[Part], plans: Mapping[str, ModalityPlan],
    about: Mapping[str, str], scale: int,
) -> list[Path]:  # fmt: skip
    """Write the media of one sample, without batch, and return its files, one for each part."""
    return [_write(folder / f"{stem}{part.ending}", part, media, plans, about, scale) for part in parts]


def _write(
    path: Path, part: Part, media: Mapping[str, Media], plans: Mapping[str, ModalityPlan], about: Mapping[str, str],
    scale: int,
) -> Path:  # fmt: skip
    first = part.labels[0]
    if len(part.labels) == 1:
        return part.kind.write(path, media[first], Item(first, plans[first], about, scale))
    tensors = {m: x for m in part.labels if isinstance(x := media[m], Tensor)}
    if not part.is_pair:
        return write_latents(path, tensors, about)
    audio, video = part.labels
    fps, rate = plans[video].rate or 0.0, round(plans[audio].rate or 0)
    return write_clip(path, tensors[video], tensors[audio], fps, rate, about, scale=scale)


def files_by_label(parts: Sequence[Part], files: Sequence[Path]) -> dict[str, str]:
    """Return the name of the file that each modality of a sample lies in, as the manifest has it."""
    return {m: file.name for part, file in zip(parts, files, strict=True) for m in part.labels}


def require_finite(index: int, what: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise DataError, naming the sample and the modality, where a model's output is not finite."""
    for modality, x in tensors.items():
        if not bool(x.isfinite().all()):
            raise DataError(f"sample {index} is not written: the {modality} {what} holds values that are not finite")


def write_latents(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> Path:
    """Write tensors by modality in full precision, with `about` as JSON in the metadata, and return the path."""
    save_weights(path, tensors, {"kind": "sample", **about}, exact=True)
    return path
