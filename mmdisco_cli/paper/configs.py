"""The four discriminators that the paper's authors released, and the base models that each belongs to; torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmdisco_cli.paper.options import PaperMelOptions, PaperWaveformOptions


@dataclass(frozen=True)
class Released:
    """One released discriminator: its registry name and options, and how its authors sample with it.

    By modality: `shapes` of latents (C, T, ...) at the released size, `pairing` the base models, `texts` the size of a
    text embedding, `weights` of Eq. (3), `cfg` the scales of classifier-free guidance, and `axes` the order of axes in
    the authors' code, as a permutation of ours (B, C, T, ...). `recipe` is the shipped recipe of the pair.
    """

    name: str
    options: PaperWaveformOptions | PaperMelOptions
    shapes: Mapping[str, tuple[int, ...]]
    pairing: Mapping[str, str]
    recipe: str
    texts: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=lambda: {"audio": 1.0, "video": 1.0})
    cfg: Mapping[str, float] = field(default_factory=dict)
    sampler: str = "ddpm"
    steps: int = 50
    threshold: float = 0.0
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


_MMDIFFUSION_SHAPES = {"audio": (1, 25600), "video": (3, 16, 64, 64)}
_MMDIFFUSION_AXES = {"video": (0, 2, 1, 3, 4)}


def _mmdiffusion(recipe: str, model: str) -> Released:
    return Released(
        "paper-waveform", PaperWaveformOptions(), _MMDIFFUSION_SHAPES, {"audio": model, "video": model}, recipe,
        sampler="dpmpp_3s", steps=20, threshold=0.995, axes=_MMDIFFUSION_AXES,
    )  # fmt: skip


RELEASED: dict[str, Released] = {
    "mmdiffusion_landscape": _mmdiffusion("landscape", "MM-Diffusion, trained on Landscape"),
    "mmdiffusion_aist++": _mmdiffusion("aist", "MM-Diffusion, trained on AIST++"),
    "audioldm_animediff_vggsound": Released(
        "paper-mel",
        PaperMelOptions(),
        {"audio": (8, 50, 16), "video": (4, 16, 32, 32)},
        {
            "audio": "cvssp/audioldm-m-full",
            "video": "guoyww/animatediff-motion-adapter-v1-5-2 on SG161222/Realistic_Vision_V5.1_noVAE",
        },
        "audioldm-animatediff",
        texts={"audio": 512, "video": 768},
        weights={"audio": 1.0, "video": 8.0},
        cfg={"audio": 2.5, "video": 7.5},
    ),
    "auffusion_videocrafter2_vggsound": Released(
        "paper-mel",
        PaperMelOptions(fusion="transformer", audio_schedule="vp-scaled-linear", video_schedule="vp-videocrafter2"),
        {"audio": (4, 25, 32), "video": (4, 16, 32, 32)},
        {"audio": "auffusion/auffusion-full", "video": "VideoCrafter2"},
        "auffusion-videocrafter2",
        texts={"audio": 768, "video": 1024},
        weights={"audio": 1.0, "video": 8.0},
        cfg={"audio": 8.0, "video": 8.0},
        axes={"audio": (0, 1, 3, 2)},
    ),
}
