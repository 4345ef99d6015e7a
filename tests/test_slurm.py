"""The scripts for Slurm in docs/clusters.md, run under stand-ins: tasks, a signal, queueing again."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "sampling"))
sys.path.insert(0, str(Path(__file__).parent / "training"))
from tiny_models import make_tiny
from tiny_runs import POINTS, STAGE

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "mmdisco_cli" / "docs" / "clusters.md").read_text()
ONE, ARRAY, NODES = re.findall(r"```bash\n(.*?)```", SECTION, flags=re.DOTALL)
MMDISCO = """#!/bin/bash
exec "$PYTHON" -m mmdisco_cli "$@"
"""
SCONTROL = """#!/bin/bash
if [ "$1 $2" = "show hostnames" ]; then printf 'localhost\\nother\\n'; else echo "$@" >> "$STUBS/scontrol.log"; fi
"""
SRUN = '''#!/usr/bin/env python3
"""Start a command SLURM_NTASKS times, as srun does; return the highest of the codes that they end with."""

import os, signal, subprocess, sys, time
from pathlib import Path

command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
count = int(os.environ.get("SLURM_NTASKS", 1))
tasks = [
    subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(k), "SLURM_LOCALID": "0"}) for k in range(count)
]
metrics = Path(os.environ["OUT"], "metrics.jsonl")
if lines := int(os.environ.get("SIGNAL_AFTER", 0)):
    while all(task.poll() is None for task in tasks):
        if metrics.exists() and metrics.read_text().count("\\n") >= lines:
            for task in tasks:
                task.send_signal(signal.SIGUSR1)
            break
        time.sleep(0.02)
sys.exit(max(128 - code if code < 0 else code for code in [task.wait() for task in tasks]))
'''


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("mmdisco", MMDISCO), ("scontrol", SCONTROL), ("srun", SRUN)):
        (folder / name).write_text(text.replace("/usr/bin/env python3", sys.executable))
        (folder / name).chmod(0o755)
    return folder


def submit(script: str, stubs: Path, recipe: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script as sbatch would, with what the page exports."""
    path = stubs / "script.sh"
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    own = {"PATH": f"{stubs}:{os.environ['PATH']}", "PYTHON": sys.executable, "STUBS": str(stubs)}
    given = {"RECIPE": str(recipe), "OUT": str(stubs.parent / "out"), "SLURM_JOB_ID": str(20000 + os.getpid() % 20000)}
    return subprocess.run(
        [str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **own, **given, **environment},
        cwd=stubs.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )


def samples(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.mp4"))


def test_every_script_asks_for_its_resources_and_names_its_shell() -> None:
    for script in (ONE, ARRAY, NODES):
        assert script.startswith("#!/bin/bash\n#SBATCH --job-name=")
        checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr
    assert "--signal=USR1@120" in NODES
    assert "--requeue" in NODES


@pytest.mark.slow
def test_one_gpu_and_an_array_make_the_same_samples(stubs: Path, tmp_path: Path) -> None:
    recipe = make_tiny(tmp_path)
    shorter = {script: re.sub(r"--n \d+", "--n 3", script) for script in (ONE, ARRAY)}
    done = submit(shorter[ONE], stubs, recipe, OUT=str(tmp_path / "one"))
    assert done.returncode == 0, done.stderr
    for task in ("0", "1"):
        array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"}
        done = submit(shorter[ARRAY], stubs, recipe, OUT=str(tmp_path / "array"), **array)
        assert done.returncode == 0, done.stderr
    assert len(samples(tmp_path / "one")) == 3
    assert samples(tmp_path / "array") == samples(tmp_path / "one")


@pytest.mark.slow
def test_training_on_nodes_is_signalled_requeued_and_finished(stubs: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "points.yaml", tmp_path / "out"
    recipe.write_text(POINTS.replace("steps: 30,", "steps: 250,"))
    nodes = {"SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
    done = submit(NODES, stubs, recipe, SIGNAL_AFTER="4", **nodes)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("stopped by SIGUSR1 at step") == 2, done.stderr
    (requested,) = (stubs / "scontrol.log").read_text().splitlines()
    assert requested.startswith("requeue 2") or requested.startswith("requeue 3")
    step = torch.load(out / STAGE["points"] / "state.pt", weights_only=True)["step"]
    assert 20 <= step < 250
    done = submit(NODES, stubs, recipe, **nodes)
    assert done.returncode == 0, done.stderr
    assert (out / "discriminator.safetensors").exists()
    assert len((stubs / "scontrol.log").read_text().splitlines()) == 1  # what is finished does not queue again
