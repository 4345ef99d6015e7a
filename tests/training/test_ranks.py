"""Two processes under torchrun fit what one process fits that averages over both their batches."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tiny_runs import alone, load, start, weights
from torch import Tensor

from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.data import real_tuples
from mmdisco_cli.training.discriminator import discriminator_job, discriminator_loss
from mmdisco_cli.training.loop import fit, step_generator
from mmdisco_cli.training.metrics import read_rows
from mmdisco_cli.weights_file import read_about

LEAVE = """
import sys, weakref, torch
from mmdisco_cli.run.distribution import any_rank, joined_ranks
try:
    with joined_ranks(torch.device("cpu")) as ranks:
        group = weakref.ref(torch.distributed.group.WORLD)
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
        any_rank(False, ranks, torch.device("cpu"))
        if "fail" in sys.argv:
            raise KeyError
except KeyError:
    pass
sys.exit(group() is not None)
"""


@pytest.mark.slow
def test_two_ranks_are_one_fit(tmp_path: Path) -> None:
    settings = {"bank": 24, "steps": 12, "warmup": 0}
    recipe = load(tmp_path, **settings)
    options = [f"--set=train.{key}={value}" for key, value in settings.items()]
    command = (
        "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--",
        "mmdisco_cli", "train", "--recipe", "points.yaml", *options, "--out", "out", "--json",
    )  # fmt: skip
    with start(*command, cwd=tmp_path) as process:
        output, messages = process.communicate(timeout=600)
    assert process.returncode == 0, messages
    assert len(output.splitlines()) == 1
    out = tmp_path / "out"
    assert read_about(out / "discriminator.safetensors", "discriminator")["steps"] == 12
    assert [row["step"] for row in read_rows(out / "metrics.jsonl")] == [5, 10, 12, 12]  # the last of held-out clips
    begin, end = _one_process(recipe, tmp_path)
    # By distance moved, not weight by weight: Adam turns a gradient that is nothing but rounding into a step.
    assert _distance(weights(out), end) < 0.01 * _distance(begin, end)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "fail"])
def test_no_process_group_outlives_its_block(how: str, tmp_path: Path) -> None:
    """Its threads would race with the end of the interpreter, which now and then aborts the process."""
    (tmp_path / "leave.py").write_text(LEAVE)
    with start(
        "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "leave.py", how, cwd=tmp_path
    ) as process:
        assert process.wait(timeout=300) == 0


def _distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((ours[name] - x).square().sum()) for name, x in theirs.items()))


def _one_process(recipe: Recipe, folder: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the weights before and after one process averaged the losses of both ranks' batches."""
    context, config = alone(recipe, folder / "one"), recipe.train
    job = discriminator_job(context)
    begin = {name: p.detach().clone() for name, p in job.module.named_parameters()}
    real = real_tuples(job.assembly, job.dataset.split("train"), config.bank, context)
    half = discriminator_loss(job.module, job.assembly, recipe, real, None, config.batch_size // 2)
    steps = iter(range(config.steps))

    def both(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        step = next(steps)
        losses = [half(step_generator(config.seed, rank, step))[0] for rank in (0, 1)]
        return torch.stack(losses).mean(), {}

    fit(job.module, both, context, "one", config.steps)
    return begin, {name: p.detach() for name, p in job.module.named_parameters()}
