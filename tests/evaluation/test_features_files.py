"""Features made elsewhere, and two runs beside each other, through the command line."""

import csv
import json
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.errors import DataError, ExitCode
from mmdisco_cli.evaluation.features_files import load_features
from mmdisco_cli.evaluation.tables import write_rows
from mmdisco_cli.measures.frechet import distance, fitted

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def draw(n, d, seed, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def compared(capsys, *arguments):
    assert mmdisco(["eval", *arguments, "--json"]) == ExitCode.OK
    return json.loads(capsys.readouterr().out)


def test_features_and_their_moments_give_one_frechet_distance(capsys):
    x, y = draw(300, 6, 0), draw(250, 6, 1, 0.5)
    np.savez("real.npz", x.astype(np.float32))
    np.savez("fake.npz", features=y.astype(np.float32), other=np.zeros(3))
    np.savez("real-moments.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    found = compared(capsys, "--features", "real.npz", "fake.npz")
    fd = found["metrics"]["fd"]["samples"]
    assert {key: fd[key] for key in ("n", "n_reference", "dimension")} == {"n": 250, "n_reference": 300, "dimension": 6}
    moments = compared(capsys, "--features", "real-moments.npz", "fake.npz")["metrics"]
    assert moments.keys() == {"fd"}
    assert moments["fd"]["samples"]["value"] == pytest.approx(fd["value"], rel=1e-5)
    assert found["metrics"]["kd"]["samples"]["subsets"]["size"] == 125
    assert len(found["protocol"]["files"]["fake"]["sha256"]) == 64


def test_the_kernel_distance_is_unscaled_and_unbiased(capsys):
    x, y = draw(7, 5, 2), draw(9, 5, 3, 1.0) * 3
    np.save("x.npy", x)
    np.save("y.npy", y)

    def mean(a, b, own):
        kernel = (a @ b.T / 5 + 1) ** 3
        return (kernel.sum() - np.trace(kernel)) / (len(a) * (len(a) - 1)) if own else kernel.mean()

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    found = compared(capsys, "--features", "x.npy", "y.npy")["metrics"]["kd"]["samples"]
    assert found["value"] == pytest.approx(expected, rel=1e-9)


def test_few_clips_are_warned_of_and_a_set_is_at_0_from_itself(capsys):
    np.savez("a.npz", draw(20, 40, 4))
    assert mmdisco(["eval", "--features", "a.npz", "a.npz", "--json"]) == ExitCode.OK
    output = capsys.readouterr()
    assert "warning: fd: 20 clips for 40 dimensions" in output.err
    assert json.loads(output.out)["metrics"]["fd"]["samples"]["value"] == 0


def test_numerics_of_a_publication_stand_beside_the_exact_ones(capsys):
    x = draw(60, 200, 0) * 0.001
    np.save("x.npy", x)
    np.save("y.npy", x[::-1])
    found = compared(capsys, "--features", "x.npy", "y.npy", "--compat", "mm-diffusion")["metrics"]
    assert found["fd"]["samples"]["value"] == 0.0
    # By MM-Diffusion's a set is at a distance from itself.
    assert found["fd_mm_diffusion"]["samples"]["value"] > 1e-9
    assert found["fd_mm_diffusion"]["protocol"]["of_itself"] > 1e-9
    assert mmdisco(["eval", "--features", "x.npy", "y.npy", "--compat", "mm-diffusion"]) == ExitCode.OK
    assert "so figures of that size are mostly float32 rounding" in capsys.readouterr().err
    assert mmdisco(["eval", "--features", "x.npy", "y.npy", "--compat", "nobody"]) == ExitCode.USAGE
    assert "--compat nobody: unknown" in capsys.readouterr().err


def test_what_cannot_be_compared_is_said_in_a_line(capsys):
    np.savez("a.npz", draw(20, 4, 0))
    np.savez("wide.npz", draw(20, 5, 0))
    np.savez("nan.npz", np.full((20, 4), np.nan))
    np.savez("two.npz", a=draw(4, 4, 0), b=draw(4, 4, 1))
    np.savez("words.npz", np.array([["a", "b"]]))
    Path("text.npz").touch()
    cases = {
        "wide.npz": "of 5 and of 4 dimensions",
        "nan.npz": "not all of its numbers are finite",
        "two.npz": "expected one array",
        "words.npz": "not numbers",
        "text.npz": "no NumPy file",
        "absent.npz": "No such file",
    }
    for name, text in cases.items():
        assert mmdisco(["eval", "--features", "a.npz", name]) == ExitCode.DATA
        assert text in capsys.readouterr().err, name
    assert mmdisco(["eval", "--features", "a.npz", "a.npz", "--samples", "x"]) == ExitCode.USAGE


def test_bytes_of_any_kind_are_no_features_and_never_a_traceback():
    draws = random.Random(0)
    np.savez_compressed("packed.npz", features=draw(12, 4, 0))
    np.savez("moments.npz", mu=np.zeros(2), sigma=np.eye(2), n=9)
    np.save("plain.npy", draw(12, 4, 0))
    read = 0
    for name in ("packed.npz", "moments.npz", "plain.npy"):
        whole = Path(name).read_bytes()
        for k in range(300):
            part = bytearray(whole[: draws.randrange(len(whole))] if k % 3 == 0 else whole)
            for place in (draws.randrange(len(part) or 1) for _ in range(k % 3)):
                part[place] = draws.randrange(256)
            Path("broken").write_bytes(part)
            # Anything else that is raised fails the test.
            with suppress(DataError):
                load_features(Path("broken"))
                read += 1
    assert read < 300


def test_a_damaged_stream_of_compressed_numbers_is_bad_data(capsys):
    np.savez_compressed("a.npz", features=draw(20, 4, 0))
    damaged = bytearray(Path("a.npz").read_bytes())
    damaged[60:200] = bytes(140)
    Path("damaged.npz").write_bytes(damaged)
    assert mmdisco(["eval", "--features", "a.npz", "damaged.npz"]) == ExitCode.DATA
    assert "damaged.npz: no NumPy file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sigma": -np.eye(2)}, "no eigenvalue below 0, as -1 is"),
        ({"sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "no eigenvalue below 0, as -1 is"),
        ({"sigma": np.array([[1.0, 5.0], [0.0, 1.0]])}, "a covariance is symmetric"),
        ({"sigma": np.eye(3)}, "must be"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "must be"),
        ({"n": np.arange(3)}, "n must be one whole number"),
        ({"n": -4}, "n must be one whole number"),
        ({"n": "many"}, "not numbers"),
    ],
)
def test_moments_of_no_set_are_refused(change, text, capsys):
    whole = {"mu": np.zeros(2), "sigma": np.eye(2), "n": 9}
    np.savez("good.npz", **whole)
    np.savez("bad.npz", **whole | change)
    assert mmdisco(["eval", "--features", "good.npz", "bad.npz"]) == ExitCode.DATA
    error = capsys.readouterr().err
    assert text in error
    assert "bad.npz: " in error


