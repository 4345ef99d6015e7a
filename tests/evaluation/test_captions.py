"""Rows of a report share their texts: samples are of the captions of the held-out clips in the row real."""

import json
import re
from pathlib import Path

import pytest
from captioned_models import load, number, write_clips
from PIL import Image

from mmdisco_cli.data.manifest import read_rows
from mmdisco_cli.data.media import read_clip
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation import clips
from mmdisco_cli.evaluation.run import evaluate
from mmdisco_cli.run.options import EvalOptions, SampleOptions
from mmdisco_cli.sampling.run import sample

pytestmark = pytest.mark.usefixtures("in_empty_folder")
TEXTS = [f"text {k}" for k in range(8)]
REAL = TEXTS[::2]
"""Every other held-out clip is in the row real; the rest are what all rows are compared with."""
OUT = Path("runs/captioned/eval")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Return the table of held-out clips of eight texts."""
    return write_clips(tmp_path_factory.mktemp("clips"), TEXTS)


@pytest.fixture(autouse=True)
def plotless(monkeypatch):
    """Leave out the plot, which takes longer than all else."""
    monkeypatch.setattr(clips, "plot_clips", lambda path, metrics: Image.new("L", (1, 1)).save(path) or path)


def measured(recipe, capsys, **options):
    """Return the report of a recipe, and what was said beside it."""
    capsys.readouterr()
    evaluate(recipe, EvalOptions(metrics=("av_align", "kd_frames"), json=True, out=OUT, **options))
    output = capsys.readouterr()
    return json.loads(output.out), output.err


def grey(path):
    """Return the mean of a sample's frames, in the units of the models' numbers."""
    return float(read_clip(path, None, 16, 10, 16, 16, 16000).video.mean())


def cards_in(page):
    """Return the number of the clip of each row of each card."""
    found = [re.findall(r"<figcaption>(\w+) · (\d+)", card) for card in page.split("<article")[1:]]
    return [{row: int(name) for row, name in card} for card in found]


def of_rows(folder):
    return [(row["prompt"], row.get("captions")) for row in read_rows(Path(folder))]


def test_samples_are_of_the_captions_of_the_real_row(table, capsys):
    recipe = load(Path(), table)
    found, said = measured(recipe, capsys)
    assert found["n"] == 4
    assert found["protocol"]["clips"] == {"real": 4, "independent": 4, "guided": 4, "reference": 4}
    assert found["protocol"]["captions"] == "samples are of the captions of 4 held-out clips, which are the row real"
    assert found["protocol"]["captions"] in said
    assert "8 held-out clips with captions" in said
    assert "so 4 samples a row instead of 8" in said
    for folder in ("captions", "independent-captions"):
        assert of_rows(f"runs/captioned/{folder}") == [(text, None) for text in REAL]
        for row, text in zip(read_rows(Path("runs/captioned") / folder), REAL, strict=True):
            assert grey(Path("runs/captioned") / folder / row["path"]) == pytest.approx(number(text), abs=0.05)
    page = (OUT / "report.html").read_text()
    assert re.findall(r'<p class="prompt">(text \d)</p>', page) == REAL
    assert found["protocol"]["captions"] in page
    cards = cards_in(page)
    assert all(card.keys() == {"guided", "independent", "real"} for card in cards)
    # Real clips are called after their number among the held-out ones.
    assert [(card["guided"], card["real"]) for card in cards] == [(k, 2 * k) for k in range(4)]


def test_captions_by_modality(capsys):
    texts = [{"audio": f"sound {k}", "video": f"view {k}"} for k in range(4)]
    recipe = load(Path(), write_clips(Path("clips"), texts), n=2)
    measured(recipe, capsys)
    assert of_rows("runs/captioned/captions") == [(f"sound {k} / view {k}", texts[k]) for k in (0, 2)]
    for row, text in zip(read_rows(Path("runs/captioned/captions")), texts[::2], strict=True):
        assert grey(Path("runs/captioned/captions") / row["path"]) == pytest.approx(number(text["video"]), abs=0.05)


def test_more_samples_go_on_from_those_that_are_there(table, capsys):
    measured(load(Path(), table, n=2), capsys)
    (first, *_) = sorted(Path("runs/captioned/captions").glob("*.mp4"))
    made = first.stat().st_mtime_ns
    found, _ = measured(load(Path(), table, n=3), capsys)
    assert found["n"] == 3
    assert first.stat().st_mtime_ns == made
    assert of_rows("runs/captioned/captions") == [(text, None) for text in REAL[:3]]


def test_samples_of_other_captions_are_not_used(capsys):
    recipe = load(Path(), write_clips(Path("clips"), TEXTS[:4]), n=2)
    measured(recipe, capsys)
    write_clips(Path("clips"), ["another text", *TEXTS[1:4]])
    with pytest.raises(
        UsageError, match=r'captions: holds samples made with prompts \["text 0", .* instead of \["anot'
    ):
        measured(recipe, capsys)


def test_clips_without_a_caption_are_in_no_row_and_one_with_several_in_one(capsys):
    table = write_clips(Path("clips"), ["text 0", "", "text 1", "text 2", "text 3"])
    rows = json.loads(table.read_text())
    table.write_text(json.dumps([*rows, {"video": "0.mp4", "caption": "text 0 in other words", "split": "test"}]))
    found, _ = measured(load(Path(), table), capsys)
    assert found["n"] == 2
    assert of_rows("runs/captioned/captions") == [("text 0", None), ("text 2", None)]


def test_with_a_single_caption_samples_are_of_none(capsys):
    found, _ = measured(load(Path(), write_clips(Path("clips"), ["text", "", ""]), n=2), capsys)
    assert found["n"] == 2
    assert "captions" not in found["protocol"]
    assert of_rows("runs/captioned/samples") == [(None, None)] * 2


def test_captions_without_a_model_that_takes_prompts(table, capsys):
    found, said = measured(load(Path(), table, "deaf", n=2), capsys)
    assert found["n"] == 2
    assert "the captions of the clips are not used: no backbone of this recipe takes any prompts" in said
    assert of_rows("runs/captioned/samples") == [(None, None)] * 2


def test_real_clips_follow_the_texts_of_samples_that_are_there(table, capsys):
    recipe = load(Path(), table)
    sample(recipe, SampleOptions(n=3, prompts=("text 4", "text 0", "text 6"), out=Path("mine")))
    found, said = measured(recipe, capsys, samples=Path("mine"))
    assert found["n"] == 3
    assert "not of the caption" not in said
    assert "neither is a control" not in said
    assert of_rows("runs/captioned/independent") == of_rows("mine")
    assert [card["real"] for card in cards_in((OUT / "report.html").read_text())] == [4, 0, 6]


@pytest.mark.parametrize(
    ("prompts", "wrong"), [(("text 0", "text 2", "something else"), "1 of 3"), (("text 0",), "2 of 3"), ((), "3 of 3")]
)
def test_samples_of_other_texts_than_the_clips_are_warned_of(prompts, wrong, table, capsys):
    recipe = load(Path(), table)
    sample(recipe, SampleOptions(n=3, prompts=prompts, out=Path("mine")))
    found, said = measured(recipe, capsys, samples=Path("mine"))
    assert f"mine: {wrong} samples are not of the caption of a real clip of their own" in said
    assert found["protocol"]["captions"] == "samples are of other texts than the held-out clips in the row real"
    assert of_rows("runs/captioned/independent") == of_rows("mine")


def test_samples_without_a_manifest_are_warned_of(table, capsys):
    recipe = load(Path(), table)
    write_clips(Path("mine"), ["x"] * 2)
    found, said = measured(recipe, capsys, samples=Path("mine"))
    assert found["n"] == 3
    assert "mine: no manifest says of which texts these samples are" in said


def test_a_reference_folder_with_captions_is_the_real_row(capsys):
    recipe = load(Path(), write_clips(Path("clips"), [""] * 4), n=2)
    write_clips(Path("reference"), [])
    for place, name in enumerate(("a", "b", "c", "d")):
        write_clips(Path("other"), ["x"])
        (Path("reference") / f"{name}.mp4").write_bytes((Path("other") / "0.mp4").read_bytes() + bytes(place))
        (Path("reference") / f"{name}.txt").write_text(f"a clip called {name}")
    (Path("reference") / "train.mp4").unlink()
    (Path("reference") / "clips.json").unlink()
    found, _ = measured(recipe, capsys, reference=Path("reference"))
    assert found["protocol"]["captions"] == (
        "samples are of the captions of 2 clips in reference, which are the row real"
    )
    assert of_rows("runs/captioned/captions") == [("a clip called a", None), ("a clip called c", None)]


def test_folders_alone_show_their_prompts(table, capsys):
    recipe = load(Path(), table)
    sample(recipe, SampleOptions(n=2, prompts=("one", "two"), out=Path("mine")))
    capsys.readouterr()
    evaluate(None, EvalOptions(samples=Path("mine"), out=Path("report")))
    assert re.findall(r'<p class="prompt">(\w+)</p>', Path("report/report.html").read_text()) == ["one", "two"]
