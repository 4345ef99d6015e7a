"""What callers of the API get wrong ends in one error of the documented classes, before anything is drawn."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmdisco_cli as mmdisco
from mmdisco_cli.api.tuples import as_data
from mmdisco_cli.data.manifest import complete_rows
from mmdisco_cli.errors import DataError, UsageError

QUICK = {"sample.steps": 1, "sample.gibbs": [], "sample.joint_steps": 1}
STILL = torch.zeros(3, 16, 64, 64)


@pytest.fixture(scope="module")
def bounce() -> mmdisco.JointModel:
    return mmdisco.load("bounce", QUICK)


@pytest.fixture(scope="module")
def sample(bounce) -> mmdisco.Sample:
    return bounce.sample()[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"overrides": ["sample.steps=2"]}, "overrides: expected a mapping, got a list"),
        ({"overrides": "sample.steps=2"}, "overrides: expected a mapping"),
        ({"backbones": [1]}, "backbones: expected a mapping"),
        ({"discriminator": "it.safetensors"}, r"discriminator: a str is not a torch\.nn\.Module"),
        ({"device": 3}, "unknown device '3'"),
    ],
)
def test_arguments_of_load(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        mmdisco.load("bounce", **arguments)


@pytest.mark.parametrize("name", [None, 3, "", "folder"])
def test_what_is_no_recipe(in_empty_folder: Path, name: Any) -> None:
    Path("folder").mkdir()
    with pytest.raises(UsageError, match="no recipe '"):
        mmdisco.load(name)


def test_a_folder_without_weights_is_no_recipe(in_empty_folder: Path) -> None:
    Path("bounce").mkdir()
    assert mmdisco.load("bounce").recipe.name == "bounce"  # one that is called like a packaged recipe hides it not
    Path("mine").mkdir()
    with pytest.raises(UsageError, match="a folder of weights goes by --checkpoint"):
        mmdisco.load("mine")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n": 0}, "n 0: must be at least 1"),
        ({"n": True}, "n: expected a whole number, got True"),
        ({"n": 1.5}, r"n: expected a whole number, got 1\.5"),
        ({"n": "2"}, "n: expected a whole number, got '2'"),
        ({"n": torch.ones(2)}, "n: expected a whole number, got a Tensor"),
        ({"seed": -1}, "seed -1: must be at least 0"),
        ({"seed": 2**63}, "seed 9223372036854775808: must be"),
        ({"seed": None}, "seed: expected a whole number, got None"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
        ({"batch_size": -1}, "batch_size -1: must be"),
        ({"prompts": 3}, "prompts: expected texts, got 3"),
        ({"prompts": ["a", None]}, "prompts: expected texts, got None"),
        ({"prompts": {"smell": ["a"]}}, "prompts: unknown modality smell"),
        ({"prompts": {"audio": "a", "video": ["b", "c"]}}, "as many for each modality, not 1, 2"),
        ({"given": [STILL]}, "given: expected a mapping, got a list"),
        ({"given": STILL}, "given: expected a mapping, got a Tensor"),
        ({"given": {"smell": STILL}}, "given: unknown modality smell"),
        ({"given": {3: STILL}}, "given: unknown modality 3"),
        ({"given": {"video": None}}, "given video: expected a tensor, a path or a text, got None"),
        ({"given": {"video": [STILL]}}, "given video: expected a tensor, a path or a text, got a list"),
        ({"given": {"video": STILL[:, :8]}}, r"given video: media of shape \(3, 8, 64, 64\)"),
        ({"given": {"audio": torch.zeros(1, 30000)}}, r"given audio: media of shape \(1, 30000\)"),
        ({"given": {"video": STILL + 255}}, r"given video: reaches 255, but media of its kind are in \[-1, 1\]"),
        ({"given": {"video": STILL / 0}}, "given video: holds values that are not finite"),
        ({"callback": 3}, "callback: expected a function, got 3"),
    ],
)
def test_arguments_of_sample(bounce, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bounce.sample(**arguments)


def test_numbers_and_media_of_numpy_are_taken(bounce) -> None:
    pixels = torch.randint(256, STILL.shape, dtype=torch.uint8)
    (found,) = bounce.sample(np.int64(1), seed=torch.tensor(3), given={"video": pixels.numpy()})
    assert found.seed == 3
    assert torch.allclose(found.media["video"], pixels / 127.5 - 1)  # bytes are pixels


def test_prompts_that_no_sample_takes_are_named() -> None:
    with pytest.warns(UserWarning, match="1 samples take the first 1 of 3 prompts"):
        (found,) = mmdisco.load("bounce-text", QUICK).sample(prompts=["a", "b", "c"])
    assert found.prompt == "a"


def test_what_a_callback_raises_is_raised(bounce) -> None:
    def fail(step: mmdisco.Step) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bounce.sample(callback=fail)


@pytest.mark.parametrize("path", ["it.gif", "it.wav", None, 3])
def test_paths_that_a_sample_is_not_saved_to(sample, in_empty_folder: Path, path: Any) -> None:
    with pytest.raises(UsageError, match=r"saved as \.mp4 or \.webm|expected a path"):
        sample.save(path)


def test_samples_and_sheets_make_their_folders_and_fail_plainly(
    sample, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(in_empty_folder))
    assert sample.save("new/folder/it.mp4") == [Path("new/folder/it.mp4")]
    assert sample.save("new/folder/it.mp4") == [Path("new/folder/it.mp4")]  # in its place
    assert sample.save("~/it.mp4")[0].parent == in_empty_folder
    assert mmdisco.sheet(sample, "other/sheet.png").is_file()
    Path("file").write_text("")
    for write in (lambda: sample.save("file/it.mp4"), lambda: sample.save("file"), lambda: sample.save("file/folder")):
        with pytest.raises(DataError, match=r"file.*: cannot write"):
            write()
    with pytest.raises(DataError, match="cannot write"):
        mmdisco.sheet(sample, "file/sheet.png")


@pytest.mark.parametrize("samples", [[], 3, [3], "sample and 3"])
def test_what_is_no_sample_is_neither_drawn_nor_measured(bounce, sample, in_empty_folder: Path, samples: Any) -> None:
    several = [sample, 3] if samples == "sample and 3" else samples
    for use in (bounce.evaluate, lambda found: mmdisco.sheet(found, "sheet.png")):
        with pytest.raises(UsageError, match=r"samples: there are none|samples: expected samples, got 3"):
            use(several)


def test_guided_and_independent_samples_of_one_number_stand_side_by_side(bounce, sample, tmp_path: Path) -> None:
    from mmdisco_cli.api.sample import write_folder

    alone = bounce.sample(independent=True)[0]
    write_folder(tmp_path, [sample, alone])
    assert len({row["path"] for row in complete_rows(tmp_path)}) == 2
    with pytest.raises(UsageError, match="holds independent samples, which the report would call guided"):
        bounce.evaluate([sample, alone], out=tmp_path / "eval")


class Tags(HTMLParser):
    """Find tags that are opened and never closed, or closed and never opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag not in ("img", "br", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_a_notebook_shows_is_well_formed(bounce, sample) -> None:
    from dataclasses import replace

    shown = Tags(replace(sample, prompt="<b>a & b")._repr_html_())
    assert not shown.open
    assert shown.seen == {"figure", "video", "figcaption"}
    assert repr(bounce) == f"JointModel(bounce: {bounce.recipe.summary}; audio, video)"


POINT = {"x": torch.zeros(1), "y": torch.zeros(1)}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"x": POINT["x"]}, "item 5: has no y, only x"),
        ({**POINT, "x": torch.zeros(7)}, r"item 5: x is \(7,\), not \(1,\)"),
        ({**POINT, "x": "one"}, "item 5: x is a str, which is no tensor"),
        ({**POINT, "x": None}, "item 5: x is a NoneType"),
        ({**POINT, "x": torch.full((1,), torch.nan)}, "item 5: x is not finite"),
        (None, "item 5 is a NoneType, not a mapping"),
    ],
)
def test_items_that_cannot_be_used_are_named(item: Any, said: str) -> None:
    data = as_data([POINT] * 5 + [item]).of_kinds({"x": "vector", "y": "vector"})
    assert data.media([0, 4], ["x", "y"])["x"].shape == (2, 1)
    with pytest.raises(DataError, match=said):
        data.media([0, 5], ["x", "y"])


