"""An extractor without weights: what pitch and loudness a clip has, and how much of it is silent."""

import torch
from torch import Tensor

from mmdisco_cli.extractors.contract import Audio, Extractor, ExtractorOptions, Feature, Score
from mmdisco_example.backbone import HOP, RATE, analysed

SILENT = 0.01


def embed(sound: Tensor) -> dict[str, Tensor]:
    """Return the means and standard deviations (1, 4) of pitch and loudness in a sound (S,), and its silence (1,)."""
    pitch, loudness = analysed(sound[None, None, : len(sound) // HOP * HOP])
    played = torch.cat([pitch.log2(), loudness])  # (2, T)
    notes = torch.cat([played.mean(1), played.std(1, correction=0)])
    return {"notes": notes[None], "silence": (loudness < SILENT).float().mean(1)}


def build(options: ExtractorOptions) -> Extractor:
    wants = Audio(rate=RATE, least=HOP / RATE)
    feature = Feature("notes", kernel="kd_notes", frechet="fd_notes", about={"extractor": "zero crossings, no weights"})
    return Extractor("notes-1", wants, embed, (feature,), scores=(Score("silence", {"below": SILENT}),))
