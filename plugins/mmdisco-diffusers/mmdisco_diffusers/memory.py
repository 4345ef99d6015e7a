"""The memory that a model will take, and where, from the sizes of its files."""

from collections.abc import Mapping

from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles

_TEXT = {
    "keep": "stay on {}",
    "cpu": "wait in main memory and visit {} for new prompts",
    "free": "are freed once the prompts are encoded, and loaded again for new ones",
}


def memory_lines(parts: Parts, roles: Roles, options: ModelOptions) -> tuple[str, ...]:
    """Return a line for each group of parts, with the size of its weights and its device, and one for each device."""
    streamed, visits = options.offload == "group", options.offload != "none"
    named = {role: getattr(roles, role) for role in ("denoiser", "codec", "text")}
    sizes = {role: _size(parts, names) for role, names in named.items()}
    # Parts from other folders without a role, as a motion adapter, are built into the denoiser, in its dtype.
    beside = [name for name in parts.elsewhere if name not in roles.all]
    sizes["denoiser"] += parts.count(beside) * parts.dtype(roles.denoiser[0]).itemsize
    place = {role: options.devices.get(role, "the device") for role in sizes}
    stays = {"denoiser": not streamed, "codec": not visits, "text": options.text == "keep"}
    passing = {
        "denoiser": "is streamed to {} block by block",
        "codec": "visits {}",
        "text": _TEXT[options.text],
    }
    where = {role: ("stays on {}" if stays[role] else passing[role]).format(place[role]) for role in sizes}
    named["denoiser"] = (*named["denoiser"], *beside)
    names = {role: " and ".join(name for name in named[role] if parts.has(name)) for role in named}
    return (
        f"{names['denoiser']}: {_gb(sizes['denoiser'])} in {options.dtype}, {where['denoiser']}",
        f"{names['codec']}: {_gb(sizes['codec'])} in float32, {where['codec']}{_tricks(options)}",
        f"{names['text']}: {_gb(sizes['text'])} in {options.dtype}, {where['text']}",
        *(_total(device, sizes, place, stays) for device in dict.fromkeys(place.values())),
    )


def _total(device: str, sizes: Mapping[str, int], place: Mapping[str, str], stays: Mapping[str, bool]) -> str:
    """Return a line with the weights that stay on one device, and the most at any time."""
    here = [role for role in sizes if place[role] == device]
    staying = sum(sizes[role] for role in here if stays[role])
    visiting = max((sizes[role] for role in here if not stays[role] and role != "denoiser"), default=0)
    return f"weights on {device}: {_gb(staying)}, at most {_gb(staying + visiting)} at a time; activations come on top"


def _size(parts: Parts, names: tuple[str, ...]) -> int:
    return sum(parts.count([name]) * parts.dtype(name).itemsize for name in names)


def _tricks(options: ModelOptions) -> str:
    chosen = [name for name in ("tiling", "slicing") if getattr(options, name)]
    return "".join(f", {name}" for name in (*chosen, f"{options.chunk} at a time"))


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
