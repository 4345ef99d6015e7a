"""Describe the base models of diffusers to mmdisco; nothing here imports torch or diffusers."""

from collections.abc import Callable, Iterable

from mmdisco_cli.hookspecs import BackboneSpec, Factory, hookimpl, lazy
from mmdisco_diffusers.options import (
    AnimateDiffOptions,
    AuffusionOptions,
    HunyuanVideoOptions,
    LockstepOptions,
    LTX2Options,
    MelOptions,
    ModelOptions,
    StableAudioOptions,
    VideoCrafter2Options,
)

__version__ = "0.1.0"

_AUDIO = {
    "audioldm": ("AudioLDM: 16 kHz mono", MelOptions),
    "audioldm2": ("AudioLDM 2: 16 kHz mono", MelOptions),
    "stable-audio": ("Stable Audio Open: 44.1 kHz stereo, up to 47.5 s", StableAudioOptions),
    "stable-audio-3": ("Stable Audio 3: 44.1 kHz stereo, any length", ModelOptions),
    "longcat": ("LongCat-AudioDiT: 24 kHz mono, up to 30 s", ModelOptions),
    "auffusion": ("Auffusion: 16 kHz mono, up to 10.24 s", AuffusionOptions),
}
_VIDEO = {
    "animatediff": ("AnimateDiff: 16 frames at 8 fps", AnimateDiffOptions),
    "text-to-video-sd": ("ModelScope and ZeroScope: 16 frames at 8 fps", ModelOptions),
    "cogvideox": ("CogVideoX: 8n + 1 frames at 8 fps", ModelOptions),
    "hunyuan-video": ("HunyuanVideo: 4n + 1 frames at 24 fps", HunyuanVideoOptions),
    "ltx": ("LTX Video: 8n + 1 frames at 25 fps", ModelOptions),
    "mochi": ("Mochi 1: 6n + 1 frames at 30 fps", ModelOptions),
    "videocrafter2": ("VideoCrafter 2: 16 frames at 8 fps", VideoCrafter2Options),
    "wan": ("Wan 2.1 and 2.2: 4n + 1 frames at 16 fps", ModelOptions),
}
_BOTH = {"ltx2": ("LTX-2: 8n + 1 frames at 24 fps and 24 kHz stereo, from one model", LTX2Options)}


@hookimpl
def mmdisco_backbones() -> Iterable[BackboneSpec]:
    """Describe the base models of this plugin."""
    for modalities, models in ((("audio",), _AUDIO), (("video",), _VIDEO), (("audio", "video"), _BOTH)):
        for name, (summary, options) in models.items():
            yield _described(name, summary, options, name.replace("-", "_"), modalities)
    yield _described(
        "lockstep", "any other pipeline beside another: sampling only", LockstepOptions, "lockstep_backbone", ()
    )


def _described(name: str, summary: str, options: type, module: str, modalities: tuple[str, ...]) -> BackboneSpec:
    # A backbone loads its weights when it is first evaluated, so it is its own outline.
    build = lazy(f"mmdisco_diffusers.{module}:build")
    lacks = lazy("mmdisco_diffusers.finding:models_lacked")
    return BackboneSpec(name, summary, options, build, 1, modalities, build, lacks, _adopting(build))


def _adopting(build: Callable[[], Factory]) -> Callable[[], Factory]:
    def load() -> Factory:
        from mmdisco_diffusers.adopting import adopting

        return adopting(build())

    return load
