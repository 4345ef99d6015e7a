"""What is kept of a clip is what is got back, with every version of NumPy."""

from zipfile import ZipFile

import numpy as np

from mmdisco_cli.measures.cache import Cache


def older(file, **arrays):
    """Save as NumPy does before 2.1: every keyword is an array, `allow_pickle` too."""
    with ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, np.asarray(array))


def test_what_is_kept_is_what_is_got_back(tmp_path, monkeypatch):
    arrays = {"loud": np.ones((1, 2)), "top": np.zeros(1)}
    monkeypatch.setattr(np, "savez", older)
    cache = Cache(tmp_path)
    cache.put("0123", "loud-1", arrays)
    found = cache.get("0123", "loud-1")
    assert found is not None
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
