"""A batch taken in parts is the same step, in less memory; in low precision all that is kept stays in float32."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import alone, load, run, weights
from torch import Tensor, nn

from mmdisco_cli import app
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.errors import Stopped, UsageError
from mmdisco_cli.training import discriminator as module
from mmdisco_cli.training.batch import NoisyBatch
from mmdisco_cli.training.data import fake_tuples, real_tuples
from mmdisco_cli.training.discriminator import discriminator_job, discriminator_loss
from mmdisco_cli.training.loop import Context, fit, step_generator

PARTS = 4


def _joined(parts: Sequence[Tensor], groups: int) -> Tensor:
    """Return the rows of all parts, the first group of each, then the second: as one batch would have them."""
    return torch.cat([torch.cat(group) for group in zip(*(part.chunk(groups) for part in parts), strict=True)])


def _union(parts: Sequence[NoisyBatch], groups: int) -> NoisyBatch:
    first = parts[0]
    return NoisyBatch(
        {m: _joined([p.states[m] for p in parts], groups) for m in first.states},
        {m: _joined([p.noise[m] for p in parts], groups) for m in first.noise},
        {
            m: Levels(*(_joined(x, groups) for x in zip(*(p.levels[m] for p in parts), strict=True)))
            for m in first.levels
        },
    )


def _gradient(value: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(network.parameters()), allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("space", ["epsilon", "v"])
@pytest.mark.parametrize(("fakes", "groups"), [("shuffled", 2), ("generated", 1)])
def test_parts_have_the_loss_of_one_batch_of_their_rows(
    fakes: str, groups: int, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(tmp_path, fakes=fakes, denoise_space=space, bank=64, batch_size=32, accumulate=PARTS)
    context = alone(recipe, tmp_path / "out")
    job = discriminator_job(context)
    _move(job.module)
    real = real_tuples(job.assembly, job.dataset.split("train"), 64, context)
    loss = discriminator_loss(job.module, job.assembly, recipe, real, fake_tuples(job.assembly, real, context), 8)
    seen: list[tuple[Any, ...]] = []
    joint = module.joint_losses

    def noted(*arguments: Any) -> tuple[Tensor, dict[str, float]]:
        seen.append(arguments)
        return joint(*arguments)

    monkeypatch.setattr(module, "joint_losses", noted)
    values = [loss(step_generator(0, part, 0))[0] for part in range(PARTS)]
    discriminator, predict, *_ = seen[0]
    reals, fakes_seen = [arguments[2] for arguments in seen], [arguments[3] for arguments in seen]
    assert all(len(noisy.states["x"]) == 8 for noisy in reals)
    wrong = None if groups > 1 else _union(fakes_seen, 1)
    whole, _ = joint(discriminator, predict, _union(reals, groups), wrong, *seen[0][4:])
    mean = torch.stack(values).mean()
    torch.testing.assert_close(mean, whole)
    torch.testing.assert_close(_gradient(mean, job.module), _gradient(whole, job.module), rtol=1e-4, atol=1e-6)
    assert values[0].detach().item() != pytest.approx(values[1].detach().item(), rel=1e-3)  # parts are no copies of one


def _move(network: nn.Module) -> None:
    """Move weights that start at zero, behind which gradients vanish."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)


@pytest.mark.slow
def test_parts_stand_for_as_many_ranks(tmp_path: Path) -> None:
    settings = {"bank": 24, "steps": 12, "warmup": 0}
    recipe = load(tmp_path, **settings)
    context = alone(recipe, tmp_path / "ranks")
    job = discriminator_job(context)
    real = real_tuples(job.assembly, job.dataset.split("train"), 24, context)
    half = discriminator_loss(job.module, job.assembly, recipe, real, None, 4)
    steps = iter(range(12))

    def both(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        step = next(steps)
        return torch.stack([half(step_generator(0, rank, step))[0] for rank in (0, 1)]).mean(), {}

    fit(job.module, both, context, "ranks", 12)
    found = run(load(tmp_path, **settings, accumulate=2), tmp_path / "parts")
    for name, weight in job.module.named_parameters():
        torch.testing.assert_close(found[name], weight.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["points", "frames"])
def test_a_run_may_go_on_in_more_parts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory runs out, nothing has to begin again."""
    stop = iter([False] * 12 + [True])
    with monkeypatch.context() as patched:
        patched.setattr(Context, "must_stop", lambda self: next(stop, False))
        with pytest.raises(Stopped, match="state saved"):
            run(load(tmp_path, name), tmp_path / "out")
    before = weights(tmp_path / "out", name)
    after = run(load(tmp_path, name, accumulate=4), tmp_path / "out")
    assert all(bool(x.isfinite().all()) for x in after.values())
    assert any(not torch.equal(after[key], before[key]) for key in before)


class Kept:
    """A tensor that autograd keeps, counted for as long as it does."""

    now = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
        Kept.now += self.size
        Kept.most = max(Kept.most, Kept.now)

    def __del__(self) -> None:
        Kept.now -= self.size


def _most_kept(work: Callable[[], object]) -> int:
    Kept.now = Kept.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        work()
    return Kept.most


def test_memory_falls_with_the_parts_as_a_dry_run_estimates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"batch_size": 2048, "steps": 2, "bank": 64}
    kept, estimated = {}, {}
    for parts in (1, 8):
        recipe = load(tmp_path, **settings, accumulate=parts)
        kept[parts] = _most_kept(lambda recipe=recipe, parts=parts: run(recipe, tmp_path / str(parts)))
        context = alone(recipe, tmp_path / "dry")
        estimated[parts] = discriminator_job(context).overview["memory_mb"]
    assert kept[8] < 0.2 * kept[1]
    assert estimated[8] < estimated[1]
    capsys.readouterr()
    more = ["--set=train.batch_size=64", "--set=train.accumulate=8", "--dry-run"]
    assert app.run(["train", "--recipe", str(tmp_path / "points.yaml"), *more]) == 0
    assert "accumulate: 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"accumulate": 3}, "train.accumulate: 3 does not divide train.batch_size=8"),
        ({"accumulate": 16}, "train.accumulate: 16 does not divide train.batch_size=8"),
        ({"accumulate": 0}, "train.accumulate: must be at least 1, got 0"),
        ({"accumulate": 8}, "need at least 2 tuples"),
    ],
)
def test_parts_that_cannot_be_are_refused(settings: dict[str, int], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        run(load(tmp_path, **settings), tmp_path / "out")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["points", "frames"])
def test_low_precision_keeps_weights_average_and_loss_in_float32(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    backward = Tensor.backward

    def noted(self: Tensor) -> None:
        losses.append(self.dtype)
        backward(self)

    monkeypatch.setattr(Tensor, "backward", noted)
    low, high = (run(load(tmp_path, name, dtype=d), tmp_path / d) for d in ("bfloat16", "float32"))
    assert set(losses) == {torch.float32}
    stage = {"points": "discriminator", "frames": "denoiser"}[name]
    state = torch.load(tmp_path / "bfloat16" / stage / "state.pt", weights_only=True)
    moments = [x for each in state["optimizer"]["state"].values() for x in each.values() if isinstance(x, Tensor)]
    assert {x.dtype for x in [*low.values(), *state["module"].values(), *moments]} == {torch.float32}
    assert any(not torch.equal(low[key], high[key]) for key in low)  # low precision was really used
    assert weights(tmp_path / "bfloat16", name).keys() == low.keys()
