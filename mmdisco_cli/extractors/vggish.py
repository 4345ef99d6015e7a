"""VGGish, whose embeddings Frechet audio distance compares (Hershey et al., 2017; Kilgour et al., 2019).

The embedding is taken before the last activation, without the PCA and the quantisation that torchvggish adds.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from mmdisco_cli.extractors.contract import Audio, Extractor
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.weights import choose_preset, fill, identify, require_file
from mmdisco_cli.measures.distances import Feature

RATE, WINDOW, HOP, N_FFT = 16000, 400, 160, 512
MELS, LOW, HIGH, OFFSET = 64, 125.0, 7500.0, 0.01
FRAMES = 96
LAYERS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")


@dataclass(frozen=True)
class Windows:
    """Seconds from one window to the next, seconds that each takes, and whether the audio's peak is scaled to 1."""

    hop: float
    length: float
    normalised: bool


PRESETS = {"google": Windows(0.5, 1.0, True), "torchvggish": Windows(0.96, 0.96, False)}


class VGGish(nn.Module):
    """Log-mel patches (B, 1, 96, 64) to embeddings (B, 128), without an activation after the last layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inside = 1
        for item in LAYERS:
            if isinstance(item, int):
                layers += [nn.Conv2d(inside, item, 3, padding=1), nn.ReLU()]
                inside = item
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 4 * 6, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Return embeddings; channels come last before they are flattened, as in TensorFlow."""
        found: Tensor = self.embeddings(self.features(patches).permute(0, 2, 3, 1).flatten(1))
        return found


def log_mel(audio: Tensor) -> Tensor:
    """Return log mel magnitudes (frames, 64) of audio (S,) at 16 kHz, windows wholly inside of it."""
    pieces = audio.double().unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW, dtype=torch.float64)
    level: Tensor = torch.fft.rfft(pieces, N_FFT).abs() @ _filters() + OFFSET
    return level.log().float()


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """Return triangles (257, 64) that are straight in mel, where most libraries' are straight in Hz."""

    def mel(hertz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    bins = mel(torch.linspace(0, RATE / 2, N_FFT // 2 + 1, dtype=torch.float64))
    low, high = (1127.0 * math.log1p(hertz / 700.0) for hertz in (LOW, HIGH))
    edges = torch.linspace(low, high, MELS + 2, dtype=torch.float64)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    filters[0] = 0
    return filters


def patches_of(audio: Tensor, windows: Windows) -> Tensor:
    """Return log-mel patches (K, 1, 96, 64) of audio (S,), K at least 1 where it lasts a window."""
    if windows.normalised:
        # By its greatest sample, not its largest: the published code leaves out the sign.
        audio = audio / audio.max().clamp_min(0.1)
    if windows.length == windows.hop:
        # Patches of one long spectrogram, so that windows of 25 ms cross from one into the next.
        frames = log_mel(audio)
        count = len(frames) // FRAMES
        return frames[: count * FRAMES].reshape(count, 1, FRAMES, MELS)
    size, step = round(windows.length * RATE), round(windows.hop * RATE)
    return torch.stack([log_mel(piece)[:FRAMES] for piece in audio.unfold(0, size, step)])[:, None]


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor of FAD from a file of weights.

    Raises:
        UsageError: no file, or no such preset.
        DataError: the file does not fit.
    """
    preset = choose_preset("vggish", options.preset, PRESETS)
    path = require_file("vggish", options.weights)
    network = fill(VGGish(), path)
    weights = identify(path)
    about = {"extractor": "VGGish, before its last activation", "preset": preset, "of": "windows", "weights": weights}

    def embed(audio: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"fad_vggish": network(patches_of(audio, PRESETS[preset])).double()}

    least = PRESETS[preset].length + (WINDOW - HOP) / RATE * (preset != "google")
    feature = Feature("fad_vggish", "kad_vggish", "fad_vggish", "none", about)
    return Extractor(f"vggish-{preset}-{weights['sha256'][:16]}", Audio(RATE, least), embed, [feature], about)
