"""What a training leaves to publish is read again from a hub, and holds nothing of the machine that made it."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_models import make_tiny

import mmdisco_cli as mmdisco
from mmdisco_cli import app
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.training.release.card import _results
from mmdisco_cli.training.release.portable import portable
from mmdisco_cli.weights_file import any_about

ASSETS = Path(__file__).parent.parent / "assets"
TRAIN = f"data: {{name: clips, path: {ASSETS}}}\ntrain: {{steps: 2, batch_size: 2, bank: 4, warmup: 1}}\n"
FILES = {
    "README.md",
    "recipe.yaml",
    "discriminator.safetensors",
    "backbones/audio.safetensors",
    "backbones/video.safetensors",
}
SAMPLE = ["--n", "1", "--set", "sample.keep_latents=true", "--set", "sample.steps=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train a discriminator in a moment, and return the folder of the run."""
    folder = tmp_path_factory.mktemp("published") / "of mine"
    folder.mkdir()
    recipe = make_tiny(folder)
    recipe.write_text(recipe.read_text() + TRAIN)
    assert app.run(["train", "--recipe", str(recipe), "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def release(run):
    return run / "out" / "release"


@pytest.fixture
def published(hub, release, tmp_path, monkeypatch):
    """Lay a release on the hub, beside what nobody should read."""
    files = {path: (release / path).read_bytes() for path in FILES}
    hub.repositories["me/tiny"] = {**files, "evil.py": b"raise SystemExit", "state.pt": b"\x80\x04evil"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMDISCO_DOWNLOAD", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield hub
    os.environ.pop("MMDISCO_DOWNLOAD", None)  # the command sets it for its process


def test_the_folder_has_what_is_published_and_nothing_else(release, hub):
    from huggingface_hub import HfApi

    # What upload_folder calls first: it lists the folder, and has the hub judge the card's front matter.
    found = HfApi()._prepare_upload_folder_additions(folder_path=release, path_in_repo="", repo_type="model")
    assert {operation.path_in_repo for operation in found} == FILES
    assert "/api/validate-yaml" in hub.requested


def test_nothing_in_it_names_a_path_of_this_machine(run, release):
    assert str(run) in json.dumps(any_about(run / "out" / "discriminator.safetensors"))
    for file in FILES:
        content = (release / file).read_bytes()
        assert str(run).encode() not in content
        assert str(ASSETS.parent).encode() not in content
        assert not re.search(rb"[\"' ]/(home|tmp|root)/", content)


def test_the_tensors_are_those_of_the_run_and_fit_together(run, release):
    ours, theirs = (read_safetensors(x / "discriminator.safetensors") for x in (run / "out", release))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)
    about = any_about(release / "discriminator.safetensors")
    bases = {m: sha256_of(release / "backbones" / f"{m}.safetensors")[:SHORT] for m in ("audio", "video")}
    assert about["backbones"] == bases
    recipe = yaml.safe_load((release / "recipe.yaml").read_text())
    assert recipe == about["recipe"]
    assert recipe["sample"]["weights"] == "discriminator.safetensors"
    assert recipe["backbones"]["audio"]["weights"] == "backbones/audio.safetensors"


def test_the_card_says_what_is_asked_of_one(release):
    _, front, body = (release / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "other",
        "library_name": "mmdisco",
        "tags": ["diffusion", "joint-generation", "audio", "video"],
    }
    results = any_about(release / "discriminator.safetensors")["results"]
    assert f"| training, discriminator, loss | {results['training']['discriminator']['loss']} |" in body
    assert "`accuracy`: share of real and mixed tuples that are classified rightly, a half by chance; `disc`:" in body
    assert "`gain`: share of the base models' error that guidance removes;" in body
    assert "mmdisco sample --checkpoint hf:OWNER/NAME --download --n 16" in body
    for modality in ("audio", "video"):
        assert f"- `{modality}`: token, fingerprint " in body
        assert f"; in this folder as `backbones/{modality}.safetensors`" in body


def test_a_released_folder_is_sampled_from_by_its_name(run, published, capsys):
    assert app.run(["sample", "--recipe", str(run / "tiny.yaml"), *SAMPLE, *weights(run), "--out", "ours"]) == 0
    checkpoint = ["sample", "--checkpoint", "hf:me/tiny", *SAMPLE, "--out", "theirs"]
    capsys.readouterr()
    assert app.run(checkpoint) == 4
    said = "hf:me/tiny is not in the cache: fetch it with `hf download me/tiny`, or add --download"
    assert capsys.readouterr().err == f"error: {said}\n"
    assert published.requested == []
    assert app.run([*checkpoint, "--download", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["guided"] is True
    ours, theirs = (latents(Path(folder)) for folder in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert not any("evil.py" in path or "state.pt" in path for path in published.requested)
    folder = str(run / "out" / "release")
    assert app.run(["sample", "--checkpoint", folder, *SAMPLE, "--out", "folder"]) == 0
    assert latents(Path("folder")).keys() == ours.keys()
    assert all(ours[name].equal(sampled) for name, sampled in latents(Path("folder")).items())
    first, second = (mmdisco.load(name, {"sample.steps": 2}).sample(1, seed=2)[0] for name in ("hf:me/tiny", folder))
    assert first.logit is not None
    assert all(first.media[name].equal(media) for name, media in second.media.items())


def test_a_card_explains_only_figures_that_it_has():
    assert _results({"training": {"denoiser": {"loss": 0.5}}}).endswith("| training, denoiser, loss | 0.5 |")
    shown = _results({"heldout": {"disc": 0.7}, "training": {"discriminator": {"disc": 0.6}}})
    assert shown.count("`disc`:") == 1
    assert "`gain`" not in shown
    assert _results({}) == "Nothing was measured."


def test_the_card_gets_what_an_evaluation_reached_and_loses_it_with_the_weights(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run / "out", tmp_path / "out")
    card = tmp_path / "out" / "release" / "README.md"
    before = card.read_text()
    recipe = tmp_path / "mine.yaml"
    content = yaml.safe_load((run / "tiny.yaml").read_text())
    content["sample"] |= {"weights": str(tmp_path / "out" / "discriminator.safetensors"), "steps": 2}
    recipe.write_text(yaml.safe_dump({**content, "eval": {"protocol": "clips", "n": 2}}))
    for seed in (3, 4):
        assert app.run(["eval", "--recipe", str(recipe), "--set", f"eval.seed={seed}"]) == 0
        assert f"figures added to {card}" in capsys.readouterr().err
        shutil.rmtree("runs")
        text = card.read_text()
        assert text.count("## Evaluation") == 1
        assert re.search(rf"by the protocol `clips`, n = \d, seed {seed}; all of it is in `metrics.json`", text)
        reached = json.loads((card.parent / "metrics.json").read_text())
        assert reached["protocol"]["seed"] == seed
        assert "av_align" in reached["metrics"]
        assert re.search(r"```\n.*independent +guided", text[text.index("## Evaluation") :])
        assert str(tmp_path).encode() not in (card.parent / "metrics.json").read_bytes()
    start, end = text.index("<!-- evaluation"), text.index("## Base models")
    assert text[:start] + text[end:] == before
    assert app.run(["eval", "--recipe", str(recipe), "--metrics", "parameters"]) == 0
    assert card.read_text() == text  # a part of the figures is no report
    assert app.run(["train", "--recipe", str(recipe), "--out", "out", "--set", "train.steps=3"]) == 0
    assert "## Evaluation" not in card.read_text()
    assert not (card.parent / "metrics.json").exists()


def weights(run):
    return ["--set", f"sample.weights={json.dumps(str(run / 'out' / 'discriminator.safetensors'))}"]


def latents(folder: Path):
    (file,) = folder.glob("*.safetensors")
    return read_safetensors(file)


def test_what_was_fetched_once_needs_no_connection(published, capsys):
    assert app.run(["sample", "--checkpoint", "hf:me/tiny@v1", "--dry-run", *SAMPLE]) == 4
    assert "`hf download me/tiny --revision v1`, or add --download" in capsys.readouterr().err
    assert app.run(["sample", "--checkpoint", "hf:me/tiny@v1", "--download", *SAMPLE]) == 0
    os.environ.pop("MMDISCO_DOWNLOAD")
    requested = len(published.requested)
    capsys.readouterr()
    assert app.run(["sample", "--checkpoint", "hf:me/tiny@v1", *SAMPLE, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []
    assert len(published.requested) == requested


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("hf:tiny", 2, "expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"),
        ("hf:me/tiny@", 2, "expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"),
        ("hf:../../etc", 2, "expected hf:OWNER/NAME"),
        ("hf:me/other", 4, "me/other is not on the hub, or private: then log in with `hf auth login`"),
        ("hf:me/tiny@v9", 4, "me/tiny has no such revision (https://huggingface.co/me/tiny)"),
        ("hf:me/secret", 4, "me/secret is gated: accept its licence at https://huggingface.co/me/secret and log in"),
        (
            "hf:me/pickles",
            4,
            "hf:me/pickles: has no discriminator.safetensors, which `mmdisco train` leaves in its folder",
        ),
    ],
)
def test_what_cannot_be_read_says_why(name, code, said, published, capsys):
    published.repositories |= {"me/secret": {}, "me/pickles": {"model.pt": b"\x80", "README.md": b"x"}}
    published.gated.add("me/secret")
    assert app.run(["sample", "--checkpoint", name, "--download", *SAMPLE]) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in line


def test_a_run_that_was_complete_before_gets_its_folder_too(run, release, capsys):
    before = {path: (release / path).read_bytes() for path in FILES}
    shutil.rmtree(release)
    again = ["train", "--recipe", str(run / "tiny.yaml"), "--out", str(run / "out")]
    assert app.run(again) == 0
    assert "training is complete" in capsys.readouterr().err
    assert {path: (release / path).read_bytes() for path in FILES} == before


def test_a_folder_that_a_full_disk_cut_short_is_made_whole_by_the_same_command(run, release, largest_file, capsys):
    shutil.rmtree(release)
    again = ["train", "--recipe", str(run / "tiny.yaml"), "--out", str(run / "out")]
    with largest_file(4000):
        assert app.run(again) == 4
    assert "cannot write (File too large)" in capsys.readouterr().err
    assert not (release / "README.md").exists()
    assert app.run(again) == 0
    assert {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()} == FILES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data/my clips", "my clips"),
        ("~/models/wan", "wan"),
        ("../weights/x.safetensors", "x.safetensors"),
        ("weights/x.safetensors", "weights/x.safetensors"),
        ("owner/name", "owner/name"),
        ("audio and/or video", "audio and/or video"),
        ({"a": ["/x/y", 1, None]}, {"a": ["y", 1, None]}),
        (("/x/{000..146}.tar",), ["{000..146}.tar"]),
    ],
)
def test_paths_become_names(value, expected):
    assert portable(value) == expected
