"""Checkpoints as training leaves them, and files that would take all memory: said in one line, or taken as meant."""

import json
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from released_weights import weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmdisco_cli import app
from mmdisco_cli.conversion.discriminators import discriminator_shapes
from mmdisco_cli.paper.configs import RELEASED

NAME = "mmdiffusion_landscape"
LAST = "last_linear.weight"


@pytest.fixture(scope="module")
def plain():
    return weights(discriminator_shapes(RELEASED[NAME], channels=32))


def converted(source, capsys):
    destination = source.with_name("out.safetensors")
    code = app.run(["convert", str(source), str(destination)])
    error = capsys.readouterr().err
    return code, error, load_file(destination) if destination.exists() else None


def saved(content, folder, name="x.pt"):
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda name: f"_orig_mod.{name}", "names taken without _orig_mod"),
        (lambda name: f"module.{name}", "names taken without module"),
        (lambda name: f"module._orig_mod.{name}", "names taken without _orig_mod, module"),
        (lambda name: f"_orig_mod.module.{name}", "names taken without _orig_mod, module"),
        (lambda name: f"model.module.{name}", "names taken without model, module"),
        (lambda name: name.replace("feature_extractor.", "feature_extractor._orig_mod."), "without _orig_mod"),
        (
            lambda name: f"_fsdp_wrapped_module.{name}".replace("blocks.", "blocks._fsdp_wrapped_module."),
            "without _fsdp_wrapped_module",
        ),
        (
            lambda name: name.replace("input_blocks.", "input_blocks._checkpoint_wrapped_module."),
            "without _checkpoint_wrapped_module",
        ),
    ],
)
def test_names_that_training_wraps(rename, said, plain, tmp_path, capsys):
    code, error, stored = converted(saved({rename(name): x for name, x in plain.items()}, tmp_path), capsys)
    assert code == 0
    assert said in error
    assert stored.keys() == plain.keys()
    assert all(torch.equal(stored[name], x) for name, x in plain.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda plain: {"_orig_mod.a": torch.zeros(1), "a": torch.zeros(1)}, "have one name without _orig_mod"),
        (
            lambda plain: {"_fsdp_wrapped_module._flat_param": torch.zeros(9)},
            "_fsdp_wrapped_module._flat_param is what FSDP makes of many tensors",
        ),
        (lambda plain: {"state_dict": plain, "ema": plain, "step": 3}, "holds the weights of state_dict, ema"),
    ],
)
def test_what_cannot_be_unwrapped_is_named(content, message, plain, tmp_path, capsys):
    code, error, stored = converted(saved(content(plain), tmp_path), capsys)
    assert (code, stored) == (4, None)
    assert message in error
    assert error.count("\n") == 1


def test_a_lightning_checkpoint_gives_its_state_dict(plain, tmp_path, capsys):
    content = {
        "state_dict": {f"model.{name}": torch.nn.Parameter(x) for name, x in plain.items()},
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3}]}],
        "callbacks": {},
    }
    code, error, stored = converted(saved(content, tmp_path, "last.ckpt"), capsys)
    assert code == 0
    assert "weights taken from its entry state_dict" in error
    assert all(torch.equal(stored[name], x) for name, x in plain.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.to(torch.float8_e4m3fn), "float8_e4m3fn, not floats of float32"),
        (lambda x: x.to(torch.float8_e5m2), "float8_e5m2, not floats of float32"),
        (lambda x: x.to(torch.int8), "int8, not floats"),
        (lambda x: x > 0, "bool, not floats"),
        (lambda x: x.to(torch.complex64), "complex64, not floats"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "qint8, not floats"),
        (lambda x: x.to_sparse_csr(), "is sparse_csr, without plain values"),
        (lambda x: torch.tensor(1.0), "is (), not (1, "),
        (lambda x: x * float("inf"), "holds values that are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor is deprecated:UserWarning")
def test_numbers_that_are_no_weights(change, said, plain, tmp_path, capsys):
    code, error, stored = converted(saved(plain | {LAST: change(plain[LAST])}, tmp_path), capsys)
    assert (code, stored) == (4, None)
    assert f"{LAST} " in error
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.uint8])
def test_the_same_in_safetensors(dtype, plain, tmp_path, capsys):
    save_file(plain | {LAST: plain[LAST].to(dtype)}, tmp_path / "x.safetensors")
    code, error, stored = converted(tmp_path / "x.safetensors", capsys)
    assert (code, stored) == (4, None)
    assert f"{LAST} holds {dtype}, not floats" in error


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_kind_of_float_is_kept(dtype, plain, tmp_path, capsys):
    content = {name: x.to(dtype) for name, x in plain.items()}
    code, _, stored = converted(saved(content, tmp_path), capsys)
    assert code == 0
    assert all(torch.equal(stored[name], x) and stored[name].dtype == dtype for name, x in content.items())


