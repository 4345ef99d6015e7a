"""Test an audio model's codec: encode a real clip, decode it, and compare the log-mel spectrograms.

    python -m mmdisco_diffusers.reconstruction audioldm FOLDER CLIP [--seconds 5]

Without a length it takes the whole clip, at most its first 30 seconds.

A published AudioLDM is expected within a few decibels; tens of decibels mean another mel format.
"""

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torchaudio.functional import resample

from mmdisco_cli.data.audio import MARGIN
from mmdisco_cli.data.media import probe, read_audio
from mmdisco_cli.diffusion.backbone import Request, as_joint
from mmdisco_cli.errors import DataError, ExitCode, MMDiscoError, describe, exit_code_of
from mmdisco_cli.hookspecs import BackboneSpec
from mmdisco_cli.run import console
from mmdisco_diffusers import mmdisco_backbones
from mmdisco_diffusers.mel import MelFormat, log_mel, mel_format

FORM = mel_format(16000, 160, 64)
MOST, LEAST = 30.0, 0.1
"""The longest default, and the shortest possible length of a clip, in seconds."""
DECIBELS = 8.685889638065037  # of a factor e in magnitude


def log_mel_distance(found: Tensor, expected: Tensor, form: MelFormat = FORM) -> float:
    """Return the mean log-mel difference in dB of audio (B, 1, samples), where the expected is at most 60 dB down."""
    mels = [log_mel(audio.mean(1), form) for audio in (found, expected)]
    audible = mels[1] > mels[1].amax() - 60 / DECIBELS
    return float((mels[0] - mels[1]).abs()[audible].mean() * DECIBELS)


def reconstruction(audio: Tensor, again: Tensor, rate: int) -> float:
    """Return the log-mel distance in dB between audio (B, channels, samples) and its reconstruction.

    Both are scaled to equal loudness first, because mel models normalise it.
    """
    both = [resample(x, rate, FORM.sample_rate) if rate != FORM.sample_rate else x for x in (again, audio)]
    loudness = [x.square().mean().sqrt().clamp_min(1e-6) for x in both]
    return log_mel_distance(both[0] * loudness[1] / loudness[0], both[1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a model on disk, print the distance, and return the exit code; an error is one line."""
    specs = {spec.name: spec for spec in mmdisco_backbones() if "audio" in spec.modalities}
    parser = argparse.ArgumentParser(prog="python -m mmdisco_diffusers.reconstruction", description="Test a codec.")
    parser.add_argument("backbone", choices=sorted(specs))
    parser.add_argument("path", help="folder of the model, or its name on the hub")
    parser.add_argument("clip", type=Path, help="a file with audio")
    parser.add_argument("--seconds", type=_seconds, help=f"of the clip; all of it, at most {MOST}, if not given")
    chosen = parser.parse_args(arguments)
    try:
        distance, seconds = measure(specs[chosen.backbone], chosen.path, chosen.clip, chosen.seconds)
        console.result(f"log-mel distance {distance:.2f} dB over {seconds:g} s of {chosen.clip}")
    except (MMDiscoError, OSError) as error:
        console.fail(describe(error))
        return exit_code_of(error)
    return ExitCode.OK


def measure(spec: BackboneSpec, path: str, clip: Path, seconds: float | None) -> tuple[float, float]:
    """Return the distance in dB between a clip and its reconstruction by a model, and the seconds compared.

    Raises:
        DataError: no such model, or a clip that is unusable, shorter than requested, or too short to measure.
    """
    info = probe(clip)
    span = info.span(("audio",))
    requested = min(float(span.stop - span.start), MOST) if seconds is None else seconds
    if requested < LEAST:
        raise DataError(f"{clip}: {requested:g} s of audio are too few to measure: take {LEAST:g} s or more")
    model = as_joint(spec.factory()("audio", spec.options(path=path), Request(seconds=requested)))
    whole = model.plan(Request(seconds=requested))
    plan = whole.modalities["audio"]
    (channels, samples), rate = plan.media_shape, round(plan.rate or 0)
    # A model may make more than the clip has: that is silence, which the distance ignores.
    missing = max(Fraction(plan.seconds) - Fraction(requested), Fraction(0)) + MARGIN
    audio = read_audio(clip, None, Fraction(samples, rate), rate, channels, info=info, slack=missing)[None]
    with torch.no_grad():
        again = model.decode(model.encode({"audio": audio}, whole), whole)["audio"]
    return reconstruction(audio, again, rate), plan.seconds


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
