"""The errors that users meet, and their exit codes."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the process; `mmdisco --help` and the README list them."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    PLUGIN = 3
    DATA = 4
    DEVICE = 5
    STOPPED = 75
    INTERRUPTED = 130
    UNREAD = 141


EXIT_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "unexpected error",
    ExitCode.USAGE: "wrong usage or recipe",
    ExitCode.PLUGIN: "plugin failed or missing",
    ExitCode.DATA: "bad data, checkpoint or output",
    ExitCode.DEVICE: "device or memory",
    ExitCode.STOPPED: "stopped on a signal with its state saved: run it again",
    ExitCode.INTERRUPTED: "Ctrl-C",
    ExitCode.UNREAD: "the reader of the results went away",
}


class MMDiscoError(Exception):
    """An error whose message says what to do, one line for each problem; printed without a traceback."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNEXPECTED


class UsageError(MMDiscoError):
    """A wrong option, recipe or override."""

    exit_code = ExitCode.USAGE


class PluginError(MMDiscoError):
    """A plugin that failed, or a name that no plugin provides."""

    exit_code = ExitCode.PLUGIN


class DataError(MMDiscoError):
    """Unusable media, data set, checkpoint or output directory."""

    exit_code = ExitCode.DATA


class DeviceError(MMDiscoError):
    """A device that is absent, or too small."""

    exit_code = ExitCode.DEVICE


class Stopped(MMDiscoError):  # noqa: N818 - no failure: the state is saved and the same command resumes
    """A signal ended the work at a step boundary, after the state was saved."""

    exit_code = ExitCode.STOPPED


class Unread(MMDiscoError):  # noqa: N818 - as with SIGPIPE, there is no failure to report
    """Standard output is a pipe whose reader has ended."""

    exit_code = ExitCode.UNREAD


# Errors of the file system that the user, not the program, has to resolve.
_DATA_ERRNOS = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST),
        *(errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
    }
)
# Matched by name, so that reporting an error never has to import torch.
_DEVICE_CLASSES = frozenset({"OutOfMemoryError", "AcceleratorError", "DeferredCudaCallError", "MemoryError"})
_DEVICE_PHRASES = ("CUDA", "cuDNN", "CUBLAS", "NCCL", "MPS backend", "can't allocate memory")


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code of any exception."""
    if isinstance(error, MMDiscoError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, OSError) and error.errno in _DATA_ERRNOS:
        return ExitCode.DATA
    if _is_device_error(error):
        return ExitCode.DEVICE
    return ExitCode.UNEXPECTED


def describe(error: BaseException) -> str:
    """Return an error's message, one line for each problem, without a traceback."""
    if isinstance(error, MMDiscoError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command resumes from what it has saved"
    if isinstance(error, OSError) and error.strerror:
        # A file name may contain a line break, which would split the error in two.
        name = "" if error.filename is None else f"{error.filename}: ".replace("\n", "\\n")
        return f"{name}{error.strerror}"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _is_device_error(error: BaseException) -> bool:
    if any(cls.__name__ in _DEVICE_CLASSES for cls in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError | AssertionError) and any(text in str(error) for text in _DEVICE_PHRASES)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return close matches in parentheses with a leading space, or all known names where these are few."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""