def test_strided_views_of_one_memory_are_kept(plain, tmp_path, capsys):
    flat = torch.cat([x.flatten() for x in plain.values()])
    pieces = flat.split([x.numel() for x in plain.values()])
    views = {name: piece.view(x.shape) for piece, (name, x) in zip(pieces, plain.items(), strict=True)}
    views[LAST] = plain[LAST].T.contiguous().T
    code, _, stored = converted(saved(views, tmp_path), capsys)
    assert code == 0
    assert all(torch.equal(stored[name], x) for name, x in plain.items())


@pytest.fixture
def little_memory():
    """Refuse this process more than 8 GiB on top of what it has: a request for hundreds must fail cleanly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("width", [None, 4096])
def test_a_few_values_repeated_ask_for_no_memory(width, little_memory, tmp_path, capsys):
    """Also where all shapes fit: those of the widest network that is taken for one, of 120 GB."""
    if width is None:
        content = {"a": torch.zeros(1).expand(10**6, 10**5), LAST: torch.zeros(1).expand(10**11)}
    else:
        shapes = discriminator_shapes(RELEASED[NAME], channels=width)
        content = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    code, error, stored = converted(saved(content, tmp_path), capsys)
    assert (code, stored) == (4, None)
    assert ("do not fit" if width is None else "it repeats few values") in error
    assert error.count("\n") == 1


def test_absurd_widths_are_not_built(tmp_path, capsys):
    stem = "feature_extractor.input_blocks.0.0.video_conv.video_conv_spatial.weight"
    code, error, _ = converted(saved({stem: torch.zeros(1).expand(2**45, 3, 1, 1)}, tmp_path), capsys)
    assert code == 4
    assert error.count("\n") == 1


def test_a_small_repeated_tensor_is_taken(plain, tmp_path, capsys):
    bias = next(name for name, x in plain.items() if x.ndim == 1 and x.numel() > 1)
    content = plain | {bias: torch.ones(1).expand(plain[bias].shape)}
    code, _, stored = converted(saved(content, tmp_path), capsys)
    assert code == 0
    assert torch.equal(stored[bias], torch.ones(plain[bias].shape))


def test_archives_that_unfold(plain, tmp_path, capsys):
    """Packed parts, and parts that lie over one another: what a few kilobytes make gigabytes of."""
    source = saved(plain, tmp_path, "whole.pt")
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for part in whole.namelist():
            packed.writestr(part, whole.read(part))
    code, error, _ = converted(tmp_path / "packed.pt", capsys)
    assert code == 4
    assert "a compressed archive, which torch.save does not write" in error
    with zipfile.ZipFile(tmp_path / "over.pt", "w") as over:
        over.writestr("x/data.pkl", bytes(1000))
        over.writestr("x/data/0", bytes(1000))
        over.filelist[1].file_size = over.filelist[1].compress_size = 1 << 40
    code, error, _ = converted(tmp_path / "over.pt", capsys)
    assert code == 4
    assert "over.pt: " in error


@pytest.mark.parametrize(
    "header", [struct.pack("<Q", 1 << 60) + b'{"a":1}', struct.pack("<Q", 99_999_999) + b'{"a":1}', None]
)
def test_safetensors_that_declare_what_they_do_not_hold(header, tmp_path, capsys):
    source, declared = tmp_path / "x.safetensors", 4 * 10**11
    text = json.dumps({"a": {"dtype": "F32", "shape": [10**11], "data_offsets": [0, declared]}}).encode()
    source.write_bytes(header or struct.pack("<Q", len(text)) + text + bytes(8))
    code, error, stored = converted(source, capsys)
    assert (code, stored) == (4, None)
    assert str(source) in error
    assert error.count("\n") == 1


def test_other_files_are_called_what_they_are(tmp_path, capsys):
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", b"x")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    for source, message in (
        (script, "a TorchScript program, not a checkpoint"),
        (tmp_path / "arrays.npz", "a zip archive, but none that torch.save wrote"),
        (index, "the index of a checkpoint in several files"),
        (tmp_path / "absent.pt", "no such file"),
    ):
        code, error, _ = converted(source, capsys)
        assert code == 4
        assert message in error


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("model_index.json", "a pipeline of diffusers, which needs no conversion"),
        ("data.pkl", "an unpacked file of torch.save"),
        (".metadata", "a distributed checkpoint"),
        ("model.safetensors.index.json", "a checkpoint in several files"),
        ("clip.mp4", "clips become a cache with --recipe; to train, a recipe names their folder in data.path"),
    ],
)
def test_a_folder_is_called_what_it_is(inside, message, tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / inside).write_bytes(b"")
    code, error, _ = converted(folder, capsys)
    assert code == 4
    assert f"{folder}: a folder, not a checkpoint" in error
    assert message in error


def test_help_promises_what_there_is(capsys):
    assert app.run(["convert", "--help"]) == 0
    said = capsys.readouterr().out
    assert "data set" not in said
    assert "A checkpoint of another project: one file." in said


def test_metadata_of_another_tool_is_no_description_of_ours(plain, tmp_path, capsys):
    save_file(plain, tmp_path / "x.safetensors", {"format": "pt"})
    code, _, _ = converted(tmp_path / "x.safetensors", capsys)
    assert code == 0
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["mmdisco"])["kind"] == "discriminator"
