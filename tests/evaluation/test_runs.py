"""What `mmdisco eval` says of folders of clips, and of two runs beside each other.

Which clips belong together, what few of them can show, and that nothing is compared, overwritten or left out silently.
"""

import csv
import io
import json
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.errors import DataError, ExitCode
from mmdisco_cli.evaluation.compare import read_clips
from mmdisco_cli.evaluation.tables import write_rows
from mmdisco_cli.measures.bootstrap import LEAST, estimate, gap_closed, mean_of
from mmdisco_cli.run import console

pytestmark = pytest.mark.usefixtures("in_empty_folder")
TOO_FEW = "too few pairs to tell, it takes 6: "


def write_clip(path, seed):
    """Write 1.6 s of audio and video that no other seed shares."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(3, 16, 32, 32, generator=generator) * 2 - 1
    return write_mp4(path, video, 0.1 * torch.randn(1, 25600, generator=generator), 10, 16000)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of clips in two subfolders that use the same names, and one of the same clips in reverse order."""
    folder = tmp_path_factory.mktemp("videos")
    names = [f"{sub}/{k}.mp4" for sub in "ab" for k in range(3)]
    for seed, name in enumerate(names):
        write_clip(folder / "one" / name, seed)
    for name, source in zip(names, reversed(names), strict=True):
        (folder / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "one" / source, folder / "other" / name)
    return folder


def evaluated(capsys, *arguments):
    """Run `mmdisco eval` and return its JSON object and its messages."""
    capsys.readouterr()
    code = mmdisco(["eval", "--json", *map(str, arguments)])
    printed = capsys.readouterr()
    assert code == ExitCode.OK, printed.err
    return json.loads(printed.out), printed.err


def refused(capsys, *arguments):
    """Run what is wrong usage and return what was said of it."""
    capsys.readouterr()
    assert mmdisco(["eval", *map(str, arguments)]) == ExitCode.USAGE
    return capsys.readouterr().err


def rows_of(path):
    with Path(path).open(newline="") as stream:
        return list(csv.DictReader(stream))