def test_what_a_dataset_lacks_is_said_before_it_is_trained_on(in_empty_folder: Path) -> None:
    model, lacking = mmdisco.load("gaussians", {"train.steps": 1}), [{"x": POINT["x"]}] * 20
    for arguments in ({"data": lacking}, {"data": [POINT] * 20, "heldout": lacking}):
        with pytest.raises(UsageError, match="data: has no y, which the recipe's backbones make"):
            model.train(**arguments, out="run")
    for data in ({"x": torch.zeros(9, 1)}, "folder", iter([POINT])):
        with pytest.raises(UsageError, match="has no length and no items by number"):
            model.train(data, out="run")
    Path("file").write_text("")
    for out in ("file", "file/run"):
        with pytest.raises(DataError, match="cannot write"):
            model.train([POINT] * 20, out=out)
    fail: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.train([POINT] * 20, out=3), "out: expected a path"),
        (lambda: model.train([POINT] * 20, out=""), "out: the path is empty"),
        (lambda: model.train([POINT] * 20, callback=3), "callback: expected a function"),
    ]
    for call, said in fail:
        with pytest.raises(UsageError, match=said):
            call()


def test_media_of_bytes_are_pixels_and_louder_ones_refused() -> None:
    pixels = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    kinds = {"image": "image"}
    assert as_data([{"image": pixels}]).of_kinds(kinds).media([0], ["image"])["image"].tolist() == [[[[-1.0, 1.0]]]]
    with pytest.raises(DataError, match=r"item 0: image reaches 255, but media of its kind are in \[-1, 1\]"):
        as_data([{"image": pixels.float()}]).of_kinds(kinds)


def test_what_is_neither_text_nor_numbers_is_left_alone() -> None:
    rows = [{**POINT, "caption": None, "label": None, "path": Path(name), 3: object()} for name in ("one", "other")]
    first, second = as_data(rows[:1]), as_data(rows[1:])
    assert first.fingerprint == second.fingerprint != as_data([{**rows[0], "caption": "text"}]).fingerprint
    assert first.captions([0], ["x"]) == {"x": [""]}
    assert first.labels([0]) == [""]
