"""Which shapes the networks can make, near what a recipe requests."""

from collections.abc import Iterator

from mmdisco_cli.diffusion.backbone import ModalityPlan, Plan, Request
from mmdisco_mmdiffusion.enlarger import FACTOR, EnlargerConfig
from mmdisco_mmdiffusion.unet import UNetConfig

SAMPLE_RATE, FPS = 16000, 10
FRAMES, PIXELS = 16, 64
"""What the released models were trained on: 1.6 s of 64 x 64 pixels with 25,600 samples."""


def planned(request: Request, unet: UNetConfig, enlarger: EnlargerConfig | None) -> Plan:
    """Return what the networks make of a request: any number of frames at 10 a second, sides that their levels divide.

    The audio always lasts as long as the video.
    """
    frames = request.frames or (round(request.seconds * FPS) if request.seconds else FRAMES)
    frames, factor = max(frames, 1), FACTOR if enlarger else 1
    # The enlarger's levels divide its own pixels, of which each of the U-Net's makes several.
    multiple = max(unet.pixel_multiple, -(-enlarger.pixel_multiple // FACTOR) if enlarger else 1)
    height, width = (
        max(round(wanted / factor / multiple), 1) * multiple if wanted else PIXELS
        for wanted in (request.height or request.width, request.width or request.height)
    )
    seconds, samples = frames / FPS, _samples(frames, unet)
    video = ModalityPlan(
        (unet.video_channels, frames, height, width),
        (unet.video_channels, frames, factor * height, factor * width),
        float(FPS),
        seconds,
    )
    audio = ModalityPlan(
        (unet.audio_channels, samples), (unet.audio_channels, samples), float(SAMPLE_RATE), samples / SAMPLE_RATE
    )
    made = {"seconds": seconds, "frames": frames, "fps": FPS, "height": factor * height, "width": factor * width}
    notes = tuple(_snapped(request, made)) + tuple(_untrained(frames, height, width))
    return Plan({"audio": audio, "video": video}, notes)


def _samples(frames: int, unet: UNetConfig) -> int:
    """Return the samples that last as long as the frames, to the nearest multiple that the levels divide."""
    multiple = unet.sample_multiple
    return max(round(frames * SAMPLE_RATE / FPS / multiple), 1) * multiple


def _snapped(request: Request, made: dict[str, float]) -> Iterator[str]:
    for name, value in made.items():
        wanted = getattr(request, name)
        if wanted is not None and abs(wanted - value) > 1e-6:
            yield f"video: {name} {wanted:g} becomes {value:g}, the nearest that the model makes"


def _untrained(frames: int, height: int, width: int) -> Iterator[str]:
    if (frames, height, width) != (FRAMES, PIXELS, PIXELS):
        made, trained = f"{frames} frames of {height} x {width}", f"{FRAMES} of {PIXELS} x {PIXELS}"
        yield f"video: {made} pixels, where the released models were trained on {trained}"
