"""What the paper's discriminators refuse: states, texts and batches that do not fit, each with a ValueError."""

from collections.abc import Mapping

from torch import Tensor

MODALITIES = ("video", "audio")


def require_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise where latent shapes, without batch, are none of video and a waveform or mel latent, or too small."""
    video, audio = shapes.get("video", ()), shapes.get("audio", ())
    if set(shapes) != set(MODALITIES) or len(video) != 4 or len(audio) not in (2, 3):
        raise ValueError(f"expected audio (C, T[, F]) and video (C, T, H, W), got {dict(shapes)}")
    least = 16 if len(audio) == 2 else 4
    if min(video[2:]) < 4 or audio[-1] < least:
        what = "samples" if len(audio) == 2 else "frequencies"
        raise ValueError(f"it halves twice: video needs 4 x 4 pixels, audio {least} {what}, got {dict(shapes)}")


def require_states(x: Mapping[str, Tensor], channels: Mapping[str, int], audio_axes: int) -> None:
    """Raise where states (B, C, T, ...) have other modalities, channels or axes than the discriminator."""
    if x.keys() != set(MODALITIES):
        raise ValueError(f"expected audio and video, got {' and '.join(sorted(x)) or 'nothing'}")
    shapes = {m: tuple(state.shape[1:]) for m, state in x.items()}
    require_shapes(shapes)
    for m, shape in shapes.items():
        if shape[0] != channels[m] or (m == "audio" and len(shape) - 1 != audio_axes):
            raise ValueError(f"{m} has the shape {shape}, but this discriminator takes {channels[m]} channels")


def require_texts(texts: Mapping[str, Tensor], sizes: Mapping[str, int]) -> None:
    """Raise where texts (B, D) or (B, N, D) are not those of exactly the modalities in `sizes`, with D as there."""
    if texts.keys() != sizes.keys():
        names, got = (" and ".join(sorted(keys)) or "none" for keys in (sizes, texts))
        raise ValueError(f"texts: expected {names}, got {got}")
    for m, text in texts.items():
        if text.ndim not in (2, 3) or text.shape[-1] != sizes[m]:
            raise ValueError(f"the text of {m} is {tuple(text.shape)}, expected (batch, {sizes[m]})")


def require_one_batch(x: Mapping[str, Tensor], t: Tensor, texts: Mapping[str, Tensor]) -> None:
    """Raise where states, times (B,) and texts are not of one batch size."""
    batches = {"video": len(x["video"]), "audio": len(x["audio"]), "times": t.numel()}
    batches |= {f"text of {m}": len(text) for m, text in texts.items()}
    if t.ndim != 1 or len(set(batches.values())) > 1:
        raise ValueError(f"batches differ: {', '.join(f'{name} {n}' for name, n in batches.items())}")
