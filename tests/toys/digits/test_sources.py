"""Where digits come from: files in idx format, what is missing, and a download from a stand-in for the network."""

import gzip
import io
import struct
import tarfile
from urllib.error import URLError

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.toys.digits import sources
from mmdisco_cli.toys.digits.dataset import build
from mmdisco_cli.toys.digits.options import DigitsOptions
from mmdisco_cli.toys.digits.spoken import open_spoken
from mmdisco_cli.toys.digits.written import open_written, read_idx


def idx(array, code=8):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.numpy().tobytes()


def write_pair(folder, name="t10k", n=3, pack=lambda data: data, suffix=""):
    images = torch.arange(n * 784).reshape(n, 28, 28).to(torch.uint8)
    (folder / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
    (folder / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(torch.arange(n).to(torch.uint8))))
    return images


def test_plain_and_packed_idx_are_the_same(tmp_path):
    for name in ("plain", "packed", "both"):
        (tmp_path / name).mkdir()
    images = write_pair(tmp_path / "plain")
    write_pair(tmp_path / "packed", pack=gzip.compress, suffix=".gz")
    write_pair(tmp_path / "both")
    write_pair(tmp_path / "both", pack=gzip.compress, suffix=".gz")
    for name in ("plain", "packed", "both"):
        found = open_written(tmp_path / name)
        assert torch.equal(found.images, images)
        assert found.digits.tolist() == [0, 1, 2]


def test_each_file_counts_its_own_positions_in_order_of_name(tmp_path):
    write_pair(tmp_path, "train", 4)
    write_pair(tmp_path, "t10k", 2)
    assert open_written(tmp_path).positions.tolist() == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not an idx file of bytes"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an idx file of bytes"),
        (b"\0\0\x08\x03\0\0", "not an idx file of bytes"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "holds 3 bytes where its header says 5"),
        (b"\x1f\x8b\x08", "cannot be read"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x01a")[:-4], "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, text):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=text):
        read_idx(tmp_path / "x")


def test_images_and_labels_must_fit(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        open_written(tmp_path / "none")
    with pytest.raises(DataError, match="holds no images in idx format"):
        open_written(tmp_path)
    write_pair(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.tensor([1, 2, 11], dtype=torch.uint8)))
    with pytest.raises(DataError, match="holds 11, which is not a digit"):
        open_written(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.tensor([1, 2], dtype=torch.uint8)))
    with pytest.raises(DataError, match="do not go with"):
        open_written(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="its labels t10k-labels-idx1-ubyte are not beside it"):
        open_written(tmp_path)


@pytest.mark.parametrize(
    ("modality", "key", "source", "licence"),
    [
        ("audio", "data.spoken", "free-spoken-digit-dataset", "BY-SA 4.0"),
        ("image", "data.written", "MNIST", "BY-SA 3.0"),
    ],
)
def test_what_is_missing_is_said_with_where_it_comes_from(modality, key, source, licence):
    with pytest.raises(UsageError, match=key) as caught:
        build(DigitsOptions(), Request(), (modality,))
    assert source in str(caught.value)
    assert licence in str(caught.value)
    assert "--set data.download=true" in str(caught.value)


def test_the_option_for_downloads_counts_as_the_recipes_own(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CACHE", tmp_path)
    archived = io.BytesIO(archive(["x/0_jo_1.wav"]))
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "1")
    assert sources.find_spoken(DigitsOptions(), lambda address: archived) == tmp_path / "recordings"
    assert sources.find_spoken(DigitsOptions(spoken="mine")).name == "mine"
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "0")
    with pytest.raises(UsageError, match="--download"):
        sources.find_spoken(DigitsOptions())


def test_hidden_files_beside_digits_are_none_of_them(tmp_path, spoken):
    write_pair(tmp_path)
    (tmp_path / "._t10k-images-idx3-ubyte").write_bytes(b"what another system has left here")
    assert len(open_written(tmp_path).images) == 3
    for k, file in enumerate(sorted(spoken.iterdir())[:4]):
        name = file.with_suffix(".WAV").name if k % 2 else file.name
        (tmp_path / name).write_bytes(file.read_bytes())
        (tmp_path / f"._{name}").write_bytes(b"what another system has left here")
    found = open_spoken(tmp_path, (), 1.0, 16000)
    assert len(found.recordings) == 4
    assert found.report == ()
    assert found.stacked(range(4)).abs().amax((1, 2)).min() > 0.01


def test_words_need_no_data():
    assert build(DigitsOptions(), Request(), ("word",)).media([0], ("word",))["word"].shape == (1, 5)


def archive(names):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"wav"))
    return held.getvalue()


def test_recordings_are_downloaded_once(tmp_path):
    requested = []

    def open_url(address):
        requested.append(address)
        return io.BytesIO(archive(["x-1/recordings/0_jo_1.wav", "x-1/../../2_jo_1.wav", "x-1/README.md"]))

    for _ in range(2):
        folder = sources.fetch_spoken(tmp_path / "cache", open_url)
        # Whatever path a member has, only its name counts.
        assert sorted(path.name for path in folder.iterdir()) == ["0_jo_1.wav", "2_jo_1.wav"]
    assert requested == [sources.SPOKEN_URL]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["recordings"]


@pytest.mark.parametrize("content", [b"no archive", archive(["x/README.md"]), archive(["a/0_jo_1.wav"])[:60]])
def test_a_failed_download_leaves_nothing_and_says_where_to_get_it(tmp_path, content):
    with pytest.raises(DataError, match=r"cannot be fetched .*free-spoken-digit-dataset"):
        sources.fetch_spoken(tmp_path, lambda address: io.BytesIO(content))
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_one_line(tmp_path):
    def open_url(address):
        raise URLError("unreachable")

    with pytest.raises(DataError, match="unreachable"):
        sources.fetch_spoken(tmp_path, open_url)


def test_images_are_downloaded_by_torchvision(tmp_path, monkeypatch):
    class Stand:
        def __init__(self, root, *, train, download):
            assert download
            folder = tmp_path / "MNIST" / "raw"
            folder.mkdir(parents=True, exist_ok=True)
            assert root == str(tmp_path)
            write_pair(folder, "train" if train else "t10k")

    monkeypatch.setattr(sources, "MNIST", Stand)
    assert len(open_written(sources.fetch_written(tmp_path)).images) == 6

    def fails(*args, **options):
        raise RuntimeError("Error downloading t10k\nmore")

    monkeypatch.setattr(sources, "MNIST", fails)
    with pytest.raises(DataError, match=r"MNIST: cannot be fetched .Error downloading t10k.; data.written"):
        sources.fetch_written(tmp_path)
