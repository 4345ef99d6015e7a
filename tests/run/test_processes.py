"""Processes that work for this one leave signals to it, but end when it says so."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
from waiting_workers import wait_for_signals

# A signal of another process: that of a cluster goes to every process of a job.
OTHERS = "import os, sys; os.kill(int(sys.argv[1]), int(sys.argv[2]))"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells who sent a signal")
def test_a_worker_ends_by_its_parent_only() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=wait_for_signals, args=(theirs,))
    worker.start()
    try:
        assert ours.recv()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            subprocess.run([sys.executable, "-c", OTHERS, str(worker.pid), str(int(number))], check=True)
        os.kill(worker.pid or 0, signal.SIGINT)  # as a terminal sends it to all
        worker.join(1)
        assert worker.is_alive()
        worker.terminate()
        worker.join(60)
        assert worker.exitcode == 143
    finally:
        worker.kill()
