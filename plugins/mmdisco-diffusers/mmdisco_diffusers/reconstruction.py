"""How much of a sound survives a model's codec: encode a real clip, decode it, and compare their log-mels.

    python -m mmdisco_diffusers.reconstruction audioldm FOLDER CLIP [--seconds 5]

A published AudioLDM is expected within a few decibels; tens of them mean a mel that is laid out otherwise.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchaudio.functional import resample

from mmdisco_cli.diffusion.backbone import Request, as_joint
from mmdisco_cli.sampling.given import read_media
from mmdisco_diffusers import mmdisco_backbones
from mmdisco_diffusers.mel import MelFormat, log_mel, mel_format

FORM = mel_format(16000, 160, 64)
DECIBELS = 8.685889638065037  # in one unit of the natural logarithm of a magnitude


def log_mel_distance(found: Tensor, expected: Tensor, form: MelFormat = FORM) -> float:
    """Return the mean difference in dB of sounds (B, 1, samples), where the expected one is at most 60 dB down."""
    mels = [log_mel(sound.mean(1), form) for sound in (found, expected)]
    heard = mels[1] > mels[1].amax() - 60 / DECIBELS
    return float((mels[0] - mels[1]).abs()[heard].mean() * DECIBELS)


def reconstruction(sound: Tensor, again: Tensor, rate: int) -> float:
    """Return the log-mel distance in dB between sound (B, channels, samples) and what its latents became.

    Both are brought to one loudness first: mel models were trained on one.
    """
    both = [resample(x, rate, FORM.sample_rate) if rate != FORM.sample_rate else x for x in (again, sound)]
    loudness = [x.square().mean().sqrt().clamp_min(1e-6) for x in both]
    return log_mel_distance(both[0] * loudness[1] / loudness[0], both[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a model on disk and print the distance."""
    specs = {spec.name: spec for spec in mmdisco_backbones() if "audio" in spec.modalities}
    parser = argparse.ArgumentParser(prog="python -m mmdisco_diffusers.reconstruction", description="Test a codec.")
    parser.add_argument("backbone", choices=sorted(specs))
    parser.add_argument("path", help="folder of the model, or its name on the hub")
    parser.add_argument("clip", type=Path, help="a file with sound")
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args(arguments)
    spec, request = specs[chosen.backbone], Request(seconds=chosen.seconds)
    model = as_joint(spec.factory()("audio", spec.options(path=chosen.path), request))
    whole = model.plan(request)
    plan = whole.modalities["audio"]
    sound = read_media(chosen.clip, "audio", plan)[None]
    with torch.no_grad():
        latent = model.encode({"audio": sound}, whole)
        distance = reconstruction(sound, model.decode(latent, whole)["audio"], round(plan.rate or 0))
    print(f"log-mel distance {distance:.2f} dB over {plan.seconds:g} s of {chosen.clip}")


if __name__ == "__main__":
    main()
