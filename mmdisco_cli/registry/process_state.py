"""What all recipes of a process share and no plugin may change for the others: torch's defaults and the like.

Imports neither torch nor NumPy: what is not loaded has no state yet. Environment variables, logging and filters of
warnings are left alone: plugins set them for the libraries that they bring, and no sample hangs on them.
"""

import contextlib
import locale
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
]
_UNKNOWN = object()
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """One thing that a process has once; `fresh` is what its library begins with, `drawn` that building may move it."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    fresh: Any = _UNKNOWN
    drawn: bool = False


@contextlib.contextmanager
def undisturbed(report: Callable[[list[str]], None], *, draws: bool = False) -> Iterator[None]:
    """Set back what the block changes, however it ends, and `report` the names; `draws` allows for random numbers."""
    before = _values()
    try:
        yield
    finally:
        settings = [setting for setting in _settings() if not (draws and setting.drawn)]
        # What was loaded in the block began as its library begins.
        begun = {setting.name: setting.fresh for setting in settings}
        if changed := [setting.name for setting in settings if _set_back(setting, {**begun, **before})]:
            report(changed)


def _set_back(setting: Setting, before: Values) -> bool:
    """Return whether a setting was changed, and is as before again."""
    wanted = before.get(setting.name, _UNKNOWN)
    with contextlib.suppress(Exception):  # what cannot be read, or set back, must not hide what the block raised
        if wanted is not _UNKNOWN and setting.read() != wanted:
            setting.write(wanted)
            return True
    return False


def _values() -> Values:
    found = {}
    for setting in _settings():
        with contextlib.suppress(Exception):
            found[setting.name] = setting.read()
    return found


def _settings() -> list[Setting]:
    settings = [
        Setting("the working directory", os.getcwd, os.chdir),
        Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda v: locale.setlocale(locale.LC_ALL, v)),
        Setting("handlers of signals", _handlers, _handle),
    ]
    if numpy := sys.modules.get("numpy"):
        warned = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
        settings.append(Setting("numpy's way with errors", numpy.geterr, lambda v: numpy.seterr(**v), warned))
    if torch := sys.modules.get("torch"):
        with contextlib.suppress(AttributeError):  # a stand-in for torch has no such state
            settings += _of_torch(torch)
    return settings


def _of_torch(torch: Any) -> list[Setting]:
    cudnn = torch.backends.cudnn

    def deterministic() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()

    def determine(value: tuple[bool, bool]) -> None:
        torch.use_deterministic_algorithms(value[0], warn_only=value[1])

    def cudnn_flags() -> tuple[bool, bool]:
        return cudnn.benchmark, cudnn.deterministic

    def set_cudnn_flags(value: tuple[bool, bool]) -> None:
        cudnn.benchmark, cudnn.deterministic = value

    def set_device(name: str) -> None:
        torch.set_default_device(None if name == "cpu" else name)  # a device set by name slows every call

    def random() -> bytes:
        return bytes(torch.get_rng_state().numpy().tobytes())

    def set_random(state: bytes) -> None:
        torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))

    precision = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    # Device and dtype first, for the others make tensors.
    return [
        Setting("torch's default device", lambda: str(torch.get_default_device()), set_device, "cpu"),
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        Setting("torch's grad mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
        Setting("torch's deterministic algorithms", deterministic, determine, (False, False)),
        Setting("torch's threads", torch.get_num_threads, torch.set_num_threads),
        Setting("torch's precision of matrix products", *precision, "highest"),
        Setting("torch's choice of convolutions", cudnn_flags, set_cudnn_flags, (False, False)),
        Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled, False),
        Setting("torch's random numbers", random, set_random, drawn=True),  # which begin anywhere
    ]


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _handle(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
