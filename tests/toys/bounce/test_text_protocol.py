"""The protocol `bounce-text`: its rows, its figures, and what it refuses, with models that have learnt nothing."""

import json
import math
import re
from pathlib import Path

import pytest

from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.run import evaluate, open_protocol
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.toys.bounce.caption_following import METRICS, FoundBalls
from mmdisco_cli.toys.bounce.captions import Kind
from mmdisco_cli.toys.bounce.events import Impact, Match, match_events
from mmdisco_cli.toys.bounce.text_protocol import FOLDERS, ROWS, TextRows, heldout_of, text_metrics

SMALL, LARGE = Kind(0, 2), Kind(1, 0)


def clip(seen: tuple[Kind, ...], heard: tuple[Kind, ...], offset: float) -> FoundBalls:
    """Return a clip of two impacts of which the second sounds `offset` seconds late."""
    video = [Impact(0.2, 3.0, 0), Impact(0.8, 2.5, 1)]
    audio = [Impact(0.2, 9.0, 0), Impact(0.8 + offset, 10.0, 1)]
    return FoundBalls(Path("x.mp4"), seen, heard, match_events(video, audio))


def test_figures_are_shares_of_clips_that_follow_their_own_captions() -> None:
    described = [(SMALL,), (SMALL, LARGE)] * 4
    right = [clip(kinds, kinds, 0.0) for kinds in described]
    deaf = [clip(kinds, (SMALL,), 0.3) for kinds in described]
    swapped = [clip(kinds, kinds, 0.3) for kinds in reversed(described)]
    half = [clip(kinds, kinds, 0.3 * (k % 2)) for k, kinds in enumerate(described)]
    rows = {"real": right, "independent": deaf, "guided": half, "independent_no_text": swapped, "guided_no_text": right}
    found = text_metrics(TextRows(rows, described, [""] * 8), seed=0)
    assert found["text_seen"]["real"]["value"] == found["text_heard"]["real"]["value"] == 1
    assert (found["text_seen"]["independent"]["value"], found["text_heard"]["independent"]["value"]) == (1, 0.5)
    assert found["number_heard"]["independent"]["value"] == 0.5
    assert found["text_seen"]["independent_no_text"]["value"] == 0
    assert math.isclose(found["event_iou"]["independent"]["value"], 1 / 3)
    assert math.isclose(found["event_iou"]["guided"]["value"], 2 / 3)
    assert math.isclose(found["event_iou"]["gap_closed"]["value"], 0.5)
    assert found.keys() >= {*METRICS}
    assert "gap_closed" not in found["text_seen"]


def test_clips_without_events_follow_no_caption() -> None:
    silent = FoundBalls(Path("x.mp4"), (), (), Match([], [], []))
    assert not any(silent.follows((SMALL, LARGE)).values())


@pytest.mark.parametrize(
    ("settings", "options", "said"),
    [
        (["data.captions=false"], {}, "needs the data set bounce with data.captions: true"),
        (["data={name: gaussians}"], {}, "needs the data set bounce"),
        ([], {"samples": Path()}, "makes its own samples"),
        ([], {"reference": Path()}, "makes its own samples"),
    ],
)
def test_what_it_cannot_measure_is_refused(settings: list[str], options: dict[str, Path], said: str) -> None:
    recipe = recipes.load("bounce-text", settings)
    with pytest.raises(UsageError, match=said):
        open_protocol("bounce-text").evaluate(recipe, EvalOptions(**options), Ranks())


def test_a_report_has_all_rows_of_the_same_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["eval.n=3", "sample.steps=1", "sample.gibbs=[]", "sample.joint_steps=1", "sample.scale=1"]
    recipe = recipes.load("bounce-text", quick)
    evaluate(recipe, EvalOptions(json=True, out=Path("report")))
    content = json.loads(capsys.readouterr().out)
    assert content["protocol"]["name"] == "bounce-text"
    assert content["metrics"].keys() == set(open_protocol("bounce-text").metrics)
    assert all(content["metrics"]["text_seen"].keys() == set(ROWS) for _ in ROWS)
    assert content["metrics"]["text_seen"]["real"]["value"] == 1
    lines = [json.loads(line) for line in Path("report/per_clip.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == [row for row in ROWS for _ in range(3)]
    page = Path("report/report.html").read_text()
    assert re.findall(r"<h3>(caption \d)</h3>", page) == ["caption 0", "caption 1", "caption 2"]
    assert page.count("<video") == 3 * len(ROWS)
    assert all(f">{row.replace('_', ' ')}</th>" in page for row in ROWS)
    assert all(page.count(f'<p class="prompt">{line["caption"]}</p>') == 1 for line in lines[:3])
    captions = heldout_of(recipe).captions(range(3), ("x",))["x"]
    assert [line["caption"] for line in lines] == captions * len(ROWS)
    for folder in FOLDERS.values():
        manifest = Path("runs/bounce-text", folder, "manifest.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["prompt"] for line in manifest) == sorted(captions)
    with pytest.raises(UsageError, match=r"holds samples made with sample\.steps 1 instead of 2"):
        evaluate(recipes.load("bounce-text", [*quick, "sample.steps=2"]), EvalOptions(out=Path("report")))
