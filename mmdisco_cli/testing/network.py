"""Block network access of the process within a block, and report attempts."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CALLS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname")
_PROCESSES = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")
"""What would run where nobody listens."""
_attempts: list[str] = []
_guarding = [0]
_alone = [0]


@contextmanager
def no_other_process() -> Iterator[None]:
    """Also refuse to start processes, whose network access `no_network` could not see; use it within that."""
    _alone[0] += 1
    try:
        yield
    finally:
        _alone[0] -= 1


@contextmanager
def no_network() -> Iterator[None]:
    """Refuse every connection and host look-up, and raise at the end even where the error was caught inside.

    Raises:
        AssertionError: something inside tried.
    """
    _install()
    _attempts.clear()
    _guarding[0] += 1
    try:
        yield
    finally:
        _guarding[0] -= 1
    if _attempts:
        raise AssertionError(f"the network was used, or another process started: {_attempts[0]}")


def _install(done: list[bool] = []) -> None:  # noqa: B006 - it remembers: an audit hook can never be removed
    if not done:
        sys.addaudithook(_audit)
        done.append(True)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _guarding[0] and _alone[0] and event in _PROCESSES:
        _attempts.append(f"{event} {arguments[0]}")
        raise PermissionError("no other process within a conformance check")
    if not _guarding[0] or event not in _CALLS or _is_local(event, arguments):
        return
    _attempts.append(f"{event} {arguments[-1] if event in _CALLS[:3] else arguments[0]}")
    raise ConnectionError("no network within a conformance check")


def _is_local(event: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether a socket is a Unix domain socket, which loggers and worker pools use."""
    return event in _CALLS[:3] and not isinstance(arguments[-1], tuple)
