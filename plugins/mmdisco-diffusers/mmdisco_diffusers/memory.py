"""What a model will take of which memory, from its files alone."""

from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles

_TEXT = {
    "keep": "stay on the device",
    "cpu": "wait in main memory and visit the device for new prompts",
    "free": "are let go once the prompts are encoded, and loaded again for new ones",
}


def memory_lines(parts: Parts, roles: Roles, options: ModelOptions) -> tuple[str, ...]:
    """Return a line for each group of parts: its weights in bytes and where they lie."""
    streamed, visits = options.offload == "group", options.offload != "none"
    denoiser, codec, text = (_size(parts, names) for names in (roles.denoiser, roles.codec, roles.text))
    staying = (not streamed) * denoiser + (not visits) * codec + (options.text == "keep") * text
    visiting = max(visits * codec, (options.text != "keep") * text)
    flow = "is streamed to the device block by block" if streamed else "stays on the device"
    place = "visits the device" if visits else "stays on the device"
    return (
        f"{' and '.join(n for n in roles.denoiser if parts.has(n))}: {_gb(denoiser)} in {options.dtype}, {flow}",
        f"{' and '.join(roles.codec)}: {_gb(codec)} in float32, {place}{_tricks(options)}",
        f"{' and '.join(roles.text)}: {_gb(text)} in {options.dtype}, {_TEXT[options.text]}",
        f"weights on the device: {_gb(staying)}, at most {_gb(staying + visiting)} at a time; activations come on top",
    )


def _size(parts: Parts, names: tuple[str, ...]) -> int:
    return sum(parts.count([name]) * parts.dtype(name).itemsize for name in names)


def _tricks(options: ModelOptions) -> str:
    chosen = [name for name in ("tiling", "slicing") if getattr(options, name)]
    return "".join(f", {name}" for name in (*chosen, f"{options.chunk} at a time"))


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
