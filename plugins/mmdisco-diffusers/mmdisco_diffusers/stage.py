"""Placement of a model's parts: the denoiser stays on the device, text encoders and codec visit it while they work."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.devices import choose_device
from mmdisco_cli.errors import DeviceError, UsageError, did_you_mean
from mmdisco_diffusers.memory import memory_lines
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.weights_on_disk import name_weights

ROLES = ("denoiser", "codec", "text")
"""Roles that may have a device of their own, as in `Roles`."""
PREDICTING = ("betas", "conditioning_fps", "embedded_guidance_scale", "mismatch", "padded", "normalise")
"""Options that change predictions, levels or latents: a discriminator trained with others does not fit."""
SAMPLING = ("clean_end", "full", "dtype", "tiling", "modality_scale", "stg_blocks", "stg_scale", "rescale")
"""Options that change only samples."""


class Stage:
    """The parts of one model, each on the device that the recipe gives."""

    def __init__(self, parts: Parts, roles: Roles, options: ModelOptions) -> None:
        self.parts, self.roles, self.options = parts, roles, options
        self.device = torch.device("cpu")
        self._own = {role: _device(role, name) for role, name in options.devices.items()}
        self._ready: set[str] = set()
        if options.tiling or options.slicing:
            # Tried on a codec without weights: otherwise the error would come only after sampling.
            _cut_up(parts.empty(roles.codec[0]), options)

    def fingerprint(self) -> str:
        """Return a hash of the weights and options that predictions, latents and levels depend on."""
        beside = (name for name in self.parts.elsewhere if name not in self.roles.all)
        places = (self.parts.place(name) for name in (*self.roles.named, *beside))
        weights = name_weights((place for place in places if place.is_dir()), self.parts.folder / "model_index.json")
        changed = _chosen(self.options, PREDICTING)
        return hashlib.sha256(f"{weights}: {changed}".encode()).hexdigest()[:16] if changed else weights

    def variant(self) -> str:
        """Name the further options and weights that only samples depend on."""
        return ", ".join(part for part in (_chosen(self.options, SAMPLING), self._decoding_only) if part)

    @cached_property
    def _decoding_only(self) -> str:
        """Name the weights that only decode and are in no fingerprint: those of a vocoder."""
        names = (name for name in self.roles.codec if name not in self.roles.named and self.parts.has(name))
        return ", ".join(f"{name} {name_weights([self.parts.place(name)])}" for name in names)

    def parameters(self) -> int:
        """Return how many weights the model has, read from its files."""
        return self.parts.count(dict.fromkeys((*self.roles.all, *self.parts.elsewhere)))

    def memory(self) -> tuple[str, ...]:
        """Return lines on the memory that each part will take and where, from the sizes of the files."""
        return memory_lines(self.parts, self.roles, self.options)

    def to(self, device: torch.device) -> None:
        """Choose the device that parts go to when they are first needed."""
        self.device = device
        self._ready.clear()

    def release(self, roles: Sequence[str]) -> None:
        """Free the parts of some roles, `codec` or `text`; they are loaded again where they are used again."""
        for role in roles:
            names = [name for name in getattr(self.roles, role) if name not in self.roles.denoiser]
            self.parts.drop(names)
            self._ready.difference_update(names)

    def at(self, role: str) -> torch.device:
        """Return the device of the denoiser, the codec or the text encoders."""
        return self._own.get(role, self.device)

    def settle(self) -> None:
        """Move the denoiser to its device, once."""
        for name in self.roles.denoiser:
            if name in self._ready or not self.parts.has(name):
                continue
            part, device = self.parts.get(name), self.at("denoiser")
            if self.options.offload == "group":
                cpu = torch.device("cpu")
                part.enable_group_offload(device, cpu, offload_type="block_level", num_blocks_per_group=1)
            else:
                part.to(device)
            self._ready.add(name)

    @contextmanager
    def text(self) -> Iterator[None]:
        """Have the text encoders on their device inside the block; `text: free` loads them again each time."""
        with torch.no_grad(), self._visiting(self.roles.text, self.at("text"), self.options.text != "keep"):
            yield
        if self.options.text == "free":
            self.parts.drop(self.roles.text)

    def through_codec(self, work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return work(x) for x (B, ...), a chunk at a time, with the codec on its device."""
        there = self.at("codec")
        with torch.no_grad(), self._visiting(self.roles.codec, there, self.options.offload != "none"):
            self._prepare_codec()
            chunks = x.float().split(self.options.chunk)
            return torch.cat([work(chunk.to(there)).to(x.device) for chunk in chunks])

    @contextmanager
    def _visiting(self, names: tuple[str, ...], device: torch.device, leave: bool) -> Iterator[None]:
        """Move parts to a device, and with `leave` back to the CPU after the block."""
        modules = [part for name in names if self.parts.has(name) and hasattr(part := self.parts.get(name), "to")]
        for module in modules:
            module.to(device)
        try:
            yield
        finally:
            if leave and device.type != "cpu":
                for module in modules:
                    module.to("cpu")

    def _prepare_codec(self) -> None:
        name = self.roles.codec[0]
        if name in self._ready:
            return
        _cut_up(self.parts.get(name), self.options)
        self._ready.add(name)


def _cut_up(codec: Any, options: ModelOptions) -> None:
    """Enable tiling and slicing of a codec as the recipe says; raise UsageError where it cannot."""
    for trick in ("tiling", "slicing"):
        if getattr(options, trick):
            try:
                getattr(codec, f"enable_{trick}")()
            except (AttributeError, NotImplementedError) as error:
                raise UsageError(f"{trick}: a {type(codec).__name__} cannot do that") from error


def _chosen(options: ModelOptions, names: Sequence[str]) -> str:
    """Return the options of these names that are not at their defaults."""
    given = ((field.name, getattr(options, field.name), field.default) for field in fields(options))
    return ", ".join(f"{name} {value}" for name, value, default in given if name in names and value != default)


def _device(role: str, name: str) -> torch.device:
    """Return the device that a recipe gives to a role.

    Raises:
        UsageError: there is no such role or device.
        DeviceError: this machine has no such device.
    """
    if role not in ROLES:
        raise UsageError(f"devices: unknown {role!r}{did_you_mean(role, ROLES)}")
    try:
        return choose_device(name)
    except (UsageError, DeviceError) as error:
        raise type(error)(f"devices.{role}: {error}") from error
