"""The bank: encoded once, in half precision, and resumed where it was interrupted."""

import os

import pytest
import torch
from safetensors.torch import load_file

from mmdisco_cli.data import bank
from mmdisco_cli.data.bank import latent_bank
from mmdisco_cli.errors import DataError
from mmdisco_cli.run import partial


class Counted:
    """A data set that remembers which clips it was asked for: clip i is the number i."""

    def __init__(self, length=None, fingerprint="counted"):
        self.length, self.fingerprint, self.asked = length, fingerprint, []

    def media(self, indices, modalities):
        assert modalities == ("audio",)
        self.asked += list(indices)
        return {"audio": torch.tensor(list(indices), dtype=torch.float32).view(-1, 1, 1)}


def encode(media):
    return media.expand(-1, 2, 3) + 0.1


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(bank, "SHARD", 8)


def make(dataset, root, count=20, codec="c", encode=encode, show=None):
    return latent_bank(dataset, "audio", count, encode, codec, root, show)


def test_latents_in_order_and_in_half_precision(tmp_path):
    latents = make(Counted(), tmp_path)
    assert latents.dtype == torch.float16
    assert latents.shape == (20, 2, 3)
    assert torch.equal(latents[:, 1, 2], (torch.arange(20) + 0.1).half())
    shards = sorted(tmp_path.rglob("*.safetensors"))
    assert [len(load_file(path)["latent"]) for path in shards] == [8, 8, 4]
    assert all(load_file(path)["latent"].dtype == torch.float16 for path in shards)


def test_shards_are_reused(tmp_path):
    first = make(Counted(), tmp_path)
    again = Counted()
    assert torch.equal(make(again, tmp_path), first)
    assert again.asked == []


def test_a_larger_bank_only_adds(tmp_path):
    make(Counted(), tmp_path, count=16)
    more = Counted()
    assert len(make(more, tmp_path, count=24)) == 24
    assert more.asked == list(range(16, 24))


def test_an_interrupted_bank_goes_on(tmp_path):
    def killed(media):
        if media.max() > 15:
            raise KeyboardInterrupt
        return encode(media)

    with pytest.raises(KeyboardInterrupt):
        make(Counted(), tmp_path, encode=killed)
    after = Counted()
    latents = make(after, tmp_path)
    assert after.asked == [16, 17, 18, 19]
    assert torch.equal(latents, make(Counted(), tmp_path / "elsewhere"))


def test_an_interrupted_write_leaves_no_shard(tmp_path, largest_file):
    with largest_file(100), pytest.raises(DataError, match=r"00000000-8\.safetensors: cannot write"):
        make(Counted(), tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert len(make(Counted(), tmp_path)) == 20


def test_what_a_killed_run_left_beside_a_shard_is_removed(tmp_path):
    make(Counted(), tmp_path)
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    partial.sweep.cache_clear()
    left = folder / ".mmdisco-1-00000000.part"
    left.touch()
    os.utime(left, (0, 0))
    make(Counted(), tmp_path, count=24)
    assert not left.exists()


def test_a_shard_may_be_read_as_any_new_file(tmp_path):
    make(Counted(), tmp_path)
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in tmp_path.rglob("*.safetensors")} == {(tmp_path / "any").stat().st_mode}


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        make(Counted(), tmp_path / "file")


def test_a_damaged_shard_is_named(tmp_path):
    make(Counted(), tmp_path)
    damaged = sorted(tmp_path.rglob("*.safetensors"))[1]
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(DataError, match=damaged.name):
        make(Counted(), tmp_path)


def test_a_finite_data_set_gives_what_it_has(tmp_path):
    assert len(make(Counted(length=11), tmp_path)) == 11


@pytest.mark.parametrize(("fingerprint", "codec"), [("other", "c"), ("counted", "other")])
def test_other_clips_or_another_codec_are_another_bank(tmp_path, fingerprint, codec):
    make(Counted(), tmp_path)
    other = Counted(fingerprint=fingerprint)
    make(other, tmp_path, codec=codec)
    assert other.asked == list(range(20))


def test_progress_is_shown(tmp_path):
    seen = []
    make(Counted(), tmp_path, show=lambda done, of: seen.append((done, of)))
    assert seen == [(8, 20), (16, 20), (20, 20)]
