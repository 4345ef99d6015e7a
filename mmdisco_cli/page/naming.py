"""How the names of measures are spelt for people."""

SPELT = {
    "av_align": "AV-Align", "av_lag": "AV lag", "av": "AV", "iou": "IoU", "rms_db": "RMS dB", "fd": "FD", "kd": "KD",
    "logmel": "log-mel", "fvd": "FVD", "kvd": "KVD", "fad": "FAD", "kad": "KAD", "vggish": "VGGish",
    "audioclip": "AudioCLIP", "effnet": "EfficientNet", "imagebind": "ImageBind", "desync": "DeSync",
    "mm_diffusion": "by MM-Diffusion's numerics", "x1e4": "times 1e4", "wasserstein": "Wasserstein",
}  # fmt: skip


def spelt(name: str) -> str:
    """Return a measure's name in words, as in "AV-Align gain" for av_align_gain."""
    words, found = name.split("_"), []
    while words:
        # The longest beginning that is spelt in some way of its own.
        size = next((k for k in range(len(words), 1, -1) if "_".join(words[:k]) in SPELT), 1)
        part = "_".join(words[:size])
        found.append(SPELT.get(part, part))
        words = words[size:]
    return " ".join(found)


def heading(name: str) -> str:
    """Return a measure's name in words, as a title begins."""
    return begun(spelt(name))


def begun(words: str) -> str:
    """Return words as a title or a sentence begins."""
    return words[:1].upper() + words[1:]
