"""musicnn beside TensorFlow, which ran the package's own graphs once, and a reader of TensorFlow's checkpoints."""

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from by_rule import drawn

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.extractors.extract import open_extractor
from mmdisco_cli.extractors.musicnn import (
    DATA,
    FRAMES,
    INDEX,
    MELS,
    NETWORKS,
    files_of,
    filled,
    log_mel,
    patches_of,
)
from mmdisco_cli.extractors.tf_checkpoint import checksum, crc32c, read_tensors

PEER = json.loads((Path(__file__).parent / "peers.json").read_text())["musicnn"]
SMALL = Path(__file__).parent / "checkpoint"
"""Written by tf.compat.v1.train.Saver of TensorFlow 2.15.1, its values by rule."""


def small():
    return [(SMALL / f"small{suffix}").read_bytes() for suffix in (INDEX, DATA)]


def by_rule(shapes):
    """Return a checkpoint's tensors, drawn as they were for TensorFlow."""
    return {name: np.asarray(_tensor(name, shape), np.float32) for name, shape in shapes.items()}


def _tensor(name, shape):
    values = drawn(name, shape)
    if name.endswith("variance"):
        return 0.5 + np.abs(values)
    if name.endswith("kernel"):
        return values * np.sqrt(2 / np.prod(shape[:-1]))
    return 1 + 0.1 * values if name.endswith("gamma") else 0.1 * values


def patches():
    return torch.from_numpy(np.abs(drawn("patches", (2, FRAMES, MELS))).astype(np.float32))


@pytest.mark.parametrize("preset", ["MTT_musicnn", "MSD_vgg"])
def test_networks_are_those_that_tensorflow_ran(preset):
    peer = PEER["by_rule"][preset]
    network = filled(NETWORKS[preset](), by_rule(peer["shapes"]))
    assert network(patches())[0, ::20].tolist() == pytest.approx(peer["every_20th"], abs=1e-4)


@pytest.mark.skipif(find_spec("musicnn") is None, reason="musicnn is not there: pip install --no-deps musicnn")
@pytest.mark.parametrize("preset", list(NETWORKS))
def test_published_checkpoints_give_what_they_gave_in_tensorflow(preset):
    assert open_extractor(f"musicnn:{preset}").about["weights"]["published_as"] == "musicnn 0.1.0"
    folder = files_of(None) / preset
    network = filled(NETWORKS[preset](), read_tensors(*((folder / suffix).read_bytes() for suffix in (INDEX, DATA))))
    assert network(patches())[0, ::20].tolist() == pytest.approx(PEER["published"][preset], abs=1e-4)


def test_a_checkpoint_of_tensorflow_is_read():
    found = read_tensors(*small())
    # Of other types there are none: a step counter is left out.
    assert len(found) == 3 + 120
    assert found["first/kernel"] == pytest.approx(drawn("first/kernel", (3, 4, 5)), abs=1e-6)
    assert found["scalar"].shape == ()
    assert float(found["scalar"]) == 2.5
    assert found["second_layer_with_a_long_name/many/119"] == pytest.approx(drawn("119", (2,)), abs=1e-6)


def test_damage_is_noticed():
    index, data = small()
    for place in (100, 1000, len(index) - 60):
        with pytest.raises(ValueError, match="damaged"):
            read_tensors(index[:place] + bytes([index[place] ^ 1]) + index[place + 1 :], data)
    with pytest.raises(ValueError, match="checksum"):
        read_tensors(index, data[:300] + bytes([data[300] ^ 128]) + data[301:])
    with pytest.raises(ValueError, match="not all of it"):
        read_tensors(index, data[:-4])
    with pytest.raises(ValueError, match="no index"):
        read_tensors(b"text", data)


def test_crc_is_castagnolis():
    # The check value of the polynomial, and 32 zeros and ones of RFC 3720.
    assert crc32c(b"123456789") == 0xE3069283
    assert (crc32c(bytes(32)), crc32c(b"\xff" * 32)) == (0x8A9136AA, 0x62A8AB43)
    noise = np.random.RandomState(0).bytes(5000)
    assert crc32c(noise) == slow_crc(noise)
    assert checksum(b"") == 0xA282EAD8


def slow_crc(content):
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ 0x82F63B78 * (register & 1)
    return register ^ 0xFFFFFFFF


def test_short_sound_is_repeated_and_long_sound_cut():
    sound = 0.1 * torch.randn(25600, generator=torch.Generator().manual_seed(0))
    frames = log_mel(sound)
    assert frames.shape == (101, 96)
    found = patches_of(sound)
    assert torch.equal(found[0], torch.cat([frames, frames])[:FRAMES])
    assert patches_of(sound.repeat(4)).shape == (2, FRAMES, MELS)
    assert float(log_mel(torch.zeros(4000)).max()) == 0.0


def test_it_says_where_its_files_come_from(tmp_path):
    if find_spec("musicnn") is None:
        with pytest.raises(UsageError, match="pip install --no-deps musicnn"):
            open_extractor("musicnn")
    with pytest.raises(DataError, match="neither a folder nor a wheel"):
        open_extractor(f"musicnn={tmp_path / 'none.whl'}")
    with pytest.raises(DataError, match="no checkpoint of musicnn"):
        open_extractor(f"musicnn={tmp_path}")
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        for suffix, content in zip((INDEX, DATA), small(), strict=True):
            wheel.writestr(f"musicnn/MSD_vgg/{suffix}", content)
    with pytest.raises(DataError, match="no checkpoint of musicnn"):
        open_extractor(f"musicnn={tmp_path / 'other.whl'}")
