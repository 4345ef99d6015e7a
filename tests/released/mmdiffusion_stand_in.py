"""A plugin that stands in for mmdisco-mmdiffusion: its names and formats, and a model that costs nothing."""

PLUGIN = '''
from dataclasses import dataclass
from pathlib import Path

import mmdisco_cli.hookspecs as hooks
from mmdisco_cli.schema import option


@dataclass(frozen=True)
class Options:
    weights: str = option("", "path")
    sr_weights: str | None = option(None, "path")


@dataclass
class Pair:
    """White noise is all that it knows, and its answer is the state itself, a little smaller."""

    fingerprint: str

    @property
    def info(self):
        from mmdisco_cli.diffusion.backbone import BackboneInfo, ModalityInfo

        audio = ModalityInfo("audio", "epsilon", 1, 16000.0)
        return BackboneInfo((audio, ModalityInfo("video", "epsilon", 3, 10.0)), self.fingerprint)

    def plan(self, request):
        from mmdisco_cli.diffusion.backbone import ModalityPlan, Plan

        audio = ModalityPlan((1, 6400), (1, 6400), 16000.0, 0.4)
        return Plan({"audio": audio, "video": ModalityPlan((3, 4, 16, 16), (3, 4, 16, 16), 10.0, 0.4)})

    def grid(self, steps, plan):
        from mmdisco_cli.diffusion.schedules import trained_schedule

        return dict.fromkeys(("audio", "video"), trained_schedule("vp-linear", "logsnr").grid(steps))

    def levels_at(self, u, plan):
        from mmdisco_cli.diffusion.schedules import make_schedule

        return dict.fromkeys(("audio", "video"), make_schedule("vp-linear").levels_at(u))

    def encode_prompt(self, prompts, negatives, plan):
        from mmdisco_cli.diffusion.backbone import Condition

        return {"audio": Condition(), "video": Condition()}

    def predict(self, x, t, condition, plan):
        return {m: 0.9 * state for m, state in x.items()}

    def encode(self, media, plan):
        return dict(media)

    def decode(self, latent, plan):
        return {m: x.clamp(-1, 1) for m, x in latent.items()}


def build(label, options, request):
    return Pair("of " + Path(options.weights).name)


def outline(label, options, request):
    return Pair("missing")


UNET = (hooks.Published("Landscape.pt", "a U-Net", "a drive", "535 MB", recipe="landscape"),
        hooks.Published("AIST++.pt", "another U-Net", "a drive", "535 MB", recipe="aist"))
LARGE = (hooks.Published("AIST++_SR.pt", "what enlarges", "a drive", "1.24 GB"),)


def lacks(label, options, recipe):
    for key, file in (("weights", UNET[recipe == "aist"]), ("sr_weights", LARGE[0])):
        path = getattr(options, key)
        if path and not Path(path).is_file():
            yield f"backbones.{label}.{key}", file.how_to_get(path)


def candidates(format, shapes, file):
    from mmdisco_cli.conversion.contract import Candidate

    return [Candidate(format, {format: (1,)}, {"kind": "backbone", "architecture": format})] if format in shapes else []


@hooks.hookimpl
def mmdisco_backbones():
    yield hooks.BackboneSpec(
        "mmdiffusion", "a stand-in", Options, lambda: build, 1, modalities=("audio", "video"), outline=lambda: outline,
        lacks=lambda: lacks,
    )


@hooks.hookimpl
def mmdisco_converters():
    build, label = (lambda: candidates), "backbones.film"
    yield hooks.ConverterSpec("mmdiffusion-unet", "a U-Net", build, 1, published=UNET, key=f"{label}.weights")
    yield hooks.ConverterSpec("mmdiffusion-sr", "enlarges", build, 1, published=LARGE, key=f"{label}.sr_weights")
'''
