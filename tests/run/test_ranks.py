"""Left-over variables of a launch are refused before anything is made, and never lose a part of the work."""

import sys
from pathlib import Path

import pytest
import torch

from mmdisco_cli import app
from mmdisco_cli.devices import choose_device
from mmdisco_cli.errors import DeviceError, UsageError
from mmdisco_cli.run.ranks import Ranks, local_rank, ranks_of, require_meeting_place

sys.path.insert(0, str(Path(__file__).parents[1] / "sampling"))
from tiny_models import make_tiny

WRONG = [
    ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
    ({"RANK": "7", "WORLD_SIZE": "2"}, "RANK=7 is not below WORLD_SIZE=2"),
    ({"RANK": "0", "WORLD_SIZE": "0"}, "RANK=0 is not below WORLD_SIZE=0"),
    ({"RANK": "3"}, "RANK=3 without WORLD_SIZE"),
    ({"RANK": "0"}, "RANK=0 without WORLD_SIZE"),
    ({"WORLD_SIZE": "4"}, "WORLD_SIZE=4 without RANK"),
    ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK='-1': expected a whole number"),
    ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK='one': expected a whole number"),
    ({"RANK": "", "WORLD_SIZE": "2"}, "RANK='': expected a whole number"),
    ({"RANK": "0", "WORLD_SIZE": "2.0"}, "WORLD_SIZE='2.0': expected a whole number"),
    ({"RANK": "1_0", "WORLD_SIZE": "20"}, "RANK='1_0': expected a whole number"),
    ({"RANK": "0\n", "WORLD_SIZE": "1"}, "RANK='0\\n': expected a whole number"),
]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_a_process_is_alone_or_where_it_is_put() -> None:
    assert ranks_of({}) == ranks_of({"RANK": "0", "WORLD_SIZE": "1"}) == Ranks(0, 1)
    assert ranks_of({"RANK": "1", "WORLD_SIZE": "02"}) == Ranks(1, 2)


@pytest.mark.parametrize(("environment", "said"), WRONG)
def test_what_no_launcher_sets_is_refused(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        ranks_of(environment)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "variables", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "1"}]
)
@pytest.mark.parametrize("command", ["sample", "train", "eval", "eval clips"])
def test_every_command_refuses_it_with_one_line(
    command: str,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    recipe = str(make_tiny(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = {
        "sample": ["sample", "--recipe", recipe, "--n", "2"],
        "train": ["train", "--recipe", "gaussians"],
        "eval": ["eval", "--recipe", "gaussians"],
        "eval clips": ["eval", "--samples", str(tmp_path), "--reference", str(tmp_path)],
    }[command]
    assert app.run([*arguments, "--out", "out"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1, shown.err
    assert "RANK" in shown.err
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "without MASTER_ADDR and MASTER_PORT"),
        ({"MASTER_ADDR": "localhost"}, "without MASTER_PORT"),
        ({"MASTER_ADDR": "localhost", "MASTER_PORT": "http"}, "MASTER_PORT='http'"),
        ({"MASTER_ADDR": "localhost", "MASTER_PORT": "70000"}, "MASTER_PORT=70000"),
    ],
)
def test_several_processes_need_a_place_to_meet(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        require_meeting_place(Ranks(0, 2), environment)
    assert said in str(error.value)
    require_meeting_place(Ranks(0, 1), environment)


def test_local_ranks_are_read_as_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_rank({}) == 0
    assert local_rank({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}) == 1
    with pytest.raises(UsageError, match="LOCAL_RANK=2 is not below LOCAL_WORLD_SIZE=2"):
        local_rank({"LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "gpu1")
    with pytest.raises(UsageError, match="LOCAL_RANK='gpu1'"):
        choose_device()
    monkeypatch.setenv("LOCAL_RANK", "5")
    with pytest.raises(DeviceError, match=r"no device cuda:5.*LOCAL_RANK chose it"):
        choose_device()
    assert choose_device("cuda:1") == torch.device("cuda:1")
