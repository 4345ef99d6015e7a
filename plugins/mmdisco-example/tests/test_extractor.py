"""The extractor keeps the contract, and finds what is known of a tone."""

import math

import pytest
import torch

from mmdisco_cli.extractors.contract import ExtractorOptions
from mmdisco_cli.testing import check_extractor
from mmdisco_example.extractor import build, embed


def test_the_extractor_keeps_the_contract():
    check_extractor(lambda: build(ExtractorOptions()))


def test_it_finds_the_pitch_and_the_silence_of_a_tone():
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    found = embed(torch.cat([tone, tone[:800]]))  # half a window more, which is left out
    assert found["notes"][0].tolist() == pytest.approx([math.log2(440), 0.5, 0, 0], abs=0.02)
    assert found["silence"].tolist() == [0.0]
    assert embed(torch.cat([tone, torch.zeros(48000)]))["silence"].tolist() == [0.75]
