"""Models that can only be run: all models of a recipe are run together, and nothing else of them is used."""

from dataclasses import dataclass

import pytest
import torch

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import Base, ModalityInfo, ModalityPlan, Request, as_joint
from mmdisco_cli.diffusion.coupling import INDEX
from mmdisco_cli.diffusion.whole import require_predictions
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.sampling.draw import draw


@dataclass(frozen=True)
class Predicting:
    """A backbone of one number that says nothing."""

    modality: str
    keys: torch.Tensor | None = None

    @property
    def info(self):
        return ModalityInfo(self.modality, "epsilon", 1, None)

    @property
    def fingerprint(self):
        return "predicting"

    def plan(self, request):
        return ModalityPlan((1,), (1,), None, 0.0)


class Run(Predicting):
    """One that makes its own key into media."""

    def keyed(self, keys):
        return Run(self.modality, keys)

    def run_whole(self, beside, plans, run):
        for step in range(1, run.steps + 1):
            run.on_step(step)
        assert [plan.modalities.keys() for plan in plans] == [{model.modality} for model in beside]
        media = {model.modality: model.keys[:, None].double() for model in beside}
        return media, None if run.guidance is None else torch.zeros(len(run.prompts))


def assembly(*models):
    backbones = {model.modality: as_joint(model) for model in models}
    models = {label: Base(backbone, backbone.plan(Request())) for label, backbone in backbones.items()}
    return Assembly(models, INDEX, torch.device("cpu"))


def test_they_are_run_together_each_with_the_samples_own_keys():
    steps = []
    both = assembly(Run("audio"), Run("video"))
    drawn = draw(both, SampleConfig(steps=3), 5, [0, 1], on_step=steps.append)
    again = draw(both, SampleConfig(steps=3), 5, [1])
    assert steps == [1, 2, 3]
    assert drawn.logit is None
    assert torch.equal(drawn.latents["audio"][1:], again.latents["audio"])
    assert not torch.equal(drawn.latents["audio"], drawn.latents["video"])


def test_one_that_is_asked_cannot_be_beside_them():
    with pytest.raises(UsageError, match=r"backbones.video: other models of this recipe can only be run whole"):
        draw(assembly(Run("audio"), Predicting("video")), SampleConfig(steps=3), 5, [0])


def test_other_uses_are_refused():
    require_predictions(assembly(Predicting("audio"), Predicting("video")).models, "trained beside")
    with pytest.raises(UsageError, match=r"video: it can only be run from noise to media, not trained beside"):
        require_predictions(assembly(Predicting("audio"), Run("video")).models, "trained beside")


class Own(Run):
    """One that takes prompts of its own modality, and makes their lengths into media."""

    prompts_by_modality = True

    def keyed(self, keys):
        return Own(self.modality, keys)

    def run_whole(self, beside, plans, run):
        assert len(run) == 2
        media = {m.modality: torch.tensor([[float(len(p))] for p in run.prompts_of(m.modality)]) for m in beside}
        return media, None


OWN = {"audio": ["a", "bb"], "video": ["ccc", "dddd"]}


@pytest.mark.parametrize("prompts", [OWN, {"audio": OWN["audio"], "video": OWN["audio"]}, OWN["audio"]])
def test_each_gets_the_prompts_of_its_modality(prompts):
    drawn = draw(assembly(Own("audio"), Own("video")), SampleConfig(steps=3), 5, [0, 1], prompts=prompts)
    for m, made in drawn.latents.items():
        texts = prompts[m] if isinstance(prompts, dict) else prompts
        assert made[:, 0].tolist() == [len(text) for text in texts]


def test_one_prompt_for_all_is_what_others_take():
    with pytest.raises(UsageError, match=r"backbones.video takes one prompt for all modalities: .* column, caption$"):
        draw(assembly(Own("audio"), Run("video")), SampleConfig(steps=3), 5, [0, 1], prompts=OWN)
    same = {m: ["a", "bb"] for m in OWN}
    assert draw(assembly(Run("audio"), Run("video")), SampleConfig(steps=3), 5, [0, 1], prompts=same).latents
