"""What can go wrong in the middle of a training, and that the last good checkpoint outlives it."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from tiny_runs import load, run

from mmdisco_cli.errors import DataError, ExitCode
from mmdisco_cli.training.loop import Loss
from mmdisco_cli.training.metrics import not_finite, read_rows


def test_a_diverging_training_stops_and_names_the_step(tmp_path: Path) -> None:
    recipe, out = load(tmp_path, learning_rate=1e30, warmup=0, checkpoint_every=1), tmp_path / "out"
    with pytest.raises(DataError, match=r"training diverged at step (\d+): \w+ is not finite; .*state\.pt") as raised:
        run(recipe, out)
    step = int(str(raised.value).split(" at step ")[1].split(":")[0])
    state = torch.load(out / "discriminator" / "state.pt", weights_only=True)
    assert state["step"] == step - 1
    assert all(x.isfinite().all() for x in state["average"].values())
    assert all(json.dumps(row, allow_nan=False) for row in read_rows(out / "metrics.jsonl"))


def test_nan_data_stop_it_with_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmdisco_cli.training import discriminator as module

    made = module.discriminator_loss

    def poisoned(*arguments: object) -> Loss:
        loss, calls = made(*arguments), iter(range(100))  # type: ignore[arg-type]

        def wrapped(generator: torch.Generator):  # type: ignore[no-untyped-def]
            value, figures = loss(generator)
            return (value * float("nan") if next(calls) == 14 else value), figures

        return wrapped

    monkeypatch.setattr(module, "discriminator_loss", poisoned)
    with pytest.raises(DataError, match="training diverged at step 15: loss is not finite; the last good checkpoint"):
        run(load(tmp_path), tmp_path / "out")
    assert torch.load(tmp_path / "out/discriminator/state.pt", weights_only=True)["step"] == 10
    assert not (tmp_path / "out/discriminator.safetensors").exists()


@pytest.mark.parametrize(("rate", "steps"), [(1e5, 1), (1e308, 5)])
def test_weights_that_diverge_in_the_step_that_is_saved_are_not_kept(rate: float, steps: int, tmp_path: Path) -> None:
    """What is logged of a step is from before its update."""
    recipe = load(tmp_path, learning_rate=rate, steps=steps, warmup=0, checkpoint_every=1, seed=2)
    with pytest.raises(DataError, match=r"training diverged"):
        run(recipe, tmp_path / "out")
    assert not (tmp_path / "out/discriminator.safetensors").exists()
    state = tmp_path / "out/discriminator/state.pt"
    if state.exists():
        content = torch.load(state, weights_only=True)
        assert all(bool(x.isfinite().all()) for kind in ("module", "average") for x in content[kind].values())


def test_figures_that_are_no_numbers_are_found_however_deep() -> None:
    assert not_finite({"a": 1.0, "b": {"c": {"d": 2}, "e": "x"}}) == ""
    assert not_finite({"a": 1.0, "b": {"c": {"d": float("nan")}}}) == "b.c.d"


def test_a_full_disk_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    path = out / "discriminator" / "state.pt"
    from mmdisco_cli.training import loop

    saved: list[bytes] = []
    save = loop.save_state

    def second_fails(*arguments: object) -> None:
        if not saved:
            save(*arguments)  # type: ignore[arg-type]
            saved.append(path.read_bytes())
            return
        with largest_file(len(saved[0]) // 2):
            save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "save_state", second_fails)
    kept = r"state\.pt: cannot write \((No space left on device|File too large)\); the previous checkpoint is kept"
    with pytest.raises(DataError, match=kept) as raised:
        run(recipe, out)
    assert raised.value.exit_code == ExitCode.DATA
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == saved[0]
    assert [p.name for p in path.parent.iterdir()] == ["state.pt"]
    monkeypatch.undo()
    run(recipe, out)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "list", "keys", "shapes"])
def test_a_damaged_checkpoint_is_one_line(damage: str, tmp_path: Path) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, out)
    (out / "discriminator.safetensors").unlink()
    path = out / "discriminator" / "state.pt"
    (path.parent / "state.previous.pt").unlink()
    content = torch.load(path, weights_only=True)
    if damage in ("cut", "noise", "empty"):
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:-200], "noise": bytes(range(256)) * 8, "empty": b""}[damage])
    elif damage == "list":
        torch.save([1], path)
    elif damage == "keys":
        torch.save({"fingerprint": content["fingerprint"]}, path)
    else:
        content["module"] = {name: x[:1] for name, x in content["module"].items()}
        torch.save(content, path)
    with pytest.raises(DataError, match=r"state\.pt: .*--fresh") as raised:
        run(recipe, out)
    assert "\n" not in str(raised.value)
    run(recipe, out, fresh=True)


def test_a_damaged_shard_is_one_line(tmp_path: Path) -> None:
    recipe, out = load(tmp_path, "frames"), tmp_path / "out"
    run(recipe, out)
    for shard in (out / "bank").rglob("*.safetensors"):
        shard.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"not a readable shard .*delete it, it will be made again") as raised:
        run(recipe, out, fresh=True)
    assert "\n" not in str(raised.value)


def test_an_unwritable_directory_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    from mmdisco_cli.errors import exit_code_of

    with pytest.raises((DataError, OSError)) as raised:
        run(load(tmp_path), tmp_path / "file" / "out")
    assert exit_code_of(raised.value) == ExitCode.DATA
