"""Layouts from the command line: a training is planned on them, or stopped before it has cost anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import clip, put, tar

TRAIN = ("train", "--recipe", "clips-audio", "--dry-run", "--json")


def as_table(root: Path) -> str:
    rows = [{"video": f"{i}.mp4", "caption": f"clip {i}"} for i in range(5)]
    return str(put(root, {**{f"{i}.mp4": i for i in range(5)}, "dataset.json": json.dumps(rows)}))


def as_tars(root: Path) -> str:
    root.mkdir()
    for shard in range(2):
        tar(root / f"train-{shard:06d}.tar", {f"{i}.mp4": i + 2 * shard for i in range(2)} | {"0.txt": "one"})
    return str(root / "train-{000000..000001}.tar")


def as_parquet(root: Path) -> str:
    root.mkdir()
    rows = [{"video": {"bytes": clip(i), "path": f"{i}.mp4"}, "text": f"clip {i}"} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), root / "train-00000-of-00001.parquet")
    return str(root)


def as_vggsound(root: Path) -> str:
    rows = [f'{i}abcdefghij,{i},"playing drum, {i}",{"test" if i else "train"}' for i in range(2)]
    return str(
        put(root, {f"{i}abcdefghij_{i:06d}.mp4": i for i in range(2)} | {"vgg.csv": "\n".join(rows)}) / "vgg.csv"
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [as_table, as_tars, as_parquet, as_vggsound])
def test_a_training_is_planned(cli, tmp_path: Path, make: Callable[[Path], str]) -> None:
    path = make(tmp_path / "d")
    done = cli(*TRAIN, "--set", f"data.path={json.dumps(path)}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clips"] >= 1


@pytest.mark.slow
def test_too_many_bad_rows_stop_it(cli, tmp_path: Path) -> None:
    path = as_table(tmp_path / "d")
    (tmp_path / "d" / "3.mp4").unlink()
    done = cli(*TRAIN, "--set", f"data.path={json.dumps(path)}")
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {path}: 1 of 5 rows are missing or broken, more than data.max_bad"
    )
    allowed = cli(*TRAIN, "--set", f"data.path={json.dumps(path)}", "--set", "data.max_bad=0.2")
    assert allowed.returncode == 0
    assert f"skipped 3.mp4 ({path}/dataset.json:4): no such file" in allowed.stderr
