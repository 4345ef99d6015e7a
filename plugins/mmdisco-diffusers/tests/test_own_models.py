"""The README's way from two models and captioned clips to a published folder, by its own commands, on tiny models."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import mmdisco_cli as mmdisco
from mmdisco_cli import app
from mmdisco_cli.data.media import write_mp4

README = (Path(__file__).parents[3] / "README.md").read_text()
SECTION = README.split("## Join your own two models")[1].split("\nWithout models of your own")[0]
COMMANDS = re.findall(r"^ {7}(\S.*)$", SECTION, flags=re.MULTILINE)
ELSEWHERE = {  # what runs these
    "pip install ./plugins/mmdisco-diffusers": ".ci/run",
    "torchrun --nproc-per-node 8 -m -- mmdisco_cli train --recipe mine.yaml --set data.path=clips": "tests/training",
    "hf upload OWNER/NAME runs/mine/train/release": "the fixture below, in place of the hub",
}
SMALL = (
    "request={frames: 9, fps: 8, height: 16, width: 16}",
    "discriminator={name: energy, width: 8, depth: 1, heads: 2}",
)
STEPS = "train.steps=2", "train.batch_size=4", "train.bank=8", "train.validate_every=0", "sample.steps=2", "eval.n=2"
CHANGED = [word for text in (*SMALL, *STEPS) for word in ("--set", text)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a function that puts a folder into the local cache under a name."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(folder: Path, name: str) -> None:
        home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text("0123abcd")
        shutil.copytree(folder, home / "snapshots" / "0123abcd")

    return put


@pytest.fixture
def workplace(tmp_path, monkeypatch, models, hub):
    """Be where the README's commands are typed: two models in the cache, captioned clips, and prompts."""
    monkeypatch.chdir(tmp_path)
    hub(models("audioldm2"), "cvssp/audioldm2")
    hub(models("cogvideox"), "zai-org/CogVideoX-2b")
    generator, clips = torch.Generator().manual_seed(0), tmp_path / "clips"
    clips.mkdir()
    for i in range(12):
        frames = torch.rand(3, 10, 16, 16, generator=generator) * 2 - 1
        tone = 0.5 * (torch.arange(20000) * (0.05 + 0.03 * i)).sin()[None]
        write_mp4(clips / f"{i}.mp4", frames, tone, 8, 16000)
    rows = [f"{i}.mp4,a tone {i},{'train' if i < 8 else 'test'}" for i in range(12)]
    (clips / "metadata.csv").write_text("\n".join(["file_name,text,split", *rows]))
    (tmp_path / "prompts.csv").write_text("caption_audio,caption_video\nwaves,a beach\nrain,a lake\n")
    return tmp_path


def smaller(words: list[str]) -> list[str]:
    """Return a command's words with the settings of tiny models, and two samples at most."""
    words = [word for word in words if word != "--download"]  # all is in the cache, and no network is to be tried
    if words[0] == "recipes":
        return words
    changed = ["--set", "sample.steps=2"] if "--checkpoint" in words else CHANGED
    return [*words, *changed, *(["--n", "2"] if words[0] == "sample" else [])]


def test_every_command_of_the_way_runs_as_printed(workplace, hub, capsys):
    steps = [command for command in COMMANDS if command not in ELSEWHERE]
    assert len(steps) + len(ELSEWHERE) == len(COMMANDS)
    assert [shlex.split(command)[1] for command in steps] == [
        "recipes", "sample", "train", "train", "sample", "eval", "sample",
    ]  # fmt: skip
    for command in steps:
        if "hf:OWNER/NAME" in command:
            hub(workplace / "runs/mine/train/release", "OWNER/NAME")
        assert app.run(smaller(shlex.split(command)[1:])) == 0, (command, capsys.readouterr().err)
    rows = [json.loads(line) for line in (workplace / "runs/mine/samples/manifest.jsonl").read_text().splitlines()]
    assert [row["captions"] for row in rows] == [
        {"audio": "waves", "video": "a beach"},
        {"audio": "rain", "video": "a lake"},
    ]
    card = (workplace / "runs/mine/train/release/README.md").read_text()
    assert "## Evaluation" in card


def test_two_pipelines_are_joined_from_python(workplace, models):
    """In ten lines, as in a notebook; the recipe says what neither of the two does."""
    from diffusers import DiffusionPipeline

    settings = {key: yaml.safe_load(value) for key, value in (text.split("=", 1) for text in (*SMALL, *STEPS))}
    audio = DiffusionPipeline.from_pretrained(models("audioldm2"))
    video = DiffusionPipeline.from_pretrained(models("cogvideox"))
    settings["data.path"] = "clips"
    joined = mmdisco.load("audioldm2-cogvideox", settings, backbones={"audio": audio, "video": video})
    (sample,) = joined.train().sample(1, prompts={"audio": ["waves"], "video": ["a beach"]})
    assert sample.media["video"].isfinite().all()
    assert "<video" in sample._repr_html_()
