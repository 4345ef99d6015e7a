"""A protocol that knows nothing of clips samples any modalities, measures them and shows them in report.html."""

import json
import re
from pathlib import Path

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.manifest import complete_rows
from mmdisco_cli.errors import ExitCode
from mmdisco_cli.evaluation.protocol import Sample
from mmdisco_cli.evaluation.sample_cards import cards_of_samples, samples_html

PROTOCOL = """
from mmdisco_cli.hookspecs import ProtocolSpec, hookimpl, lazy

@hookimpl
def mmdisco_protocols():
    yield ProtocolSpec("words", "length of the words", lazy("mmdisco_words:build"), api_version=1)

def evaluate(recipe, options, ranks):
    from mmdisco_cli.evaluation.protocol import Report, Sample
    from mmdisco_cli.run.options import SampleOptions
    from mmdisco_cli.sampling.job import plan_job
    from mmdisco_cli.sampling.run import make_samples
    rows = []
    job = plan_job(recipe, SampleOptions(n=recipe.eval.n, independent=True))
    make_samples(job, rows.append)
    shown = []
    for row in rows:
        files = {label: job.directory / name for label, name in row["files"].items()}
        length = len(files["word"].read_text()) - 1
        shown.append(Sample("independent", f"{row['index']}", files, row["kinds"], {"letters": length}))
    mean = sum(one.values["letters"] for one in shown) / len(shown)
    metrics = {"letters": {"independent": {"value": mean, "low": mean, "high": mean}}}
    return Report(len(shown), metrics, {"seed": 0}, ["letters"], samples=shown)

def build():
    from mmdisco_cli.evaluation.protocol import Protocol
    return Protocol(("letters",), evaluate, takes_samples=False)
"""
BACKBONES = {
    "image": "kind: image, shape: [1, 8, 6]",
    "noise": "kind: audio, shape: [1, 800], rate: 8000",
    "word": "kind: text, shape: [4]",
}


def test_a_report_shows_every_file_inside_itself(anything, make_plugin, capsys) -> None:
    make_plugin("mmdisco-words", PROTOCOL)
    recipe = anything(**BACKBONES)
    arguments = ["eval", "--recipe", str(recipe), "--set", "eval.protocol=words", "--set", "eval.n=3", "--out", "eval"]
    assert mmdisco(arguments) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == ["eval/metrics.json", "eval/report.html"]
    rows = complete_rows(Path("runs/many/independent"))
    letters = [len(Path("runs/many/independent", row["files"]["word"]).read_text()) - 1 for row in rows]
    found = json.loads(Path("eval/metrics.json").read_text())["metrics"]["letters"]["independent"]["value"]
    assert found == sum(letters) / 3
    page = Path("eval/report.html").read_text()
    cards = re.findall(r"<article.*?</article>", page, flags=re.DOTALL)
    assert [card.count("data:image/png;base64,") for card in cards] == [1] * 3
    assert [card.count('<audio src="data:audio/wav;base64,') for card in cards] == [1] * 3
    assert [re.findall(r'class="text">(\w+)<', card)[0] for card in cards] == [
        Path("runs/many/independent", row["files"]["word"]).read_text().strip() for row in rows
    ]
    assert '<option value="independent.letters -1">' in page
    assert "belong together" not in page


def test_samples_that_are_no_clips_are_said_to_be_none(anything, capsys) -> None:
    recipe = anything(**BACKBONES)
    assert mmdisco(["sample", "--recipe", str(recipe), "--independent", "--n", "2", "--out", "out"]) == ExitCode.OK
    assert mmdisco(["eval", "--samples", "out"]) == ExitCode.DATA
    said = "out: holds no samples to measure as clips: none of its samples has a video for its main file"
    assert said in capsys.readouterr().err


def test_rows_stand_beside_each_other_by_name_and_many_are_chosen_evenly(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    samples = [
        Sample(row, str(k), {"word": tmp_path / "a.txt"}, {"word": "text"}, {"agreement": k / 100})
        for row in ("real", "guided")
        for k in range(100)
    ]
    cards = cards_of_samples(samples)
    assert [card.title for card in cards] == [str(k) for k in range(0, 100, 3)]
    assert {tuple(player.row for player in card.players) for card in cards} == {("real", "guided")}
    assert "34 of 100, evenly chosen" in samples_html(cards, samples, sortable=True)
    assert samples_html([], [], sortable=True) == ""


def test_a_long_sound_is_a_small_copy_and_a_silent_video_plays(tmp_path: Path) -> None:
    import torch

    from mmdisco_cli.data.media import write_mp4, write_wav

    write_wav(tmp_path / "long.wav", 0.1 * torch.randn(1, 700_000), 44100)
    write_mp4(tmp_path / "still.mp4", torch.zeros(3, 4, 16, 16), None, 8, 0)
    write_mp4(tmp_path / "large.mp4", torch.rand(3, 24, 320, 320) * 2 - 1, None, 8, 0)
    assert (tmp_path / "large.mp4").stat().st_size > 600_000
    for label, kind, file, copied in (
        ("a", "audio", "long.wav", True),
        ("v", "video", "still.mp4", False),
        ("v", "video", "large.mp4", True),
    ):
        (card,) = cards_of_samples([Sample("guided", "0", {label: tmp_path / file}, {label: kind})])
        (player,) = card.players
        assert ("small copy" in player.caption) == copied
        source = player.source or player.files[0].source
        assert source.startswith(f"data:{kind}/")
        assert not copied or len(source) < 4 / 3 * (tmp_path / file).stat().st_size
