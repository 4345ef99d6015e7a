"""Captioned clips: the model takes no prompts, which is said, and beside one that does its samples are fakes too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_networks import save_unet
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.hookspecs import BackboneSpec, DatasetSpec, NoOptions
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.registry.plugins import Plugin, Registry, load_registry
from mmdisco_cli.run.options import SampleOptions, TrainOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about

SCHEDULE = make_schedule("cosine")
REACHED = 0.5
"""Of the mean in the prompt after two steps: epsilon says nothing of it in pure noise, and sigma^2 of it at u = 0.5."""
SHAPES = {"audio": (1, 25600), "video": (3, 16, 16, 16), "motion": (2, 16)}
RECIPE = """
data: {name: scenes}
request: {height: 16, width: 16}
backbones:
  film: {name: mmdiffusion, weights: unet.safetensors}
discriminator: {name: energy, width: 16, depth: 1, heads: 2, steps: 4}
train: {steps: 1, batch_size: 2, warmup: 1, learning_rate: 0.01, ema: 0, fakes: generated, bank: 2, text_dropout: 0.3}
sample: {steps: 2, batch_size: 4, keep_latents: true, weights: out/discriminator.safetensors}
"""
MOTION = "  motion: {name: mover}\n"


@dataclass(frozen=True)
class Scenes:
    """Clips of noise, each with a text."""

    part: str = "train"
    length: int | None = 6
    report: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return f"scenes:{self.part}"

    def split(self, part: str) -> "Scenes":
        return replace(self, part=part)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        def one(index: int, modality: str) -> Tensor:
            generator = torch.Generator().manual_seed(100 * len(self.part) + index)
            return torch.rand(SHAPES[modality], generator=generator) * 2 - 1

        return {m: torch.stack([one(index, m) for index in indices]) for m in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        return {m: [f"scene {index}" for index in indices] for m in modalities}


class Mover:
    """The exact denoiser of unit Gaussians around the number in the prompt."""

    takes_prompts = True
    fingerprint = "mover"
    info = ModalityInfo("motion", "epsilon", 2, None, 1)

    def plan(self, request: Request) -> ModalityPlan:
        return ModalityPlan(SHAPES["motion"], SHAPES["motion"], None, 1.6)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return SCHEDULE.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return SCHEDULE.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        texts = torch.tensor([[10.0 * int(prompt[-1]) if prompt else 0.0] for prompt in prompts])
        return Condition(texts, torch.zeros_like(texts), texts / 10, torch.zeros_like(texts))

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        mean = condition[..., None] if isinstance(condition, Tensor) else torch.zeros(len(x), 1, 1)
        alpha, sigma = (level.float()[:, None, None] for level in SCHEDULE.levels_at(t.double())[1:])
        return sigma * (x - alpha * mean)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        return media

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        return latent


def load(text: str, *settings: str) -> Recipe:
    mover = BackboneSpec("mover", "exact", NoOptions, lambda: lambda *_: Mover(), 1)
    scenes = DatasetSpec("scenes", "noise", NoOptions, lambda: lambda *_: Scenes(), 1)
    own = Plugin("scenes", "0", "loaded", (("backbone", mover), ("dataset", scenes)))
    Path("scenes.yaml").write_text(text)
    return recipes.load("scenes.yaml", settings, registry=Registry((*load_registry().plugins, own)))


@pytest.fixture
def folder(installed: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mmdisco_cli.training.report.BATCHES", 1)
    save_unet(tmp_path / "unet.safetensors")
    return tmp_path


def test_alone_it_is_trained_without_the_texts_which_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(load(RECIPE), TrainOptions(out=Path("out")))
    said = capsys.readouterr().err.splitlines()
    line = "note: the captions of the clips are not used: no backbone of this recipe takes any prompts"
    assert said.count(line) == 1
    assert not read_about(folder / "out/discriminator.safetensors", "discriminator").get("captions")
    (shard,) = (folder / "out/bank").glob("generated-*/*.safetensors")
    assert {m: len(x) for m, x in load_file(shard).items()} == {"audio": 2, "video": 2}


@pytest.mark.slow
def test_beside_a_model_of_texts_it_is_joined_under_these(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load(RECIPE.replace("discriminator:", f"{MOTION}discriminator:", 1))
    train(recipe, TrainOptions(out=Path("out")))
    assert "captions: 2 clips, 2 texts" in capsys.readouterr().err
    assert read_about(folder / "out/discriminator.safetensors", "discriminator")["captions"] is True
    banks = [load_file(path) for path in sorted((folder / "out/bank").glob("generated-*/*.safetensors"))]
    # The fake of each row is of its text, where there is a model of texts.
    found = sorted(tuple(float(x) for x in bank["motion"].mean((1, 2)) / 10) for bank in banks)
    for means in found:
        assert means == pytest.approx([0, REACHED], abs=0.1)
    assert {tuple(bank["video"].shape[1:]) for bank in banks} == {SHAPES["video"]}
    sample(recipe, SampleOptions(n=2, prompts=("scene 1", "scene 3"), out=Path("samples")))
    latents = [load_file(path)["motion"].mean() / 10 for path in sorted(Path("samples").glob("*.latents.safetensors"))]
    assert torch.stack(latents).tolist() == pytest.approx([REACHED, 3 * REACHED], abs=0.1)


def test_re_paired_texts_would_part_what_it_makes_together(folder: Path) -> None:
    from mmdisco_cli.errors import UsageError

    with pytest.raises(UsageError, match="shuffled would part audio and video, which backbone film makes together"):
        train(
            load(RECIPE.replace("discriminator:", f"{MOTION}discriminator:", 1), "train.fakes=shuffled"), TrainOptions()
        )
