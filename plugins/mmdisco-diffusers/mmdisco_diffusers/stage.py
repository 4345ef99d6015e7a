"""Who is on the device when: the denoiser for good, text encoders and codec while they work."""

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
"""What may have a device of its own, as `Roles` has them."""
PREDICTING = ("betas", "told_fps", "told_scale", "mismatch", "padded", "normalise")
"""Options that change what a model says, its levels or its latents: nothing trained under others fits."""
SAMPLING = ("clean_end", "full", "dtype", "tiling", "modality_scale", "stg_blocks", "stg_scale", "rescale")
"""Options that change a sample all the same."""


class Stage:
    """The parts of one model, each where its recipe wants it."""

    def __init__(self, parts: Parts, roles: Roles, options: ModelOptions) -> None:
        self.parts, self.roles, self.options = parts, roles, options
        self.device = torch.device("cpu")
        self._own = {role: _device(role, name) for role, name in options.devices.items()}
        self._ready: set[str] = set()
        if options.tiling or options.slicing:
            # Tried on one without weights: what it cannot do would be known only after all steps.
            _cut_up(parts.empty(roles.codec[0]), options)

    def fingerprint(self) -> str:
        """Return what names the weights and options that predictions, latents and levels depend on."""
        beside = (name for name in self.parts.elsewhere if name not in self.roles.all)
        places = (self.parts.place(name) for name in (*self.roles.named, *beside))
        weights = name_weights((place for place in places if place.is_dir()), self.parts.folder / "model_index.json")
        told = _chosen(self.options, PREDICTING)
        return hashlib.sha256(f"{weights}: {told}".encode()).hexdigest()[:16] if told else weights

    def variant(self) -> str:
        """Name the options and the weights besides that a sample depends on."""
        return ", ".join(told for told in (_chosen(self.options, SAMPLING), self._waking) if told)

    @cached_property
    def _waking(self) -> str:
        """Name the weights that wake latents to media and are in no fingerprint: those of a vocoder."""
        names = (name for name in self.roles.codec if name not in self.roles.named and self.parts.has(name))
        return ", ".join(f"{name} {name_weights([self.parts.place(name)])}" for name in names)

    def parameters(self) -> int:
        """Return how many weights the model has, read from its files."""
        return self.parts.count(dict.fromkeys((*self.roles.all, *self.parts.elsewhere)))

    def memory(self) -> tuple[str, ...]:
        """Say what will lie where, read from the files."""
        return memory_lines(self.parts, self.roles, self.options)

    def to(self, device: torch.device) -> None:
        """Choose the device that parts go to when they are first needed."""
        self.device = device
        self._ready.clear()

    def at(self, role: str) -> torch.device:
        """Return where the denoiser, the codec or the text works."""
        return self._own.get(role, self.device)

    def settle(self) -> None:
        """Put the denoiser where it works, once."""
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
        """Have the text encoders on the device; where the recipe lets go of them, they are loaded anew each time."""
        with torch.no_grad(), self._visiting(self.roles.text, self.at("text"), self.options.text != "keep"):
            yield
        if self.options.text == "free":
            self.parts.drop(self.roles.text)

    def through_codec(self, work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return what work makes of x (B, ...), a chunk at a time, with the codec on its device."""
        there = self.at("codec")
        with torch.no_grad(), self._visiting(self.roles.codec, there, self.options.offload != "none"):
            self._prepare_codec()
            chunks = x.float().split(self.options.chunk)
            return torch.cat([work(chunk.to(there)).to(x.device) for chunk in chunks])

    @contextmanager
    def _visiting(self, names: tuple[str, ...], device: torch.device, leave: bool) -> Iterator[None]:
        """Have parts on a device for a while, or from now on."""
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
    """Have a codec work in the pieces that a recipe wants; raise UsageError where it cannot."""
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
