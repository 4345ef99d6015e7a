"""Two nodes, each with an agent of torchrun and a working directory of its own, and one run folder that both see."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import load, start, weights

from mmdisco_cli.training.metrics import read_rows

WORKER = """
import os, signal, sys
from pathlib import Path
from mmdisco_cli.app import run
from mmdisco_cli.run import shared
from mmdisco_cli.training.metrics import MetricsLog

shared.PATIENCE = 2.0
rank = int(os.environ["RANK"])
Path(os.environ["HERE"], f"pid.{rank}").write_text(str(os.getpid()))
write = MetricsLog.write

def fatal(self, now, steps, figures):
    write(self, now, steps, figures)
    if rank == 1 and str(now) == os.environ.get("DIES_AT"):
        os.kill(os.getpid(), signal.SIGKILL)

MetricsLog.write = fatal
sys.exit(run(sys.argv[1:]))
"""
"""The command, which notes its process, and whose rank 1 may kill itself after a step."""
STEPS = 400
SETTINGS = {"bank": 600, "fakes": "generated", "steps": STEPS, "accumulate": 2}
"""More clips and fakes than one shard, so that both ranks make some."""


class Nodes:
    """Two agents of torchrun on this machine, and their workers."""

    def __init__(self, folder: Path, out: Path, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]
        self.folder, self.out, self.environment = folder, out, environment
        for name in ("pid.0", "pid.1"):
            (folder / name).unlink(missing_ok=True)
        self.agents = [self._agent(name) for name in ("one", "two")]

    def _agent(self, name: str) -> "subprocess.Popen[str]":
        place = self.folder / name
        place.mkdir(exist_ok=True)
        (place / "worker.py").write_text(WORKER)
        options = [f"--set=train.{key}={value}" for key, value in SETTINGS.items()]
        return start(
            "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", f"localhost:{self.port}", "--rdzv-id", "nodes", "-m", "--",
            "worker", "train", "--recipe", str(self.folder / "points.yaml"), *options, "--out", str(self.out),
            cwd=place, HERE=str(self.folder), **self.environment,
        )  # fmt: skip

    def when(self, step: int) -> None:
        """Wait until the run has logged a step."""
        while all(agent.poll() is None for agent in self.agents) and _logged(self.out) < step:
            time.sleep(0.02)

    def worker(self, rank: int) -> int:
        return int((self.folder / f"pid.{rank}").read_text())

    def end(self) -> tuple[list[int], str]:
        """Return the agents' exit codes and all that was said."""
        try:
            said = [agent.communicate(timeout=300)[1] for agent in self.agents]
        finally:
            for agent in self.agents:
                agent.kill()
        return [agent.returncode for agent in self.agents], "\n".join(said)


def _logged(out: Path) -> int:
    return max((row["step"] for row in read_rows(out / "metrics.jsonl")), default=0)


def _state_step(out: Path) -> int:
    return int(torch.load(out / "discriminator" / "state.pt", weights_only=True)["step"])


@pytest.mark.slow
def test_two_nodes_are_killed_and_stopped_and_end_in_the_same_weights(tmp_path: Path) -> None:
    load(tmp_path)
    whole, disturbed = tmp_path / "whole", tmp_path / "disturbed"
    codes, said = Nodes(tmp_path, whole).end()
    assert codes == [0, 0], said
    assert len(list((whole / "bank").rglob("*.safetensors"))) >= 4

    codes, said = Nodes(tmp_path, disturbed, DIES_AT="23").end()
    assert 0 not in codes
    assert "another rank has ended" in said
    assert _state_step(disturbed) == 20

    nodes = Nodes(tmp_path, disturbed)
    nodes.when(100)
    for agent in nodes.agents:
        agent.send_signal(signal.SIGTERM)  # handed on to the workers
    codes, said = nodes.end()
    assert 0 not in codes
    assert said.count("stopped by SIGTERM at step") == 2, said
    stopped = _state_step(disturbed)
    assert 100 <= stopped < STEPS

    nodes = Nodes(tmp_path, disturbed)
    nodes.when(stopped + 50)
    os.kill(nodes.worker(1), signal.SIGUSR1)
    codes, said = nodes.end()
    assert 0 not in codes
    assert "stopped by SIGUSR1 at step" in said
    assert "stopped by another rank at step" in said
    assert "exitcode  : 75" in said  # of the agent that ends first: the other may lose its place to meet
    assert stopped < _state_step(disturbed) < STEPS

    codes, said = Nodes(tmp_path, disturbed).end()
    assert codes == [0, 0], said
    torch.testing.assert_close(weights(disturbed), weights(whole), rtol=0, atol=0)
    assert read_rows(disturbed / "metrics.jsonl") == read_rows(whole / "metrics.jsonl")


@pytest.mark.slow
def test_nodes_that_do_not_share_the_run_folder_say_so(tmp_path: Path) -> None:
    """A path relative to working directories that differ names two folders."""
    load(tmp_path)
    nodes = Nodes(tmp_path, Path("out"))
    codes, said = nodes.end()
    assert codes == [1, 1], said
    lines = [line for line in said.splitlines() if "cannot see what rank 0 writes there" in line]
    assert len(lines) == 2
    assert all(": rank 1 of 2 cannot" in line for line in lines)
    assert said.count("exitcode  : 4") == 2, said
    assert not list(tmp_path.glob("*/out/*"))
