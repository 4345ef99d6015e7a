"""A plugin whose base models are of any kind, and a recipe of three or more of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

MODELS = """
import math
from dataclasses import dataclass

from mmdisco_cli.hookspecs import BackboneSpec, KindSpec, hookimpl, lazy


@dataclass(frozen=True)
class Options:
    kind: str = "vector"
    shape: tuple[int, ...] = (2,)
    rate: float = 0.0


@hookimpl
def mmdisco_backbones():
    yield BackboneSpec("anything", "normal data of any kind", Options, lazy("mmdisco_anything:build"), api_version=1)


def build(label, options, request):
    import torch
    from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan
    from mmdisco_cli.diffusion.schedules import cosine

    WORDS = ("zero", "one", "two", "seven")

    class Anything:
        fingerprint = f"anything {options}"
        info = ModalityInfo(label, "epsilon", options.shape[0], options.rate or None, kind=options.kind)

        def plan(self, request):
            seconds = options.shape[1] / options.rate if options.rate else 0.0
            return ModalityPlan(options.shape, options.shape, options.rate or None, seconds)

        def grid(self, steps, plan):
            return cosine().grid(steps)

        def levels_at(self, u, plan):
            return cosine().levels_at(u)

        def encode_prompt(self, prompts, negatives, plan):
            return Condition()

        def predict(self, x, t, condition, plan):
            return cosine().levels_at(t).sigma.reshape(-1, *[1] * (x.ndim - 1)) * x

        def encode(self, media, plan):
            return media.clamp(-0.99, 0.99).atanh()

        def decode(self, latent, plan):
            return latent.tanh()

        if options.kind == "text":

            def to_text(self, media, plan):
                return [WORDS[k] for k in media.flatten(1)[:, :4].argmax(1).tolist()]

            def from_text(self, texts, plan):
                if unknown := [text for text in texts if text not in WORDS]:
                    raise ValueError(f"{unknown[0]!r} is not one of {', '.join(WORDS)}")
                return torch.eye(4)[[WORDS.index(text) for text in texts]].reshape(-1, *options.shape)

    return Anything()
"""


@pytest.fixture
def anything(make_plugin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Install the plugin, work in an empty folder, and return what writes a recipe of backbones by label."""
    monkeypatch.delenv("MMDISCO_PLUGINS", raising=False)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    make_plugin("mmdisco-anything", MODELS)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def write(name: str = "many", **backbones: str) -> Path:
        lines = [f"  {label}: {{name: anything, {options}}}" for label, options in backbones.items()]
        path = folder / f"{name}.yaml"
        path.write_text("\n".join(["backbones:", *lines, "sample: {sampler: ddim, steps: 2, batch_size: 4}", ""]))
        return path

    return write
