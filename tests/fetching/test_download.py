"""`--download` fetches what publishers host, checks and converts it, and goes on; what fails says so in one line."""

import hashlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from mmdiffusion_stand_in import PLUGIN
from released_weights import weights

from mmdisco_cli import app
from mmdisco_cli.conversion import published
from mmdisco_cli.conversion.discriminators import discriminator_shapes
from mmdisco_cli.errors import DataError
from mmdisco_cli.fetching.hub import hub_errors
from mmdisco_cli.paper.configs import RELEASED

NAME = "mmdiffusion_landscape"
FOLDER, FILE = "folder-of-models-25-letters-long", "file-of-the-unet-25-letters-long"
SAMPLE = ["sample", "--recipe", "landscape", "--set", "sample.steps=2", "--n", "1"]
DRIVE = PLUGIN.replace(
    'hooks.Published("Landscape.pt", "a U-Net", "a drive", "535 MB", recipe="landscape")',
    f'hooks.Published("Landscape.pt", "a U-Net", "a drive", "1.2 MB", recipe="landscape", drive_folder="{FOLDER}")',
).replace(
    'yield f"backbones.{label}.{key}", file.how_to_get(path)',
    'yield f"backbones.{label}.{key}", hooks.Wanted(file, path)',
)


def saved(tensors: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def discriminator() -> bytes:
    return saved(weights(discriminator_shapes(RELEASED[NAME], channels=32)))


@pytest.fixture
def place(make_plugin, tmp_path, monkeypatch):
    """Work in an empty folder, with a stand-in for the plugin and an empty cache."""
    make_plugin("mmdisco-mmdiffusion", DRIVE)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MMDISCO_DOWNLOAD", raising=False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    yield folder
    os.environ.pop("MMDISCO_DOWNLOAD", None)  # the command sets it for its process


@pytest.fixture
def both(hub, drive, place, discriminator, monkeypatch):
    """Publish a small discriminator on the hub and a small U-Net on Drive."""
    hub.repositories[published.REPOSITORY] = {f"{NAME}.pt": discriminator}
    # One number of many: what is saved is larger than what gdown reads at once.
    unet = saved({"mmdiffusion-unet": torch.ones(300_000)[:1]})
    drive.files[FILE] = ("Landscape.pt", unet)
    drive.folders[FOLDER] = [FILE]
    sizes = {NAME: ("the discriminator", f"{len(discriminator) / 1e6:.2f} MB")}
    monkeypatch.setattr(published, "PUBLISHED", published.PUBLISHED | sizes)
    return hub, drive


def left_over(place: Path) -> list[str]:
    """Return the files in the caches and the folder that are no finished content."""
    files = [
        path for path in place.parent.rglob("*") if path.is_file() and path.suffix in (".part", ".incomplete", ".pt")
    ]
    return [path.name for path in files if path.suffix != ".pt" or "snapshots" not in path.parts]


def test_one_command_fetches_converts_and_samples(both, place, capsys):
    hub, drive = both
    assert app.run([*SAMPLE, "--download", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["guided"] is True
    assert "fetching Landscape.pt (about 1.2 MB) from a drive" in err
    assert "fetching mmdiffusion_landscape.pt" in err
    made = {path.name: path.resolve() for path in (place / "weights").iterdir()}
    assert made.keys() == {"mmdiffusion-landscape.safetensors", "mmdisco-landscape.safetensors"}
    cache = place.parent / "cache" / "mmdisco" / "converted"
    digest = hashlib.sha256(hub.repositories[published.REPOSITORY][f"{NAME}.pt"]).hexdigest()[:16]
    assert made["mmdisco-landscape.safetensors"] == cache / f"AkioHayakawa--MMDisCo--{NAME}-{digest}.safetensors"
    assert left_over(place) == []
    # What --download makes is what the printed commands make, to the byte: the fingerprints are the same.
    (place / "Landscape.pt").write_bytes(drive.files[FILE][1])
    assert app.run(["convert", "Landscape.pt", "by-hand.safetensors"]) == 0
    assert (place / "by-hand.safetensors").read_bytes() == made["mmdiffusion-landscape.safetensors"].read_bytes()


def test_what_is_in_the_cache_is_not_fetched_again(both, place, monkeypatch, capsys):
    hub, drive = both
    assert app.run([*SAMPLE, "--download"]) == 0
    requested = len(hub.requested), len(drive.requested)
    other = place.parent / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    capsys.readouterr()
    assert app.run([*SAMPLE, "--download"]) == 0
    assert "fetching" not in capsys.readouterr().err
    assert (len(hub.requested), len(drive.requested)) == requested
    assert app.run(SAMPLE) == 0  # what lies there needs no option


def test_without_the_option_all_is_named_with_its_commands_and_nothing_fetched(both, place, capsys):
    hub, drive = both
    assert app.run(SAMPLE) == 4
    summary, unet, discriminator = capsys.readouterr().err.splitlines()
    assert summary == "error: recipe landscape lacks 2 things; in this order:"
    assert (
        f"download Landscape.pt (about 1.2 MB) from a drive (https://drive.google.com/drive/folders/{FOLDER})" in unet
    )
    assert (
        f"(`hf download AkioHayakawa/MMDisCo {NAME}.pt --local-dir .`), then: mmdisco convert {NAME}.pt "
        in discriminator
    )
    assert " MB, MIT)" in discriminator
    assert all(line.endswith("; or add --download") for line in (unet, discriminator))
    assert (hub.requested, drive.requested) == ([], [])
    assert app.run([*SAMPLE, "--dry-run", "--download", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["missing"]) == 2
    assert (hub.requested, drive.requested) == ([], [])


def test_independent_samples_need_no_discriminator(both, place):
    hub, _ = both
    assert app.run([*SAMPLE, "--independent", "--download"]) == 0
    assert hub.requested == []


def test_evaluation_and_a_checkpoint_fetch_too(both, place, capsys):
    assert app.run([*SAMPLE, "--download", "--out", "first"]) == 0
    (place / "weights" / "mmdiffusion-landscape.safetensors").unlink()
    checkpoint = ["sample", "--checkpoint", "weights/mmdisco-landscape.safetensors", *SAMPLE[3:]]
    assert app.run(checkpoint) == 4
    assert app.run([*checkpoint, "--download"]) == 0
    (place / "weights" / "mmdiffusion-landscape.safetensors").unlink()
    evaluation = ["eval", "--recipe", "landscape", "--set", "eval.n=1", "--reference", "nowhere"]
    capsys.readouterr()
    assert app.run(evaluation) == 4
    assert app.run([*evaluation, "--download"]) != 0
    assert (place / "weights" / "mmdiffusion-landscape.safetensors").is_file()


def test_training_fetches_its_base_model_alone(both, place, capsys):
    hub, _ = both
    train = ["train", "--recipe", "landscape", "--set", "data.path=nowhere"]
    assert app.run([*train, "--download", "--dry-run"]) == 4
    assert not (place / "weights").exists()
    assert app.run([*train, "--download"]) == 4
    assert "nowhere: no such folder" in capsys.readouterr().err
    assert [path.name for path in (place / "weights").iterdir()] == ["mmdiffusion-landscape.safetensors"]
    assert hub.requested == []


def one_error(capsys) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        ({"sha256": "f" * 64}, "its SHA-256 is "),
        ({"bytes": 5}, " bytes came, not 5: not used"),
        ({"size": "400 GB"}, " bytes came, not about 400 GB: not used"),
    ],
)
def test_another_file_than_was_published_is_refused_and_forgotten(spoilt, said, both, place, monkeypatch, capsys):
    from dataclasses import replace

    make = published.published
    monkeypatch.setattr(published, "published", lambda name: replace(make(name), **spoilt))
    assert app.run([*SAMPLE, "--download"]) == 4
    line = one_error(capsys)
    assert line.startswith(f"error: sample.weights: {NAME}.pt: ")
    assert said in line
    assert left_over(place) == []
    assert not list((place.parent / "hub cache").rglob(f"{NAME}.pt"))
    assert not (place / "weights" / "mmdisco-landscape.safetensors").exists()
    monkeypatch.undo()


def test_bytes_that_are_not_those_of_the_hub_are_refused(both, place, capsys):
    hub, _ = both
    hub.damaged = True
    assert app.run([*SAMPLE, "--download"]) == 4
    said = f"{NAME}.pt of AkioHayakawa/MMDisCo has not the SHA-256 that the hub gives for it: not used"
    assert one_error(capsys) == f"error: sample.weights: {said}"
    hub.damaged = False
    assert app.run([*SAMPLE, "--download"]) == 0


def test_a_page_of_excuses_is_no_file(both, place, capsys):
    _, drive = both
    drive.refusal = "Too many users have viewed or downloaded this file recently."
    assert app.run([*SAMPLE, "--download"]) == 4
    said = f"error: backbones.film.weights: Landscape.pt could not be fetched from Google Drive ({drive.refusal})"
    assert one_error(capsys) == said
    assert left_over(place) == []
    # What could be had is kept.
    assert (place / "weights" / "mmdisco-landscape.safetensors").is_file()


def test_a_file_that_is_not_in_the_folder(both, place, capsys):
    _, drive = both
    drive.files[FILE] = ("Other.pt", b"x")
    assert app.run([*SAMPLE, "--download"]) == 4
    assert one_error(capsys).endswith(f"drive/folders/{FOLDER}: there is no Landscape.pt in it")


def test_a_gated_repository(both, place, capsys):
    hub, _ = both
    hub.gated.add(published.REPOSITORY)
    assert app.run([*SAMPLE, "--download"]) == 4
    assert one_error(capsys) == (
        "error: sample.weights: AkioHayakawa/MMDisCo is gated: accept its licence at "
        "https://huggingface.co/AkioHayakawa/MMDisCo and log in with `hf auth login`"
    )


@pytest.mark.parametrize("where", ["elsewhere", "nowhere"])
def test_a_file_that_was_moved_within_its_repository(where, both, place, capsys):
    hub, _ = both
    files = hub.repositories[published.REPOSITORY]
    files[f"checkpoints/{where}" if where == "nowhere" else f"checkpoints/{NAME}.pt"] = files.pop(f"{NAME}.pt")
    code = app.run([*SAMPLE, "--download"])
    assert code == (0 if where == "elsewhere" else 4)
    if code:
        assert "AkioHayakawa/MMDisCo could not be fetched (" in one_error(capsys)


@pytest.mark.parametrize(("module", "package"), [("gdown", "gdown"), ("huggingface_hub", "huggingface-hub")])
def test_a_library_that_is_not_installed(module, package, both, place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert app.run([*SAMPLE, "--download"]) == 4
    assert one_error(capsys).endswith(f": downloading takes {package}: pip install {package}")


def test_no_network(both, place, monkeypatch, capsys):
    hub, drive = both
    hub.address = drive.address = "http://127.0.0.1:9"  # where nobody listens
    hub.redirect(monkeypatch, place.parent / "empty")
    assert app.run([*SAMPLE, "--download"]) == 4
    *notes, first, second = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in notes] == ["fetching Landscape.pt", f"fetching {NAME}.pt"]
    assert first == "error: backbones.film.weights: Landscape.pt could not be fetched from Google Drive (no connection)"
    assert second.startswith(
        "error: sample.weights: AkioHayakawa/MMDisCo could not be reached: no connection to the hub"
    )
    assert left_over(place) == []
    assert not (place / "weights").exists()


def test_a_hub_that_is_not_reached_is_named_alike_by_every_version_of_its_library():
    """Version 1 raises this after its first attempt, later ones an error of their own."""
    said = r"^me/tiny could not be reached: no connection to the hub"
    with pytest.raises(DataError, match=said), hub_errors("me/tiny"):
        raise RuntimeError("Cannot send a request, as the client has been closed.")
    with pytest.raises(DataError, match=r"^me/tiny could not be fetched"), hub_errors("me/tiny"):
        raise RuntimeError("something else")


def test_a_connection_that_breaks_is_taken_up_again(both, place, capsys):
    _, drive = both
    drive.cut = 600_000
    assert app.run([*SAMPLE, "--independent", "--download"]) == 4
    line = one_error(capsys)
    assert line.startswith("error: backbones.film.weights: Landscape.pt could not be fetched from Google Drive (")
    assert len(left_over(place)) == 1
    drive.cut, drive.ranges = None, []
    assert app.run([*SAMPLE, "--independent", "--download"]) == 0
    assert drive.ranges[-1] > 0
    assert left_over(place) == []


def test_a_listing_that_breaks_off(both, place, capsys):
    _, drive = both
    drive.cut_listing = 10
    assert app.run([*SAMPLE, "--independent", "--download"]) == 4
    assert one_error(capsys).endswith("Landscape.pt could not be fetched from Google Drive (the connection broke)")


def test_a_full_disk_leaves_nothing_behind(both, place, largest_file, capsys):
    with largest_file(700):
        assert app.run([*SAMPLE, "--download"]) == 4
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 2
    assert all("File too large" in line for line in errors)
    assert left_over(place) == []
    assert app.run([*SAMPLE, "--download"]) == 0


def test_nothing_is_fetched_for_a_recipe_that_lacks_more_than_that(both, place, capsys):
    hub, drive = both
    Path("mine.yaml").write_text(
        "{extends: landscape, discriminator: {name: mlp}, sample: {weights: runs/x/train/discriminator.safetensors}}"
    )
    assert app.run(["sample", "--recipe", "mine.yaml", "--download"]) == 4
    assert "error: recipe mine lacks 2 things; in this order:" in capsys.readouterr().err
    assert (hub.requested, drive.requested) == ([], [])


def test_eval_fetches_the_models_of_a_recipe(capsys):
    assert app.run(["eval", "--samples", "x", "--download"]) == 2
    assert "--download fetches the models of a recipe: name one with --recipe" in capsys.readouterr().err
