"""Weights files: what goes in comes out in half precision, and anything else is refused by name."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmdisco_cli import weights_file
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.weights_file import find_weights, load_weights, read_about, save_weights

ABOUT = {"kind": "backbone", "modality": "audio", "reached": {"loss": 0.1}}


def network(seed=0, outputs=3):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, outputs), torch.nn.BatchNorm1d(outputs))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "deep" / "tiny.safetensors"
    save_weights(path, network().state_dict(), ABOUT)
    return path


def test_round_trip_in_half_precision(written):
    assert load_file(written)["0.weight"].dtype == torch.float16
    other = network(seed=1)
    load_weights(written, other)
    for name, tensor in network().state_dict().items():
        kept = other.state_dict()[name]
        assert kept.dtype == tensor.dtype
        if tensor.is_floating_point():
            # Half precision keeps 11 bits: a relative error of at most 2^-11.
            assert ((kept - tensor).abs() <= tensor.abs() * 2**-11).all()
        else:
            assert torch.equal(kept, tensor)


def test_the_description_comes_back(written):
    assert read_about(written, "backbone") == ABOUT
    with safe_open(written, framework="pt") as file:
        assert json.loads(file.metadata()["mmdisco"]) == ABOUT


def test_nothing_else_is_left_behind(written):
    assert list(written.parent.iterdir()) == [written]


def test_a_failed_write_keeps_the_old_file(written, monkeypatch):
    before = written.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)  # by then the new file is written, under a name of its own
    with pytest.raises(DataError, match=r"tiny\.safetensors: cannot write \(No space left"):
        save_weights(written, network().state_dict(), ABOUT)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_wrong_kind(written):
    with pytest.raises(DataError, match=r"tiny\.safetensors: holds a backbone, not a discriminator"):
        read_about(written, "discriminator")


def test_not_ours(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match="not one that mmdisco wrote"):
        read_about(path, "backbone")


@pytest.mark.parametrize("description", ["{not json", "[1]", ""])
def test_a_damaged_description(description, tmp_path):
    path = tmp_path / "damaged.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={weights_file.KEY: description})
    with pytest.raises(DataError, match=r"damaged\.safetensors: its description is damaged"):
        read_about(path, "backbone")


def test_others_may_read_it_as_any_new_file(written, tmp_path):
    (tmp_path / "any").touch()
    assert written.stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("keep", [0, 4, 60, -10])
def test_truncated(written, keep):
    written.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(DataError, match="not a readable safetensors file"):
        read_about(written, "backbone")


def test_not_safetensors_at_all(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="not a readable safetensors file"):
        read_about(path, "backbone")


def test_missing_tensor(written):
    wanted = torch.nn.ModuleDict({"0": network()[0], "1": network()[1], "extra": torch.nn.Linear(1, 1)})
    with pytest.raises(DataError, match=r"missing extra\.bias; missing extra\.weight"):
        load_weights(written, wanted)


def test_surplus_tensor(written):
    with pytest.raises(DataError, match=r"surplus 1\.bias"):
        load_weights(written, torch.nn.Sequential(network()[0]))


def test_wrong_shape_changes_nothing(written):
    wanted = network(outputs=5)
    before = {name: tensor.clone() for name, tensor in wanted.state_dict().items()}
    with pytest.raises(DataError, match=r"0\.bias is \(3,\), not \(5,\)"):
        load_weights(written, wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in wanted.state_dict().items())


def test_finding(written, tmp_path, monkeypatch):
    monkeypatch.setattr(weights_file, "PACKAGED", written.parent)
    assert find_weights(str(written)) == written
    assert find_weights("tiny") == written
    assert find_weights("tiny.safetensors") == written
    with pytest.raises(DataError, match=r"no weights 'tinny', neither a file nor packaged \(did you mean tiny\?\)"):
        find_weights("tinny")


def test_a_missing_file_is_no_usage_error(tmp_path):
    with pytest.raises(DataError) as caught:
        find_weights(str(tmp_path / "absent.safetensors"))
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.to(torch.float8_e4m3fn), r"0\.weight holds torch\.float8_e4m3fn, not floats"),
        (lambda x: x.to(torch.complex64), r"0\.weight holds torch\.complex64, not floats"),
        (lambda x: x.to(torch.int8), r"0\.weight holds torch\.int8, not floats"),
        (lambda x: x * float("nan"), r"0\.weight holds values that are not finite"),
        (lambda x: x.half() + float("inf"), r"0\.weight holds values that are not finite"),
    ],
)
def test_numbers_that_are_no_weights_change_nothing(change, message, tmp_path):
    path, wanted = tmp_path / "odd.safetensors", network(seed=1)
    state = network().state_dict()
    save_file({**state, "0.weight": change(state["0.weight"])}, path)
    before = {name: tensor.clone() for name, tensor in wanted.state_dict().items()}
    with pytest.raises(DataError, match=message):
        load_weights(path, wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in wanted.state_dict().items())


def test_a_file_cut_short_after_it_was_described(written):
    written.write_bytes(written.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"tiny\.safetensors: truncated or damaged"):
        load_weights(written, network())
