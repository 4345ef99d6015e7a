"""Train the judges on real digits that no generator is trained on, and measure them on held-out ones.

    python -m mmdisco_cli.toys.digits.judge_training SPOKEN WRITTEN OUT.safetensors      3 minutes on one thread

They also see recordings after a way through log-mel and Griffin-Lim, which is how samples sound, and images a little
turned, moved and scaled.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.backbones.logmel import decode_logmel
from mmdisco_cli.run.environment import versions
from mmdisco_cli.toys.digits.dataset import SAMPLE_RATE, SECONDS
from mmdisco_cli.toys.digits.judges import KIND, Judges, mel_of
from mmdisco_cli.toys.digits.spoken import Spoken, open_spoken
from mmdisco_cli.toys.digits.written import SIDE, Written, drawn, open_written
from mmdisco_cli.weights_file import save_weights

STEPS, BATCH, RATE = {"audio": 3000, "image": 4000}, 64, 2e-3
SMOOTHING = 0.05
Augment = Callable[[Tensor, torch.Generator], Tensor]


def train_judges(spoken: Spoken, written: Written, steps: dict[str, int]) -> tuple[Judges, dict[str, float]]:
    """Return judges trained on the part `judges`, and their accuracy on the part `heldout`."""
    torch.manual_seed(0)
    judges = Judges()
    mel, digits = _recordings(spoken, "judges")
    resounding = torch.cat([mel_of(decode_logmel(part, SAMPLE_RATE)) for part in mel.split(32)])
    _fit(judges.audio, torch.cat([mel, resounding]), digits.repeat(2), moved_in_time, steps["audio"])
    _fit(judges.image, *_images(written, "judges"), moved_in_space, steps["image"])
    judges.eval()
    heldout = {"audio": _recordings(spoken, "heldout"), "image": _images(written, "heldout")}
    return judges, {kind: accuracy(getattr(judges, kind), *items) for kind, items in heldout.items()}


@torch.no_grad()
def accuracy(network: nn.Module, items: Tensor, digits: Tensor) -> float:
    """Return the share of items (N, ...) that a network takes for the right digit (N,)."""
    found = torch.cat([network(part).argmax(1) for part in items.split(BATCH)])
    return float((found == digits).double().mean())


def moved_in_time(mel: Tensor, generator: torch.Generator) -> Tensor:
    """Return log-mel spectrograms (N, 64, T) shifted in time and pitch, noisy, and with a gap in band and time."""
    rows = torch.arange(len(mel))
    shift = torch.randint(-4, 25, (len(mel),), generator=generator)
    x = torch.stack([_shifted(mel[k], int(shift[k]), int(k % 3) - 1) for k in rows])
    x = x + 0.3 * torch.rand(len(mel), 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)
    for axis, width in ((1, 8), (2, 10)):
        start = torch.randint(x.shape[axis] - width, (len(mel),), generator=generator)
        place = torch.arange(x.shape[axis])[None] - start[:, None]
        gap = ((place >= 0) & (place < width)).unsqueeze(2 if axis == 1 else 1)
        x = torch.where(gap, x.amin((1, 2), keepdim=True), x)
    return x


def _shifted(mel: Tensor, by: int, bands: int) -> Tensor:
    """Return a spectrogram (64, T) some frames later and some bands higher, silence in front."""
    quiet = float(mel.min())
    later = (
        F.pad(mel, (by, 0), value=quiet)[:, : mel.shape[1]] if by > 0 else F.pad(mel[:, -by:], (0, -by), value=quiet)
    )
    return later.roll(bands, 0)


def moved_in_space(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (N, 1, H, W) turned by up to 15 degrees, scaled and sheared by a tenth and moved by two pixels."""

    def uniform(most: float) -> Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * most

    angle, scale, shear = uniform(math.pi / 12), 1 + uniform(0.12), uniform(0.15)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    first = torch.stack([cos, shear * cos - sin, uniform(2 / SIDE * 2)], 1)
    second = torch.stack([sin, shear * sin + cos, uniform(2 / SIDE * 2)], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def _fit(network: nn.Module, items: Tensor, digits: Tensor, augment: Augment, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(items), (BATCH,), generator=generator)
        logits = network(augment(items[rows], generator))
        optimiser.zero_grad()
        F.cross_entropy(logits, digits[rows], label_smoothing=SMOOTHING).backward()
        optimiser.step()
        schedule.step()


def _recordings(spoken: Spoken, part: str) -> tuple[Tensor, Tensor]:
    """Return the log-mel spectrograms (N, 64, 100) and digits (N,) of a part."""
    places = [(place, digit) for digit, found in sorted(spoken.places[part].items()) for place in found]
    return mel_of(spoken.stacked([place for place, _ in places])), torch.tensor([digit for _, digit in places])


def _images(written: Written, part: str) -> tuple[Tensor, Tensor]:
    """Return the images (N, 1, 28, 28) and digits (N,) of a part."""
    places = sorted(place for found in written.places[part].values() for place in found)
    return drawn(written.images[places], SIDE, 0.0, False), written.digits[places].long()


def main(spoken: str, written: str, out: str) -> None:
    """Train on folders of real digits and write the weights."""
    judges, found = train_judges(
        open_spoken(Path(spoken), (), SECONDS, SAMPLE_RATE), open_written(Path(written)), STEPS
    )
    results = {kind: round(value, 4) for kind, value in found.items()}
    save_weights(
        Path(out), judges.state_dict(), {"kind": KIND, "results": results, "steps": STEPS, "versions": versions()}
    )
    print(results)


if __name__ == "__main__":
    main(*sys.argv[1:])
