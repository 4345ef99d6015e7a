"""Models of unlike rates agree on one length, and what may be fetched is decided on the command line alone."""

import os
from dataclasses import dataclass

import pytest
import torch

from mmdisco_cli.assembly.planning import plan_together
from mmdisco_cli.commands.parameters import allow_downloads
from mmdisco_cli.diffusion.backbone import (
    ModalityInfo,
    ModalityPlan,
    Request,
    as_joint,
    count_parameters,
    memory_lines,
    takes_prompts,
)


@dataclass(frozen=True)
class Steps:
    """A model that makes whole groups of steps, and at most so many seconds."""

    modality: str
    rate: float
    group: int
    longest: float = 100.0
    fingerprint: str = "steps"

    @property
    def info(self):
        return ModalityInfo(self.modality, "epsilon", 1, self.rate)

    def plan(self, request):
        wanted = min(request.seconds or 3.0, self.longest) * self.rate
        steps = max(round(wanted / self.group), 1) * self.group
        return ModalityPlan((1, steps), (1, steps), self.rate, steps / self.rate)


def lengths(*models, seconds=None):
    plans = plan_together({m.modality: as_joint(m) for m in models}, Request(seconds=seconds))
    return {label: plan.modalities[label].seconds for label, plan in plans.items()}, plans


def test_the_finer_model_follows_the_coarser_one():
    found, plans = lengths(Steps("audio", 16000, 1), Steps("video", 8, 4), seconds=1.2)
    assert found == {"audio": 1.0, "video": 1.0}
    assert plans["audio"].notes == ("audio: 1 s long, to fit the other models",)
    assert plans["video"].notes == ()


def test_lengths_that_agree_are_left_alone():
    found, plans = lengths(Steps("audio", 16000, 1), Steps("video", 8, 4), seconds=1.5)
    assert found == {"audio": 1.5, "video": 1.5}
    assert plans["audio"].notes == ()


def test_a_model_that_cannot_follow_keeps_its_own_length():
    found, plans = lengths(Steps("audio", 16000, 1, longest=1.0), Steps("video", 8, 4), seconds=2.0)
    assert found == {"audio": 1.0, "video": 2.0}
    assert plans["audio"].notes == ()


def test_optional_members_speak_of_weights_that_are_not_loaded():
    class Large(Steps):
        parameters = 12
        memory = ("unet: 1 GB",)
        takes_prompts = True

    model = as_joint(Large("audio", 1.0, 1))
    assert count_parameters(model) == 12
    assert memory_lines(model) == ("unet: 1 GB",)
    assert takes_prompts(model)
    assert not takes_prompts(as_joint(Steps("audio", 1.0, 1)))
    assert count_parameters(as_joint(Steps("audio", 1.0, 1))) is None
    assert memory_lines(as_joint(Steps("audio", 1.0, 1))) == ()
    Large.module = torch.nn.Linear(2, 2)
    assert count_parameters(model) == 6


@pytest.mark.parametrize(("chosen", "found"), [(True, "1"), (False, None)])
def test_downloads_are_allowed_by_the_option_alone(monkeypatch, chosen, found):
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "")
    monkeypatch.delenv("MMDISCO_DOWNLOAD")
    allow_downloads(chosen)
    assert os.environ.get("MMDISCO_DOWNLOAD") == found
