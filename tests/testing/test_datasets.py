"""`check_dataset` passes honest data sets and names the first broken promise of any other."""

import itertools
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from mmdisco_cli.data.clips import open_clips
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError
from mmdisco_cli.testing import check_dataset
from mmdisco_cli.toys.bounce import dataset as bounce
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.gaussians import data as gaussians
from mmdisco_cli.toys.gaussians.options import GaussiansOptions

SHAPES = {"audio": (1, 8), "video": (3, 2, 4, 4)}
ASSETS = Path(__file__).parent.parent / "assets"
COUNT = itertools.count()


@dataclass(frozen=True)
class Noise:
    """Clips of noise by index, each with a caption of its audio and a class."""

    part: str = "train"
    length: int | None = 5
    report: tuple[str, ...] = ()

    @property
    def fingerprint(self):
        return f"noise-{self.part}"

    def split(self, part):
        return replace(self, part=part)

    def media(self, indices, modalities):
        return {m: torch.stack([self.clip(i, m) for i in indices]) for m in modalities}

    def clip(self, index, modality):
        seed = 1000 * index + 10 * len(modality + self.part) + (modality == "video")
        return torch.rand(SHAPES[modality], generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Captions(Noise):
    def captions(self, indices, modalities):
        return {m: [f"{self.part} {i}" if m == "audio" else "" for i in indices] for m in modalities}

    def labels(self, indices):
        return [f"class {i % 2}" for i in indices]


@pytest.mark.parametrize("kind", [Noise, Captions])
@pytest.mark.parametrize("length", [1, 5, None])
def test_an_honest_data_set_passes(kind, length):
    assert check_dataset(lambda: kind(length=length), SHAPES) == ()


@pytest.mark.parametrize("wanted", [("audio",), ("video",), ("audio", "video")])
def test_bounce_passes(wanted):
    shapes = {"audio": (1, 25600), "video": (3, 16, 32, 32)}
    make = lambda: bounce.build(BounceOptions(), Request(height=32, width=32))  # noqa: E731
    assert check_dataset(make, {m: shapes[m] for m in wanted}) == ()


def test_gaussians_pass():
    assert check_dataset(lambda: gaussians.build(GaussiansOptions(), Request()), {"x": (1,), "y": (1,)}) == ()


def test_a_folder_of_clips_passes():
    def make():
        return open_clips(ASSETS, frames=4, fps=10, height=16, width=16, sample_rate=8000)

    assert check_dataset(make, {"audio": (1, 3200), "video": (3, 4, 16, 16)}) == ()


def test_too_few_clips_to_hold_out_are_remarked_on():
    class Few(Noise):
        def split(self, part):
            if part == "heldout":
                raise DataError("too few")
            return self

    assert check_dataset(Few, SHAPES) == ("heldout: too few; nothing of it was checked",)


def spoilt(kind=Noise, **members):
    return lambda: type("Dishonest", (kind,), members)()


def media(change):
    """Return a data set whose media are changed: by these, itself, the indices and the modalities."""
    return spoilt(media=lambda self, i, m: change(Noise.media(self, i, m), self, i, m))


def each(change):
    """Return one with every modality's media changed."""
    return media(lambda found, *_: {m: change(x) for m, x in found.items()})


def ask_the_network():
    try:
        socket.getaddrinfo("example.invalid", 80)
    except OSError:
        return


def drawn(member, make):
    """Return a data set whose member depends on when it was built."""
    return lambda: type("Drawn", (Noise,), {member: make(next(COUNT))})()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dict, "dict has no length, fingerprint, report, media, split"),
        (spoilt(split=lambda self, part: (_ for _ in ()).throw(DataError("empty"))), "nothing to train on"),
        (spoilt(split=lambda self, part: 3), "int has no length"),
        (lambda: Noise(length=0), "length is 0, not a number of clips or None"),
        (lambda: Noise(length=2.0), "length is 2.0, not a number"),
        (spoilt(fingerprint=3), "fingerprint is 3, not text"),
        (spoilt(fingerprint=""), "the fingerprint is empty"),
        (lambda: Noise(report="one line"), "report is 'one line', not lines of text"),
        (spoilt(fingerprint=property(lambda self: f"{next(COUNT)}")), "the fingerprint changes from call to call"),
        (spoilt(fingerprint=property(lambda self: f"noise at {id(self)} {self.part}")), "fingerprint changes from one"),
        (spoilt(fingerprint="noise"), "train and heldout have one fingerprint"),
        (lambda: Noise(length=5 + next(COUNT)), "the length changes from one building to the next"),
        (spoilt(split=lambda self, part: self), "train and heldout have one fingerprint"),
        (spoilt(clip=lambda self, i, m: Noise.clip(replace(self, part="train"), i, m)),
         "clip 0 of train is clip 0 of heldout"),
        (spoilt(clip=lambda self, i, m: Noise().clip(i + 2 * (self.part == "train"), m)),
         "clip 0 of train is clip 2 of heldout"),
        (media(lambda found, *_: list(found.values())), "media gives list, not a mapping of modalities"),
        (media(lambda found, *_: {"audio": found["audio"]} if "audio" in found else found), "media gives no video"),
        (each(lambda x: x[:, :, :-1]), r"media of audio are \(1, 7\), not \(1, 8\)"),
        (each(lambda x: x[0]), r"have the shape .* not \(B, \.\.\.\)"),
        (each(lambda x: x.numpy()), "media of audio are ndarray, not a tensor"),
        (each(lambda x: (127 * x).to(torch.int8)), "media of audio are torch.int8, not floats"),
        (each(lambda x: x.double()), "media of audio are torch.float64, not torch.float32"),
        (each(lambda x: x / 0), "media of audio are not finite"),
        (each(lambda x: 255 * (x + 1) / 2), r"far outside of \[-1, 1\]"),
        (each(lambda x: x + torch.rand(())), "generator was drawn from, or seeded"),
        (each(lambda x: x + 0.01 * next(COUNT)), "audio: one index gives two clips"),
        (media(lambda found, s, i, m: {k: x[torch.tensor(i).argsort()] for k, x in found.items()}),
         "rows do not follow the indices"),
        (each(lambda x: x / x.abs().max()), "index 0 gives another clip alone"),
        (media(lambda found, s, i, m: {k: x + 0.1 * (len(m) > 1) for k, x in found.items()}),
         "audio: another clip where it alone is wanted"),
        (media(lambda found, s, i, m: {k: torch.cat([x[:1], -x[1:]]) if len(set(i)) < len(i) else x
                                       for k, x in found.items()}), "an index that is given twice gives two clips"),
        (drawn("clip", lambda seed: lambda self, i, m: Noise.clip(self, i + 50 * seed, m)),
         "another clip where the data set is built again"),
        (spoilt(clip=lambda self, i, m: Noise.clip(self, i, m if m in SHAPES else "audio")),
         "media gives a modality that does not exist"),
        (spoilt(clip=lambda self, i, m: Noise.clip(self, i, m) if m in SHAPES else int(m)),
         "an unknown modality raises ValueError, not KeyError of its name"),
        (spoilt(clip=lambda self, i, m: Noise.clip(self, i, m) if m in SHAPES else {}[3]),
         r"an unknown modality raises KeyError\(3,\), not of its name"),
        (spoilt(compact=lambda self, i, m: {k: torch.zeros(len(i), *SHAPES[k], dtype=torch.uint8) for k in m}),
         "media are not what `compact` gives, converted by `as_float`"),
        (media(lambda found, *_: ask_the_network() or found), "started: .*example.invalid"),
        (media(lambda found, *_: [found, torch.set_grad_enabled(False)][0]), "it changes torch's grad mode"),
        (spoilt(captions=lambda self, i, m: ["one"] * len(i)), "captions gives list, not a mapping"),
        (spoilt(captions=lambda self, i, m: {"audio": ["one"] * len(i)}), r"captions gives \['audio'\], not"),
        (spoilt(captions=lambda self, i, m: dict.fromkeys(m, "one")), "captions of audio are 'one', not a sequence"),
        (spoilt(captions=lambda self, i, m: {k: [None] * len(i) for k in m}), r"captions of audio are \[None, .*not a"),
        (spoilt(captions=lambda self, i, m: {k: ["one"] for k in m}), "captions of audio are 1 texts for 4 clips"),
        (spoilt(captions=lambda self, i, m: {k: [str(n) for n in range(len(i))] for k in m}),
         "captions of audio: index 1 has another text alone"),
        (spoilt(captions=lambda self, i, m: {k: [str(len(m))] * len(i) for k in m}),
         "captions of audio are others where it alone is wanted"),
        (spoilt(captions=lambda self, i, m: {k: ["one"] * len(i) for k in SHAPES}),
         r"captions of audio alone give \['audio', 'video'\]"),
        (spoilt(captions=lambda self, i, m: {k: [str(next(COUNT))] * len(i) for k in m}), "change from call to call"),
        (drawn("labels", lambda seed: lambda self, i: [str(seed)] * len(i)),
         "labels change where the data set is built again"),
        (spoilt(labels=lambda self, i: list(i)), r"labels are \[0, 1, 2, 3\], not a sequence of texts"),
        (spoilt(labels=lambda self, i: sorted({str(k % 2) for k in i})), "labels are 2 texts for 4 clips"),
        (spoilt(labels=lambda self, i: [str(k) for k in range(len(i))]), "labels: index 1 has another text alone"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(make, message):
    with pytest.raises(AssertionError, match=message):
        check_dataset(make, SHAPES)