def test_moments_that_single_precision_has_rounded_are_taken():
    # Of fewer clips than dimensions: half of the eigenvalues are 0, or what rounding makes of that.
    x = (draw(20, 40, 6) + 30).astype(np.float32)
    covariance = np.cov(x, rowvar=False, dtype=np.float32)
    assert np.linalg.eigvalsh(covariance)[0] < 0
    covariance[0, 1] *= 1 + 1e-6
    np.savez("rounded.npz", mu=x.mean(0), sigma=covariance)
    loaded = load_features(Path("rounded.npz")).gaussian
    assert distance(loaded, fitted(torch.from_numpy(x))) == pytest.approx(0, abs=1e-3)


def test_what_has_no_dimensions_or_no_size_is_refused(capsys):
    np.save("a.npy", draw(20, 4, 0))
    for name, array, text in (
        ("flat", np.zeros((9, 0)), "no dimensions"),
        ("huge", draw(9, 4, 0) * 1e120, "exceed 1e50"),
        ("objects", np.array([[1, None]]), "no NumPy file without pickles"),
    ):
        np.save(name, array, allow_pickle=True)
        assert mmdisco(["eval", "--features", "a.npy", f"{name}.npy"]) == ExitCode.DATA
        assert text in capsys.readouterr().err


def test_no_figure_hangs_on_the_order_of_clips_that_begin_alike(capsys):
    x, y = np.maximum(draw(60, 24, 7), 0), np.maximum(draw(50, 24, 8), 0)
    x[:, :10] = y[:, :10] = 0
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.save("other.npy", x[np.random.default_rng(9).permutation(60)])
    found = [compared(capsys, "--features", name, "y.npy")["metrics"] for name in ("x.npy", "other.npy")]
    assert found[0] == found[1]


