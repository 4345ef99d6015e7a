"""Two processes under torchrun fit what one process fits that averages over both their batches."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from tiny_runs import load, start, weights
from torch import Tensor

from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.training.discriminator_job import discriminator_job
from mmdisco_cli.training.discriminator_run import discriminator_loss
from mmdisco_cli.training.loop import fit, step_generator
from mmdisco_cli.training.metrics import MetricsLog, read_rows
from mmdisco_cli.training.signals import StopFlag
from mmdisco_cli.training.tuples import real_tuples
from mmdisco_cli.weights_file import read_about

CPU = torch.device("cpu")
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
    assert [row["step"] for row in read_rows(out / "metrics.jsonl")] == [5, 10, 12]
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
    job, config, alone, stop = discriminator_job(recipe, CPU, Ranks()), recipe.train, Ranks(), StopFlag(CPU)
    begin = {name: p.detach().clone() for name, p in job.module.named_parameters()}
    real = real_tuples(job.assembly, job.dataset.split("train"), config.bank, folder / "bank", alone, stop, _silent)
    half = discriminator_loss(
        job.module, job.pairing, real, None, recipe.sample.window, config, config.batch_size // 2, CPU
    )
    steps = iter(range(config.steps))

    def both(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        step = next(steps)
        losses = [half(step_generator(config.seed, rank, step))[0] for rank in (0, 1)]
        return torch.stack(losses).mean(), {}

    log = MetricsLog(folder / "one.jsonl", "one", config.log_every)
    fit(job.module, both, config, folder / "one", steps=config.steps, fingerprint="", stop=stop, ranks=alone, log=log)
    return begin, {name: p.detach() for name, p in job.module.named_parameters()}


def _silent(title: str) -> Callable[[int, int], None]:
    return lambda done, total: None


def test_the_shares_of_a_bank_are_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdisco_cli.data.bank.SHARD", 5)
    from mmdisco_cli.data.bank import latent_bank, make_shards

    class Numbers:
        length, fingerprint = None, "numbers"

        def media(self, indices, modalities):  # type: ignore[no-untyped-def]
            return {m: torch.tensor(list(indices), dtype=torch.float32)[:, None] for m in modalities}

    made: list[int] = []
    for rank in (0, 1, 2):
        make_shards(Numbers(), "x", 23, lambda x: made.append(len(x)) or x, "codec", tmp_path, share=(rank, 3))  # type: ignore[func-returns-value]
    assert sum(made) == 23
    assert len(list(tmp_path.rglob("*.safetensors"))) == math.ceil(23 / 5)
    bank = latent_bank(Numbers(), "x", 23, lambda x: pytest.fail("made again"), "codec", tmp_path)
    assert bank[:, 0].tolist() == list(range(23))
