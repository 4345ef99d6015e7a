"""The audio head of AudioCLIP, whose embeddings MM-Diffusion's "FAD" compares (Guzhov et al., 2021).

A ResNeXt-50 with attention between its stages reads the power of complex B-spline wavelets in dB, whose 1023 lowest
frequencies are cut into three bands for its three colours.

MM-Diffusion takes the embeddings as they come and multiplies the distance by 1e4; its audio is in [-1, 1] where the
network was trained on 16-bit numbers, so that it reacts to little but the level. Its batch norms see batches of
eight clips instead of what was learnt, which depends on the order of files and is not followed here.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnext50_32x4d

from mmdisco_cli.extractors.contract import Audio, Extractor
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.weights import choose_preset, fill, identify, require_file
from mmdisco_cli.measures.distances import Feature

RATE, SECONDS = 44100, 1.6
N_FFT, WINDOW, HOP = 2048, 1654, 561
DIMENSION = 1024
COLOURS = 3
FACTOR = 1e4
STAGES = (("1", 64, 256, (3, 1)), ("2", 256, 512, (1, 5)), ("3", 512, 1024, (3, 1)), ("4", 1024, 2048, (1, 5)))
PRESETS = ("mm-diffusion", "audioclip")
# Blackman-Harris, four terms.
TERMS = (0.35875, -0.48829, 0.14128, -0.01168)


class Wavelets(nn.Module):
    """Frequency B-spline wavelets of learnt order `m`, bandwidth `fb` and centre `fc`, one a frequency."""

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(frequencies))
        self.fb = nn.Parameter(torch.ones(frequencies))
        self.fc = nn.Parameter(torch.arange(float(frequencies)))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the power (B, frequencies, frames) in frames (B, frames, N)."""
        size = frames.shape[-1]
        # Eps as in the original, which keeps time off zero.
        time = math.pi * torch.linspace(-1, 1, size) + 1e-8
        m, fb, fc = (x[:, None] for x in (self.m, self.fb, self.fc))
        reach = fb * time / (m + 1e-8)
        spline = torch.where(reach == 0, 1.0, reach.sin() / reach)
        weight, turned = spline.abs() ** m * fb.sqrt() / size**0.5, math.pi * m * (spline < 0)
        across, along = (fc * time).cos(), (fc * time).sin()
        real = weight * (turned.cos() * across + turned.sin() * along)
        imaginary = weight * (turned.sin() * across - turned.cos() * along)
        return (F.linear(frames, real).square() + F.linear(frames, imaginary).square()).transpose(1, 2)


class Attention(nn.Module):
    """What each place of the next stage is multiplied with, from the maxima of what came before."""

    def __init__(self, inside: int, outside: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv_depth = nn.Conv2d(inside, inside, kernel, padding=(kernel[0] // 2, kernel[1] // 2), groups=inside)
        self.conv_point = nn.Conv2d(inside, outside, 1)
        self.bn = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """Return factors (B, outside, *size) in (0, 1)."""
        found: Tensor = self.bn(self.conv_point(self.conv_depth(F.adaptive_max_pool2d(x, tuple(size)))))
        return found.sigmoid()


class AudioHead(nn.Module):
    """Audio (B, S) at 44.1 kHz in 16-bit numbers to embeddings (B, 1024), with AudioCLIP's names of tensors."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, layer in resnext50_32x4d(num_classes=DIMENSION).named_children():
            self.add_module(name, layer)
        for name, inside, outside, kernel in STAGES:
            self.add_module(f"att{name}", Attention(inside, outside, kernel))
        self.att5 = Attention(2048, 2048, (3, 5))
        self.fbsp = Wavelets(N_FFT // 2 + 1)
        turn = 2 * math.pi * torch.arange(WINDOW, dtype=torch.float64) / WINDOW
        self.register_buffer("window", torch.stack([a * (k * turn).cos() for k, a in enumerate(TERMS)]).sum(0).float())

    def forward(self, audio: Tensor) -> Tensor:
        """Return embeddings."""
        # In this order and in float32: what MM-Diffusion's quiet audio loses here is part of its figures.
        power = self.fbsp(framed((audio + 32768) * 2 / 65535 - 1, self.window))
        rows = power.shape[1] // COLOURS
        power = power[:, : COLOURS * rows].unflatten(1, (COLOURS, rows))
        x = 10 * torch.where(power > 0, power, 1e-18).log10()
        x = self.get_submodule("maxpool")(self.get_submodule("bn1")(self.get_submodule("conv1")(x)).relu())
        for name, *_ in STAGES:
            before, x = x, self.get_submodule(f"layer{name}")(x)
            x = x * self.get_submodule(f"att{name}")(before, x.shape[-2:])
        pooled = F.adaptive_avg_pool2d(x, 1)
        found: Tensor = self.get_submodule("fc")((pooled * self.att5(x, pooled.shape[-2:])).flatten(1))
        return found


def framed(audio: Tensor, window: Tensor) -> Tensor:
    """Return windowed frames (B, frames, 2048) of audio (B, S), padded with zeros to whole frames on both sides."""
    frames = 1 + max(0, math.ceil((audio.shape[-1] - WINDOW) / HOP))
    missing = max(0, (frames - 1) * HOP + WINDOW - audio.shape[-1])
    pieces = F.pad(audio, (missing // 2, missing - missing // 2)).unfold(-1, WINDOW, HOP) * window
    left = (N_FFT - WINDOW) // 2
    return F.pad(pieces, (left, N_FFT - WINDOW - left))


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor from AudioCLIP's file of weights.

    Raises:
        UsageError: no file, or no such preset.
        DataError: the file does not fit.
    """
    preset = choose_preset("audioclip", options.preset, PRESETS)
    path = require_file("audioclip", options.weights)
    weights = identify(path)
    network = fill(AudioHead(), path, audio_part)
    theirs = preset == "mm-diffusion"
    about = {
        "extractor": "AudioCLIP, sound head",
        "preset": preset,
        "embedding": "as it comes, of sound in [-1, 1]" if theirs else "of unit length, of 16-bit sound",
        "weights": weights,
    }

    def embed(audio: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            found = network(first_seconds(audio)[None] * (1 if theirs else 32768)).double()
        return {"fad_audioclip": found if theirs else F.normalize(found)}

    feature = Feature(
        "fad_audioclip", "kad_audioclip", "fad_audioclip", "none", about,
        multiples={"fad_audioclip_x1e4": FACTOR}, compat={"mm-diffusion": FACTOR} if theirs else {},
    )  # fmt: skip
    return Extractor(f"audioclip-{preset}-{weights['sha256'][:16]}", Audio(RATE, left=True), embed, [feature], about)


def audio_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the audio head's tensors of those of the whole AudioCLIP; its wavelets have an empty bias there."""
    head = {name.removeprefix("audio."): tensor for name, tensor in state.items() if name.startswith("audio.")}
    return {name: tensor for name, tensor in head.items() if name != "fbsp.bias"}


def first_seconds(audio: Tensor) -> Tensor:
    """Return the first 1.6 s of audio (S,), padded with zeros."""
    samples = round(SECONDS * RATE)
    return F.pad(audio[:samples], (0, max(0, samples - len(audio))))
