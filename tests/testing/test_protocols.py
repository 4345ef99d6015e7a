"""`check_protocol` passes honest protocols and names the first broken promise of any other."""

import itertools
import math
import socket
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.protocol import Protocol, Ranks, Report
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.testing import check_protocol
from mmdisco_cli.toys.gaussians import protocol as gaussians
from mmdisco_cli.training.run import train

COUNT = itertools.count()
SMALL = ("train.steps=3", "train.batch_size=8", "sample.steps=4", "sample.window=[-20, 20]", "eval.n=8")


@pytest.fixture
def recipe():
    return recipes.load("gaussians", ["eval.n=4", "eval.seed=3"])


def measured(recipe, options, ranks):
    """Measure as an honest protocol does: it needs data, writes a plot, and measures what is wanted."""
    if recipe.data is None:
        raise UsageError("eval.protocol: levels needs data")
    if not ranks.first:
        return None
    plot = options.out / "plot.png"
    plot.write_bytes(b"")
    metrics = {"levels": {"real": recipe.data.options.levels, "by": [0.5, None]}, "steps": recipe.sample.steps}
    chosen = {name: metrics[name] for name in options.metrics or metrics}
    return Report(recipe.eval.n, chosen, {"seed": options.seed}, ["levels"], [plot])


def honest(evaluate=measured):
    return Protocol(("levels", "steps"), evaluate, takes_samples=False)


def found(change):
    """Return one whose report of the first rank is what `change` makes of an honest one."""

    def evaluate(recipe, options, ranks):
        report = measured(recipe, options, ranks)
        return None if report is None else change(report)

    return lambda: honest(evaluate)


def metrics(change):
    return found(lambda report: replace(report, metrics=change(report.metrics)))


def before(act):
    """Return one that does something first."""

    def evaluate(recipe, options, ranks):
        act(recipe, ranks)
        return measured(recipe, options, ranks)

    return lambda: honest(evaluate)


def ask_the_network():
    try:
        socket.getaddrinfo("example.invalid", 80)
    except OSError:
        return


def test_an_honest_protocol_passes(recipe, tmp_path):
    report = check_protocol(honest, recipe, tmp_path / "new")
    assert (report.n, report.metrics["steps"], report.protocol["seed"]) == (4, recipe.sample.steps, 3)


def test_one_whose_ranks_wait_for_one_another_passes(recipe, tmp_path):
    check_protocol(before(lambda recipe, ranks: ranks.first or dist.barrier()), recipe, tmp_path)


def test_that_of_gaussians_passes(in_empty_folder):
    recipe = recipes.load("gaussians", SMALL)
    train(recipe, TrainOptions())
    report = check_protocol(gaussians.build, recipe, in_empty_folder / "eval")
    assert set(report.metrics) == set(gaussians.METRICS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dict, "build gives dict, not a Protocol"),
        (lambda: replace(honest(), metrics=()), r"metrics are \(\), not a tuple of names"),
        (lambda: replace(honest(), metrics=["levels"]), r"metrics are \['levels'\], not a tuple"),
        (lambda: replace(honest(), metrics=("steps", "steps")), "two metrics have one name: steps, steps"),
        (lambda: honest(lambda *_: None), "evaluate gives the first rank NoneType, not a Report"),
        (found(lambda report: report.metrics), "evaluate gives the first rank dict, not a Report"),
        (found(lambda report: replace(report, n=0)), "n is 0, not a number of samples"),
        (metrics(lambda of: of | {"steps": torch.ones(())}), "metrics cannot be written as JSON"),
        (metrics(lambda of: of | {"steps": math.nan}), "metrics cannot be written as JSON"),
        (metrics(lambda of: {"levels": of.get("levels")}), "the report lacks the metric steps"),
        (metrics(lambda of: of | {"more": 1.0}), "the report holds more, which metrics does not name"),
        (found(lambda report: replace(report, protocol={})), 'has the "seed" None, not 3 of the options'),
        (found(lambda report: replace(report, table="levels")), "table is 'levels', not lines of text"),
        (found(lambda report: replace(report, files=[report.files[0].with_name("lost")])), "files that are not there"),
        (metrics(lambda of: of | {"levels": next(COUNT)}), "levels is another one where it is measured again, alone"),
        (before(lambda recipe, ranks: recipe.data.options), "a recipe without data fails with AttributeError"),
        (before(lambda recipe, ranks: ranks.first or [][0]), "the second of two ranks fails with IndexError"),
        (lambda: honest(lambda recipe, options, _: measured(recipe, options, Ranks())), "second of two ranks a report"),
        (before(lambda recipe, ranks: print("levels")), "evaluate prints to stdout, which is for results"),
        (before(lambda recipe, ranks: ask_the_network()), "started: .*example.invalid"),
        (before(lambda recipe, ranks: torch.set_grad_enabled(False)), "it changes torch's grad mode"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(make, message, recipe, tmp_path):
    with pytest.raises(AssertionError, match=message):
        check_protocol(make, recipe, tmp_path)