def run_of(folder, row, values):
    folder.mkdir()
    with (folder / "clips.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "path", "av_align", "flags", "av_lag"])
        writer.writerow(["real", "0.mp4", 1.0, "", 0.0])
        for name, value in values.items():
            writer.writerow([row, f"x/{name}.mp4", value, "silent", ""])


def test_runs_are_compared_clip_by_clip(tmp_path, capsys):
    noise = np.random.default_rng(0).uniform(0, 1, 40)
    run_of(tmp_path / "a", "independent", dict(enumerate(noise)))
    run_of(tmp_path / "b", "guided", dict(enumerate(noise + 0.05)))
    found = compared(capsys, "--compare", "a", "b", "--out", "both")
    difference = found["metrics"]["av_align"]["difference"]
    # Paired: the clips differ by far more than the runs, and still the interval is narrow.
    assert difference["value"] == pytest.approx(0.05)
    assert difference["high"] - difference["low"] < 1e-9
    assert (found["n"], found["metrics"].keys()) == (40, {"av_align"})
    assert json.loads((tmp_path / "both" / "metrics.json").read_text()) == found


def test_guided_samples_stand_for_a_run_that_also_has_independent_ones(tmp_path, capsys):
    for name, shift in (("a", 0.0), ("b", 0.25)):
        run_of(tmp_path / name, "guided", {k: k / 8 + shift for k in range(4)})
        with (tmp_path / name / "clips.csv").open("a") as stream:
            stream.writelines(f"independent,y/{k}.mp4,0.5,,\n" for k in range(4))
    found = compared(capsys, "--compare", "a", "b")
    assert (found["n"], found["metrics"]["av_align"]["difference"]["value"]) == (4, 0.25)


def test_the_verdict_says_which_run_is_better_or_that_none_is(tmp_path, capsys):
    noise = np.random.default_rng(1).uniform(0, 1, 40)
    for name, values in (("a", noise), ("b", noise + 0.05), ("c", noise[::-1])):
        run_of(tmp_path / name, "samples", dict(enumerate(values)))
    for other, text in (("b", "the second run is better"), ("c", "no difference is certain")):
        assert mmdisco(["eval", "--compare", "a", other]) == ExitCode.OK
        assert text in capsys.readouterr().err


def test_a_run_kept_as_parquet_compares_too(tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    rows = [{"row": "guided", "path": f"{k}.mp4", "sha256": "0", "flags": "", "av_align": 0.0} for k in range(4)]
    for name, value in (("a", 0.0), ("b", 0.5)):
        Path(name).mkdir()
        write_rows(Path(name) / "clips.parquet", [{**row, "av_align": value} for row in rows])
    found = compared(capsys, "--compare", "a", "b")["metrics"]["av_align"]
    assert (found["a"]["value"], found["difference"]["value"], found["n"]) == (0.0, 0.5, 4)


def test_runs_without_clips_in_common_do_not_compare(tmp_path, capsys):
    run_of(tmp_path / "a", "samples", {"p": 1.0})
    run_of(tmp_path / "b", "samples", {"q": 1.0})
    for other, text in (("b", "no clips of the same names"), ("absent", "No such file")):
        assert mmdisco(["eval", "--compare", "a", other]) == ExitCode.DATA
        assert text in capsys.readouterr().err
