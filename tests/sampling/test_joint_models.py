"""Models of several modalities at once, and models that draw at random while they predict or decode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CPU
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly, LoadedDiscriminator
from mmdisco_cli.diffusion.backbone import (
    BackboneInfo,
    Base,
    Condition,
    ModalityInfo,
    ModalityPlan,
    Payload,
    Plan,
    Request,
    State,
    as_joint,
    keyed,
)
from mmdisco_cli.diffusion.coupling import INDEX
from mmdisco_cli.diffusion.noise import sample_keys
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.sampling.draw import draw
from mmdisco_cli.sampling.job import _require_given

NAMES = ("audio", "video")


@dataclass(frozen=True)
class Drawing:
    """A model of audio and video that adds to its predictions and media a number drawn from each sample's key."""

    keys: Tensor | None = None
    requested: list[Any] = field(default_factory=list)

    @property
    def info(self) -> BackboneInfo:
        return BackboneInfo(tuple(ModalityInfo(m, "epsilon", 3, None) for m in NAMES), "drawing")

    def keyed(self, keys: Tensor) -> "Drawing":
        return replace(self, keys=keys)

    def plan(self, request: Request) -> Plan:
        return Plan({m: ModalityPlan((3,), (3,), None, 1.0) for m in NAMES})

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        return dict.fromkeys(NAMES, make_schedule("vp-linear").grid(steps))

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        return dict.fromkeys(NAMES, make_schedule("vp-linear").levels_at(u))

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        return {}

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        self.requested.append({m: time.clone() for m, time in t.items()})
        drawn = self.drawn(len(x["audio"]))
        return {"audio": torch.tanh(x["video"]) + drawn, "video": torch.tanh(x["audio"]) - drawn}

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        return dict(media)

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        self.requested.append(sorted(latent))
        return {m: x + self.drawn(len(x)) for m, x in latent.items()}

    def drawn(self, rows: int) -> Tensor:
        assert self.keys is not None
        assert len(self.keys) == rows
        return torch.tensor([[key % 1000 / 1000] for key in self.keys.tolist()])


def assembly(**changed: Any) -> Assembly:
    backbone = Drawing()
    return replace(Assembly({"joint": Base(backbone, backbone.plan(Request()))}, INDEX, CPU), **changed)


def test_keys_are_the_samples_and_the_models_own() -> None:
    together = sample_keys(3, [4, 5, 6], "joint")
    assert len(set(together.tolist())) == 3
    assert torch.equal(sample_keys(3, [6], "joint"), together[2:])
    assert not torch.equal(sample_keys(3, [6], "other"), together[2:])
    assert not torch.equal(sample_keys(2, [6], "joint"), together[2:])


def test_what_a_model_draws_is_the_samples_in_any_batch() -> None:
    config = SampleConfig(steps=4)
    together = draw(assembly(), config, 0, [0, 1, 2]).latents
    for place in range(3):
        alone = draw(assembly(), config, 0, [place]).latents
        for m in NAMES:
            torch.testing.assert_close(alone[m][0], together[m][place])


def test_one_modality_of_a_model_of_two_is_not_made_anew() -> None:
    with pytest.raises(UsageError, match="gibbs: audio: backbone joint makes audio and video at one noise level only"):
        _require_given(assembly(), SampleConfig(gibbs=("audio",)))


def test_a_model_that_never_draws_stays_as_it_is() -> None:
    class Plain:
        info = ModalityInfo("audio", "epsilon", 3, None)

    joint = as_joint(Plain())  # type: ignore[arg-type]
    assert keyed(joint, torch.tensor([1])) is joint


def test_a_model_of_one_modality_is_keyed_behind_its_mapping() -> None:
    class Keyed:
        info = ModalityInfo("audio", "epsilon", 3, None)
        fingerprint = "keyed"

        def __init__(self, keys: Tensor | None = None) -> None:
            self.keys = keys

        def keyed(self, keys: Tensor) -> "Keyed":
            return Keyed(keys)

        def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
            assert self.keys is not None
            return latent + self.keys[:, None]

    plan = Plan({"audio": ModalityPlan((3,), (3,), None, 1.0)})
    made = keyed(as_joint(Keyed()), torch.tensor([1, 2])).decode({"audio": torch.zeros(2, 3)}, plan)  # type: ignore[arg-type]
    assert made["audio"][:, 0].tolist() == [1, 2]


def test_held_beside_a_modality_of_its_own_model_a_given_one_keeps_the_common_time() -> None:
    """Whatever its discriminator has seen in training: a model of both is never evaluated at two times."""

    class Blind(nn.Module):
        def forward(self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: object = None) -> Tensor:
            return x["audio"].sum(1)

    loaded = LoadedDiscriminator(Blind(), {"given_fraction": 0.25}, Path("weights"), "0")
    models = assembly(discriminator=loaded)
    given = {"video": torch.ones(2, 3)}
    found = draw(models, SampleConfig(steps=4), 0, [0, 1], given=given).latents
    backbone = models.models["joint"].backbone
    assert isinstance(backbone, Drawing)
    assert len(backbone.requested) >= 4
    assert all(torch.equal(t["audio"], t["video"]) for t in backbone.requested)
    torch.testing.assert_close(found["video"], given["video"])


def test_only_the_latents_at_hand_are_decoded() -> None:
    models = assembly()
    media = models.keyed(0, [0, 1]).decode({"audio": torch.zeros(2, 3)})
    backbone = models.models["joint"].backbone
    assert isinstance(backbone, Drawing)
    assert backbone.requested == [["audio"]]
    assert media.keys() == {"audio"}
    assert not torch.equal(media["audio"][0], media["audio"][1])
