"""A signal only raises a flag, and only for as long as somebody listens; elsewhere it ends the command with 75."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mmdisco_cli
from mmdisco_cli import app
from mmdisco_cli.errors import ExitCode, Stopped
from mmdisco_cli.run.signals import STOPPING, SignalFlag

pytestmark = pytest.mark.usefixtures("hangup_counts")

POINTS = """
data: {name: gaussians}
backbones: {x: {name: gaussian-mixture}, y: {name: gaussian-mixture}}
discriminator: {name: mlp, width: 16, depth: 1}
train: {steps: 100000, batch_size: 8, checkpoint_every: 100000, log_every: 5}
"""


def test_what_stops() -> None:
    assert {number.name for number in STOPPING} == {"SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"}


def test_a_signal_raises_the_flag_and_the_old_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    for number in STOPPING:
        with SignalFlag().listening() as flag:
            assert flag.name == ""
            os.kill(os.getpid(), number)
            assert flag.name == number.name
    assert [signal.getsignal(number) for number in STOPPING] == before


@pytest.mark.parametrize(("number", "who"), [(None, "another rank"), (signal.SIGTERM, "SIGTERM")])
def test_leaving_names_the_signal_and_where_the_work_stands(number: int | None, who: str) -> None:
    flag = SignalFlag()
    if number is not None:
        flag.set(number)
    assert flag.received == (number is not None)
    with pytest.raises(
        Stopped, match=f"^stopped by {who} while encoding video, state saved; run the same command again"
    ):
        flag.leave("while encoding video")


@pytest.fixture
def nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_that_is_ignored_stays_ignored(nohup: None) -> None:
    with SignalFlag().listening() as flag:
        os.kill(os.getpid(), signal.SIGHUP)
        assert flag.name == ""
        os.kill(os.getpid(), signal.SIGUSR2)
        assert flag.name == "SIGUSR2"


def test_another_thread_may_listen_in_vain() -> None:
    names = []

    def work() -> None:
        with SignalFlag().listening() as flag:
            names.append(flag.name)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert names == [""]


@pytest.mark.parametrize("number", STOPPING)
def test_a_command_that_reads_no_flag_ends_with_75(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the middle of an evaluation: no `except Exception` takes it for the fault of a clip."""
    cleared = []

    def work(*arguments: object) -> None:
        try:
            os.kill(os.getpid(), number)
        except Exception:
            cleared.append("taken for a fault")
        finally:
            os.kill(os.getpid(), number)  # while the first one is being cleared up
            cleared.append("cleared")

    monkeypatch.setattr("mmdisco_cli.evaluation.run.evaluate", work)
    before = signal.getsignal(number)
    assert app.run(["eval", "--recipe", "gaussians"]) == ExitCode.STOPPED
    assert cleared == ["cleared"]
    assert capsys.readouterr().err == f"error: stopped by {number.name}; run the same command again\n"
    assert signal.getsignal(number) == before


def _in_its_terminal(folder: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """Begin a training that a terminal belongs to; return it with the terminal's other end."""
    (folder / "r.yaml").write_text(POINTS)
    ours, theirs = pty.openpty()

    def own() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    source = str(Path(mmdisco_cli.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "mmdisco_cli", "train", "--recipe", "r.yaml", "--out", "out"],
        cwd=folder, env={**os.environ, "PYTHONPATH": source}, stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=own,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def _wait_for(path: Path, lines: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and (not path.exists() or path.read_text().count("\n") < lines):
        time.sleep(0.05)
    assert path.exists()


@pytest.mark.slow
def test_a_closed_terminal_saves_and_ends_with_75(tmp_path: Path) -> None:
    process, terminal = _in_its_terminal(tmp_path)
    try:
        _wait_for(tmp_path / "out/metrics.jsonl", 3)
        os.close(terminal)
        assert process.wait(120) == ExitCode.STOPPED
    finally:
        process.kill()
    assert torch.load(tmp_path / "out/discriminator/state.pt", weights_only=True)["step"] >= 15