def run_of(folder, values, how=None, metrics=None, **more):
    """Write what a run leaves: a value of av_align by path of the clip, and how it was measured."""
    folder.mkdir()
    with (folder / "clips.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "path", "av_align", *more])
        writer.writerows(["samples", path, value, *more.values()] for path, value in values.items())
    if how is not None:
        content = {"metrics": metrics or {}, "protocol": how}
        (folder / "metrics.json").write_text(json.dumps(content))


@pytest.mark.parametrize("made", [True, False])
def test_samples_are_not_called_what_they_are_not(videos, capsys, made):
    kinds = ("independent", "guided") if made else ("guided", "independent")
    option = "--samples" if made else "--independent"
    shutil.copytree(videos / "one", "made")
    Path("made/settings.json").write_text(json.dumps({"independent": made}))
    arguments = {"--samples": videos / "other", "--independent": videos / "other", option: "made"}
    said = refused(capsys, *(word for pair in arguments.items() for word in pair))
    assert said == f"error: {option} made: holds {kinds[0]} samples, which the report would call {kinds[1]}\n"
    if made:
        said = refused(capsys, "--recipe", "bounce", "--samples", "made")
        assert "holds independent samples, which the report would call guided" in said


def test_clips_of_one_name_in_two_subfolders_are_two_clips(videos, capsys):
    _, output = evaluated(capsys, "--samples", videos / "one", "--independent", videos / "other", "--out", "first")
    page = Path("first/report.html").read_text()
    assert "over 6 pairs" in page
    captions = re.findall(r"<figcaption>independent · (.*?)</figcaption>", page)
    assert sorted(captions) == sorted(f"{sub}/{k}.mp4" for sub in "ab" for k in range(3))
    rows = {(row["row"], row["name"]): row for row in rows_of("first/clips.csv")}
    assert len(rows) == 12
    assert rows["guided", "a/0.mp4"]["sha256"] == rows["independent", "b/2.mp4"]["sha256"]

    evaluated(capsys, "--samples", videos / "other", "--out", "second")
    found, output = evaluated(capsys, "--compare", "first", "second")
    assert (found["n"], found["protocol"]["unpaired"]) == (6, {"a": 0, "b": 0})
    assert "left out" not in output
    # Every clip of one run is another's clip in the other, so that nothing but their order differs.
    assert found["metrics"]["av_align_gain"]["difference"]["value"] == pytest.approx(0, abs=1e-12)
    assert found["metrics"]["av_align_gain"]["difference"]["low"] < 0


def test_runs_without_names_pair_by_what_lies_below_their_common_folder(tmp_path, capsys):
    values = {f"x/{sub}/{k}.mp4": k + 0.5 * (sub == "b") for sub in "ab" for k in range(5)}
    run_of(tmp_path / "old", values)
    run_of(tmp_path / "flat", {f"x/{k}.mp4": k for k in range(5)})
    assert read_clips(tmp_path / "old").keys() == {f"{sub}/{k}.mp4" for sub in "ab" for k in range(5)}
    assert read_clips(tmp_path / "flat").keys() == {f"{k}.mp4" for k in range(5)}
    run_of(tmp_path / "bare", {"0.mp4": 1.0, "s/0.mp4": 2.0})
    assert read_clips(tmp_path / "bare").keys() == {"0.mp4", "s/0.mp4"}
    run_of(tmp_path / "less", {path: value for path, value in values.items() if path != "x/a/3.mp4"})
    found, output = evaluated(capsys, "--compare", "old", "less")
    assert found["n"] == 9
    assert "warning: 1 clips of old or less have none of their name in the other: left out" in output


def test_a_table_of_clips_without_what_pairs_them_is_refused_in_one_line(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clips.csv").write_text("clip,av_align\n1.mp4,0.5\n")
    assert mmdisco(["eval", "--compare", str(tmp_path / "a"), str(tmp_path / "b")]) == ExitCode.DATA
    told = capsys.readouterr().err
    assert "its table of clips says neither row nor name" in told
    assert "Traceback" not in told


def test_one_clip_has_no_interval():
    assert estimate(mean_of([0.125]), 0).as_json() == {"value": 0.125, "low": None, "high": None}
    many, one = mean_of([0.1, 0.2, 0.3] * 10), mean_of([0.15])
    assert gap_closed(mean_of([0.5, 0.6]), many, one, 0).as_json()["low"] is None
    assert estimate(mean_of([0.125, 0.25]), 0).low == 0.125


@pytest.mark.parametrize("pairs", [1, LEAST - 1, LEAST])
def test_a_handful_of_pairs_is_no_verdict(pairs, tmp_path, capsys):
    for name, shift in (("a", 0.0), ("b", 0.25)):
        run_of(tmp_path / name, {f"{k}.mp4": k / 8 + shift for k in range(pairs)})
    found, output = evaluated(capsys, "--compare", "a", "b")
    assert (TOO_FEW in output, "the second run is better" in output) == (pairs < LEAST, pairs >= LEAST)
    shown = "0.250 over 1 pair\n" if pairs == 1 else f"0.250 [0.250, 0.250] over {pairs} pairs\n"
    assert shown in output
    assert found["metrics"]["av_align"]["difference"]["value"] == 0.25


@pytest.mark.parametrize(("clips", "few"), [(1, True), (6, False)])
def test_a_report_of_a_handful_of_clips_says_that_they_are_few(videos, capsys, clips, few):
    for name in ("one", "other"):
        Path(name).mkdir()
        for k in range(clips):
            shutil.copy(videos / name / f"{'ab'[k // 3]}/{k % 3}.mp4", Path(name) / f"{k}.mp4")
    page = Path("runs/eval/report.html")
    found, _ = evaluated(capsys, "--samples", "one", "--independent", "other")
    assert ("Too few pairs to tell whether guidance helped: it takes 6." in page.read_text()) == few
    evaluated(capsys, "--samples", "one")
    assert ("Too few clips to tell whether" in page.read_text()) == few
    if few:
        assert found["metrics"]["av_align"]["guided"]["value"] is not None
        assert found["metrics"]["av_align"]["guided"]["low"] is None


def test_rows_in_another_format_take_the_place_of_the_old_ones(videos, capsys):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    samples = ("--samples", videos / "one" / "a")
    evaluated(capsys, *samples, "--out", "run")
    evaluated(capsys, *samples, "--out", "run", "--rows", "parquet", "--av-align-rule", "javisbench")
    assert not Path("run/clips.csv").exists()
    packed = read_clips(Path("run"))
    evaluated(capsys, *samples, "--out", "run", "--av-align-rule", "javisbench")
    assert not Path("run/clips.parquet").exists()
    assert read_clips(Path("run")) == packed


def test_rows_of_the_other_format_do_not_stay(tmp_path):
    (tmp_path / "clips.parquet").touch()
    (tmp_path / "other.parquet").touch()
    write_rows(tmp_path / "clips.csv", [{"row": "samples", "path": "0.mp4"}])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.csv", "other.parquet"]


def test_runs_that_were_measured_otherwise_do_not_compare(tmp_path, capsys):
    values = {f"{k}.mp4": k / 8 for k in range(8)}
    ours = {"av_align": {"rule": "tempotokens-2025", "shorter_side": 128, "fps": 10.0, "flow": "F", "chance": "c"}}
    theirs = {"av_align": {**ours["av_align"], "rule": "javisbench", "shorter_side": "native", "chance": "reworded"}}
    network = {"extractor": "Net", "measure": "m", "weights": {"file": "w.pth", "sha256": "0" * 64}}
    moved = {**network, "weights": {"file": "moved.pth", "sha256": "0" * 64}}
    other = {**network, "weights": {"file": "w.pth", "sha256": "1" * 64}}
    run_of(tmp_path / "a", values, ours | {"versions": {"av": "14"}}, {"net": {"protocol": network}}, net=1)
    run_of(tmp_path / "b", values, theirs, {"net": {"protocol": network}}, net=1)
    run_of(tmp_path / "c", values, ours, {"net": {"protocol": other}}, net=1)
    run_of(tmp_path / "d", values, ours | {"versions": {"av": "15"}}, {"net": {"protocol": moved}}, net=1)
    run_of(tmp_path / "e", values, net=1)

    output = refused(capsys, "--compare", "a", "b")
    assert "error: av_align rule: tempotokens-2025 in a, javisbench in b" in output
    assert "error: av_align shorter_side: 128 in a, native in b" in output
    assert output.count("error:") == 3
    assert f"net weights: SHA-256 {'0' * 64} in a" in refused(capsys, "--compare", "a", "c")
    _, output = evaluated(capsys, "--compare", "a", "d")
    assert "warning: a and d were measured by different versions: av 14 and 15" in output
    _, output = evaluated(capsys, "--compare", "a", "e")
    assert "warning: e: no metrics.json" in output
    (tmp_path / "e" / "metrics.json").write_text("{")
    assert mmdisco(["eval", "--compare", "a", "e"]) == ExitCode.DATA


def test_what_is_measured_by_another_rule_is_distinguished_in_real_runs(videos, capsys):
    for name, more in (("a", ()), ("b", ("--av-align-rule", "javisbench", "--analysis-fps", "native"))):
        evaluated(capsys, "--samples", videos / "one" / "a", "--out", name, *more)
    output = refused(capsys, "--compare", "a", "b")
    assert "av_align rule: tempotokens-2025 in a, javisbench in b" in output
    assert "av_align fps: 10.0 in a, native in b" in output


def test_comparing_leaves_what_is_compared(videos, capsys):
    evaluated(capsys, "--samples", videos / "one" / "a")
    before = Path("runs/eval/metrics.json").read_bytes()
    evaluated(capsys, "--compare", "runs/eval", "runs/eval")
    assert Path("runs/eval/metrics.json").read_bytes() == before
    assert Path("runs/compare/metrics.json").is_file()
    assert "is one of the runs that are compared" in refused(
        capsys, "--compare", "runs/eval", "runs/eval", "--out", "runs/eval/../eval"
    )
    np.save("p.npy", np.random.default_rng(0).normal(size=(8, 2)))
    evaluated(capsys, "--features", "p.npy", "p.npy")
    assert Path("runs/features/metrics.json").is_file()
    assert Path("runs/eval/metrics.json").read_bytes() == before


def test_a_file_name_that_is_no_text_is_escaped_wherever_it_is_shown(capsys, monkeypatch):
    name, output = os.fsdecode(b"caf\xe9"), r"caf\udce9"
    try:
        write_clip(Path("videos") / name / f"{name}.mp4", 0)
    except (DataError, OSError):
        pytest.skip("this file system has no such names")
    (Path("videos") / f"{name}.mp4").write_bytes(b"no video")
    # Warnings go to a stream that escapes by itself, unlike the one that stands in for it here.
    monkeypatch.setattr(console, "warn", lambda text: None)
    arguments = ("--samples", "videos", "--max-bad", "0.5")
    found, _ = evaluated(capsys, *arguments)
    # JSON has an escape for such bytes, by which they read back as they were.
    assert [bad["path"] for bad in found["protocol"]["unusable"]] == [f"videos/{name}.mp4"]
    assert json.loads(Path("runs/eval/metrics.json").read_text(encoding="utf-8")) == found
    assert [row["name"] for row in rows_of("runs/eval/clips.csv")] == [f"{output}/{output}.mp4"]
    assert f"samples · {output}/{output}.mp4" in Path("runs/eval/report.html").read_text(encoding="utf-8")
    assert evaluated(capsys, "--compare", "runs/eval", "runs/eval")[0]["n"] == 1
    if find_spec("pyarrow"):
        evaluated(capsys, *arguments, "--rows", "parquet")
        assert read_clips(Path("runs/eval")).keys() == {f"{output}/{output}.mp4"}


def test_a_path_that_is_no_text_is_printed_as_the_bytes_that_open_it(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", stream)
    console.result("before")
    console.result(os.fsdecode(b"caf\xe9.mp4"))
    console.record({"path": os.fsdecode(b"caf\xe9.mp4"), "prompt": "café"})
    written = stream.buffer.getvalue().splitlines()
    assert written[:2] == [b"before", b"caf\xe9.mp4"]
    assert json.loads(written[2].decode()) == {"path": os.fsdecode(b"caf\xe9.mp4"), "prompt": "café"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--samples videos --metrics fd_logmel", "--metrics fd_logmel: is a distance to real clips"),
        ("--samples videos --metrics av_align,kd_motion", "--metrics kd_motion: is a distance to real clips"),
        ("--samples videos --metrics interaction", "--metrics interaction: is of a recipe's discriminator"),
        ("--features a b --compare c d", "--features stands alone: --compare would do nothing"),
        ("--features a b --independent x", "--features stands alone: --independent would do nothing"),
        ("--features a b --analysis-fps 10 --rows csv", "--analysis-fps, --rows would do nothing"),
        ("--compare a b --independent x", "--compare stands alone: --independent would do nothing"),
        ("--compare a b --recipe bounce", "--compare stands alone: --recipe would do nothing"),
        ("--compare a b --metrics av_align", "--compare stands alone: --metrics would do nothing"),
        ("--recipe gaussians --max-bad 0.5", "gaussians measures no clips: --max-bad would do nothing"),
        ("--recipe gaussians-ablation --samples x", "measures no clips: --samples would do nothing"),
        ("--recipe bounce --max-bad 0.5", "--max-bad: the samples of eval.protocol: bounce have to be whole"),
        ("--independent x", "name a recipe, or the clips to measure with --samples"),
    ],
)
def test_what_would_do_nothing_is_refused(capsys, arguments, said):
    assert said in refused(capsys, *arguments.split())
    assert not list(Path().rglob("metrics.json"))
