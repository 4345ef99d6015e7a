"""`mmdisco convert` on files made with weights from their names: what fits is kept exactly, all else is refused."""

import hashlib
import json
import pickle

import pytest
import torch
from released_weights import distance, filled, network, small, texts_of, weights
from safetensors.torch import load_file, save_file

from mmdisco_cli import app, paper
from mmdisco_cli.conversion.discriminators import discriminator_shapes
from mmdisco_cli.conversion.published import converters
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.weights_file import any_about, save_weights

KINDS = list(RELEASED)
ABOUT = {
    "mmdiffusion_landscape": "8316864b81a0c8c5",
    "mmdiffusion_aist++": "3fc2d5328825baf9",
    "audioldm_animediff_vggsound": "951976b0e8ad2eaa",
    "auffusion_videocrafter2_vggsound": "ce700b7448668ad0",
}
"""Hashes of what files converted so far say of themselves, their source left out: a new version must write the same."""


def tensors_of(kind):
    return weights(discriminator_shapes(RELEASED[kind], channels=32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_kind_is_recognised_and_kept_exactly(kind, suffix, tmp_path, capsys):
    tensors = tensors_of(kind)
    source, first, second = tmp_path / f"{kind}{suffix}", tmp_path / "a.safetensors", tmp_path / "deep/b.safetensors"
    torch.save(tensors, source) if suffix == ".pt" else save_file(tensors, source)
    for destination in (first, second):
        assert app.run(["convert", str(source), str(destination)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(first), str(second)]
    assert first.read_bytes() == second.read_bytes()
    stored = load_file(first)
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())
    about = any_about(first)
    assert about["source"] == {"file": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    assert about["released"] == kind
    del about["source"]
    assert hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16] == ABOUT[kind]
    assert {path.name for path in tmp_path.iterdir()} == {source.name, "a.safetensors", "deep"}


def test_a_discriminators_file_says_all_that_sampling_needs(tmp_path):
    source, converted = tmp_path / "x.pt", tmp_path / "x.safetensors"
    torch.save(tensors_of("auffusion_videocrafter2_vggsound"), source)
    assert app.run(["convert", str(source), str(converted)]) == 0
    about = any_about(converted)
    assert about["kind"] == "discriminator"
    assert about["name"] == "paper-mel"
    assert about["options"]["fusion"] == "transformer"
    assert about["schedules"]["video"] == {
        "name": "vp-videocrafter2", "betas": "linear", "start": 0.00085, "end": 0.012, "train_steps": 1000,
    }  # fmt: skip
    assert about["pairing"] == {"audio": "auffusion/auffusion-full", "video": "VideoCrafter2"}
    assert about["cfg"] == {"audio": 8.0, "video": 8.0}
    assert about["guidance"] == {"audio": 1.0, "video": 8.0}


@pytest.mark.parametrize("config", RELEASED)
def test_a_converted_discriminator_judges_as_the_source_would(config, tmp_path):
    source, converted, back = (tmp_path / name for name in ("x.pt", "x.safetensors", "back.pt"))
    original = filled(small(config))
    torch.save(dict(original.state_dict()), source)
    format_ = ["--format", config]
    assert app.run(["convert", str(source), str(converted), *format_]) == 0
    loaded = paper.load_discriminator(converted)
    audio = torch.randn(2, original.channels["audio"], *((320,) if original.axes == 1 else (6, 8)))
    x = {"audio": audio, "video": torch.randn(2, original.channels["video"], 4, 8, 8)}
    t, texts = torch.tensor([3, 700]), texts_of(RELEASED[config], 2, False)
    torch.testing.assert_close(loaded.at_times(x, t, texts), original.at_times(x, t, texts), rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert app.run(["convert", str(converted), str(back)]) == 0
    state = torch.load(back, weights_only=True)
    assert list(state) == sorted(original.state_dict())
    assert all(torch.equal(state[name], tensor) for name, tensor in original.state_dict().items())
    again = tmp_path / "again.pt"
    assert app.run(["convert", str(converted), str(again)]) == 0
    assert back.read_bytes() == again.read_bytes()


def test_one_trained_here_goes_back_too_in_float32(tmp_path):
    """A file of `mmdisco train` holds half precision and the shapes that it was trained on."""
    module = filled(small("mmdiffusion_landscape"))
    about = {
        "kind": "discriminator", "name": "paper-waveform", "options": {"channels": 32, "blocks": 2},
        "shapes": {"audio": [1, 320], "video": [3, 4, 8, 8]}, "coupling": "index", "backbones": {"film": "x"},
    }  # fmt: skip
    source, back = tmp_path / "discriminator.safetensors", tmp_path / "theirs.pt"
    save_weights(source, module.state_dict(), about)
    assert app.run(["convert", str(source), str(back)]) == 0
    state = torch.load(back, weights_only=True)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert distance(state["last_linear.weight"], module.last_linear.weight) < 1e-3


@pytest.fixture
def written(tmp_path):
    """A destination that holds something already, which no failure may touch."""
    destination = tmp_path / "kept.safetensors"
    destination.write_bytes(b"as it was")
    return destination


def refused(source, destination, capsys, *options):
    before = sorted(path.name for path in destination.parent.iterdir())
    code = app.run(["convert", str(source), str(destination), *options])
    error = capsys.readouterr()
    assert destination.read_bytes() == b"as it was"
    assert sorted(path.name for path in destination.parent.iterdir()) == before
    assert error.out == ""
    assert error.err.count("\n") == 1
    return code, error.err


@pytest.mark.parametrize("kind", KINDS)
def test_missing_surplus_and_misshapen_tensors_are_named(kind, written, capsys, tmp_path):
    tensors, source = tensors_of(kind), tmp_path / f"{kind}.pt"
    names = sorted(tensors)
    gone, bent = names[len(names) // 2], names[len(names) // 3]
    del tensors[gone]
    tensors[bent] = torch.zeros(7, 7, 7)
    tensors["extra.weight"] = torch.zeros(2)
    torch.save(tensors, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert f"looks like discriminator {kind}, but" in error
    assert "3 tensors do not fit" in error
    assert f"missing {gone}; surplus extra.weight; {bent} is (7, 7, 7), not (" in error


@pytest.mark.parametrize("config", RELEASED)
def test_one_wrong_shape_of_the_released_size_is_reported_as_one(config, written, capsys, tmp_path):
    """Not even the tensor that gives the width may change the rest."""
    source = tmp_path / f"{config}.pt"
    shapes = discriminator_shapes(RELEASED[config])
    tensors = {name: torch.empty(1).expand(shape) for name, shape in shapes.items()}
    stem = "feature_extractor.input_blocks.0.0.video_conv.video_conv_spatial.weight"
    tensors[stem] = torch.empty(1).expand(64, *shapes[stem][1:])
    torch.save(tensors, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert f"discriminator {config}, but 1 tensors do not fit: {stem} is (64, " in error


def test_more_misfits_than_a_line_holds_are_counted(written, capsys, tmp_path):
    source = tmp_path / "landscape.pt"
    tensors = tensors_of("mmdiffusion_landscape")
    torch.save({name: tensors[name] for name in list(tensors)[:100]}, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert "; and 61 more" in error


def test_another_kind_than_was_requested_is_reported_as_what_it_is(written, capsys, tmp_path):
    source = tmp_path / "x.pt"
    torch.save(tensors_of("audioldm_animediff_vggsound"), source)
    for requested in ("auffusion_videocrafter2_vggsound", "mmdiffusion_landscape"):
        code, error = refused(source, written, capsys, "--format", requested)
        assert code == 4
        assert f"is not {requested}; it looks like discriminator audioldm_animediff_vggsound" in error


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(suffix, share, written, capsys, tmp_path):
    tensors, source = tensors_of("mmdiffusion_landscape"), tmp_path / f"x{suffix}"
    torch.save(tensors, source) if suffix == ".pt" else save_file(tensors, source)
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    code, error = refused(source, written, capsys)
    assert code == 4
    assert str(source) in error


def test_a_truncated_file_from_before_torch_1_6_is_refused_at_any_length(written, capsys, tmp_path):
    source, tensors = tmp_path / "x.pt", tensors_of("mmdiffusion_landscape")
    torch.save(dict(list(tensors.items())[:3]), source, _use_new_zipfile_serialization=False)
    content = source.read_bytes()
    for length in [*range(0, 400), *range(400, len(content), len(content) // 40)]:
        source.write_bytes(content[:length])
        code, error = refused(source, written, capsys)
        assert (code, len(error.splitlines())) == (4, 1), length


def test_damage_inside_a_tensor_is_noticed(written, capsys, tmp_path):
    source = tmp_path / "x.pt"
    torch.save(tensors_of("mmdiffusion_landscape"), source)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(255 - value for value in content[middle : middle + 100])
    source.write_bytes(content)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert "the checksum of" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t * float("nan"), "last_linear.weight holds values that are not finite"),
        (lambda t: t.to_sparse(), "last_linear.weight is sparse_coo, without plain values"),
        (lambda t: t.to("meta"), "last_linear.weight is on no device, without plain values"),
    ],
)
def test_tensors_without_usable_values_are_named(change, message, written, capsys, tmp_path):
    tensors, source = tensors_of("mmdiffusion_landscape"), tmp_path / "x.pt"
    torch.save(tensors | {"last_linear.weight": change(tensors["last_linear.weight"])}, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert message in error


def test_weights_behind_a_wrapper_or_on_shared_memory_are_taken_as_they_are(tmp_path):
    tensors = tensors_of("mmdiffusion_landscape")
    alike = [name for name, tensor in tensors.items() if tensor.shape == tensors["last_linear.bias"].shape]
    shared = tensors | dict.fromkeys(alike, tensors["last_linear.bias"])
    kinds = {"plain": shared | {name: shared[name].clone() for name in alike}, "shared": shared}
    kinds["wrapped"] = {f"module.{name}": tensor for name, tensor in kinds["plain"].items()}
    found = {}
    for kind, content in kinds.items():
        torch.save(content, tmp_path / f"{kind}.pt")
        assert app.run(["convert", str(tmp_path / f"{kind}.pt"), str(tmp_path / f"{kind}.safetensors")]) == 0
        found[kind] = load_file(tmp_path / f"{kind}.safetensors")
    for other in (found["shared"], found["wrapped"]):
        assert other.keys() == found["plain"].keys()
        assert all(torch.equal(other[name], tensor) for name, tensor in found["plain"].items())


class Harmful:
    """What a pickle could do if it were believed."""

    def __reduce__(self):
        return (open, (self.path, "w"))

    path = ""


def test_nothing_in_a_pickle_is_run(written, capsys, tmp_path):
    Harmful.path, source = str(tmp_path / "harm"), tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1), "b": Harmful()}, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert "code in a pickle is never executed" in error
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hyper": {"a": 1}, "epoch": 3}, "found hyper, epoch beside or instead"),
        (
            {"layer.weight": torch.zeros(1, dtype=torch.float8_e4m3fn)},
            "no network that mmdisco knows; its 1 tensors begin with layer.weight (float8_e4m3fn (1,))",
        ),
        (
            {"state_dict": {"a": torch.zeros(1)}, "ema": {"a": torch.zeros(1)}, "epoch": 3},
            "holds the weights of state_dict, ema; save the one that is meant alone",
        ),
        ([torch.zeros(1)], "holds a list, not tensors by name"),
        ({}, "found nothing"),
    ],
)
def test_other_checkpoints_are_reported_as_what_they_are(content, message, written, capsys, tmp_path):
    source = tmp_path / "x.pt"
    torch.save(content, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert message in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither torch.save nor safetensors"),
        (b"hello world, no weights", "neither torch.save nor safetensors"),
        (b"\x00\x00\x00\x20ftypisom and so on", "neither torch.save nor safetensors"),
        (pickle.dumps({"a": 1}), "code in a pickle is never executed"),
        (b"\x07\0\0\0\0\0\0\0" + b'{"a":1}', "not a readable safetensors file"),
    ],
)
def test_files_of_other_kinds(content, message, written, capsys, tmp_path):
    source = tmp_path / "x.pt"
    source.write_bytes(content)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert message in error


def test_a_checkpoint_from_before_torch_1_6(tmp_path):
    tensors, source = tensors_of("mmdiffusion_landscape"), tmp_path / "old.pt"
    torch.save(tensors, source, _use_new_zipfile_serialization=False)
    assert app.run(["convert", str(source), str(tmp_path / "new.safetensors")]) == 0
    stored = load_file(tmp_path / "new.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())


def test_whole_numbers_are_no_weights(written, capsys, tmp_path):
    tensors, source = tensors_of("mmdiffusion_landscape"), tmp_path / "x.pt"
    tensors["last_linear.bias"] = torch.zeros(1, dtype=torch.int64)
    torch.save(tensors, source)
    code, error = refused(source, written, capsys)
    assert code == 4
    assert "last_linear.bias holds torch.int64" in error


def test_a_write_that_fails_leaves_the_old_file(written, capsys, tmp_path, largest_file):
    source = tmp_path / "x.pt"
    torch.save(tensors_of("mmdiffusion_landscape"), source)
    with largest_file(100_000):
        code, error = refused(source, written, capsys)
    assert code == 4
    assert "cannot write" in error


def test_uses_that_make_no_sense(tmp_path, capsys):
    converted, energy = tmp_path / "x.safetensors", tmp_path / "energy.safetensors"
    save_weights(
        converted,
        network("mmdiffusion_landscape", "fanin").state_dict(),
        {"kind": "discriminator", "name": "paper-waveform"},
    )
    save_weights(energy, {"a": torch.zeros(1)}, {"kind": "discriminator", "name": "energy"})
    for arguments, code, message in (
        ([converted, converted], 2, "is the source itself"),
        ([converted, tmp_path / "y.safetensors"], 2, "is converted already"),
        ([energy, tmp_path / "y.pt"], 4, "holds energy, for which the authors' code has no layout"),
        ([tmp_path, tmp_path / "y.pt"], 4, "a folder, not a checkpoint"),
    ):
        assert app.run(["convert", *map(str, arguments)]) == code
        assert message in capsys.readouterr().err


def test_the_names_that_format_takes_are_those_that_are_published():
    assert [spec.name for spec in converters()] == KINDS
    assert all(spec.published[0].recipe == RELEASED[spec.name].recipe for spec in converters())
