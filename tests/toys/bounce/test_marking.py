"""The gallery of a bounce run marks what its protocol measures, and nothing that moves beside it."""

import re
from pathlib import Path

import pytest

from mmdisco_cli.commands.gallery import marking_of
from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.clip import measure_clip
from mmdisco_cli.page.gallery import write_gallery
from mmdisco_cli.page.marking import MARKING
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.toys.bounce.clip_events import event_analysis, events_of, material_shares
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.options import BounceOptions


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bounce")
    media = Bounce(BounceOptions()).split("heldout").media([0], ("audio", "video"))
    return write_mp4(folder / "0.mp4", media["video"][0], media["audio"][0], 10, 16000)


@pytest.mark.parametrize("name", ["bounce", "bounce-text"])
def test_impacts_and_strikes_are_marked_where_the_protocol_finds_them(clip: Path, name: str) -> None:
    marking = marking_of(load(name))
    assert (marking.seen, marking.heard) == ("impacts seen", "strikes heard")
    page = write_gallery(clip.parent, [{"path": "0.mp4", "index": 0}], title="t", marking=marking).read_text()
    match = events_of(measure_clip(clip, Analysis(), event_analysis(2))).match
    for kind, events in (("seen", match.video), ("heard", match.audio)):
        marked = [float(left) for left in re.findall(rf'<i class="{kind}" style="left:([\d.]+)%"', page)]
        assert marked == pytest.approx([100 * event.time / 1.6 for event in events], abs=0.02)
        assert len(marked) > 1
    assert f"event_iou&quot;: {match.iou}" in page
    assert "motion_peaks" not in page


def test_other_recipes_mark_motion_and_onsets() -> None:
    assert marking_of(load("clips")) is MARKING
    # A protocol that does not fit the data does not hide the samples.
    assert marking_of(load("gaussians", ["eval.protocol=bounce"])) is MARKING


def test_materials_are_counted_by_sense_and_row(clip: Path) -> None:
    events = [events_of(measure_clip(clip, Analysis(), event_analysis(2)))]
    found = material_shares({"real": events, "guided": []}, seed=0)
    for sense in ("seen", "heard"):
        share = found[sense]["real"]
        assert share["n"] == 1
        assert sum(share[name]["value"] for name in ("wood", "metal", "glass")) == pytest.approx(1)
        assert found[sense]["guided"]["n"] == 0
        assert found[sense]["guided"]["wood"] == {"value": None, "low": None, "high": None}
