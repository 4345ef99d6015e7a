"""The packaged recipes of these models can be read, and fit their models; the models themselves stay where they are."""

import re

import pytest
from test_pairs import registry

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.recipes import recipe as recipes

__all__ = ["registry"]  # a fixture
NAMES = ("audioldm-animatediff", "audioldm2-cogvideox", "auffusion-videocrafter2", "stableaudio-wan")


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read(name, registry, tmp_path):
    recipe = recipes.load(name, registry=registry)
    assert recipe.modalities == ("audio", "video")
    resolved = tmp_path / f"{name}.yaml"
    resolved.write_text(recipe.to_yaml())
    assert recipes.load(str(resolved), registry=registry) == recipe


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("videocrafter2", "told_fps", "conditioning_fps"),
        ("hunyuan-video", "told_scale", "embedded_guidance_scale"),
    ],
)
def test_an_option_by_its_former_name_is_refused_with_the_new_one(name, old, new, registry, tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text(f"backbones:\n  video: {{name: {name}, {old}: 6}}\n")
    message = rf"old\.yaml:2:\d+: backbones\.video\.{old}: is now called backbones\.video\.{new}$"
    with pytest.raises(UsageError, match=message):
        recipes.load(str(path), registry=registry)


@pytest.mark.parametrize("name", NAMES)
def test_its_header_fetches_what_the_message_asks_for(name, registry, tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("MMDISCO_DOWNLOAD", raising=False)
    recipe = recipes.load(name, registry=registry)
    header = recipes.find(name).read_text().split("summary:")[0]
    expected = r"nor in the cache \(.* parameters: .* GB in 16 bits, .* in 32(; .*)?\): fetch it with `hf download"
    for label, component in recipe.backbones.items():
        with pytest.raises(DataError, match=expected) as error:
            component.factory()(label, component.options, Request())
        command = str(error.value).split("`")[1]
        assert f"#   {command}" in header


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("name", NAMES)
def test_all_that_it_lacks_is_named_at_once(name, dry, registry, tmp_path, monkeypatch, capsys):
    import huggingface_hub.constants

    from mmdisco_cli import app

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    header = recipes.find(name).read_text().split("summary:")[0]
    fetched = re.findall(r"^#   hf download (\S+)", header, flags=re.MULTILINE)
    assert app.run(["sample", "--recipe", name, "--set", "data.path=my clips", *dry]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    summary, *lines, last = err.splitlines()
    assert summary == f"error: recipe {name} lacks {len(fetched) + 1} things; in this order:"
    assert [re.search(r"`hf download (.*?)`", line)[1] for line in lines] == fetched
    assert all(" GB in 16 bits" in line for line in lines)
    assert last.startswith("error: sample.weights: no ")
    trained = f"trained first: `mmdisco train --recipe {name} --set 'data.path=my clips'`"
    assert trained in last or re.search(r"download \w+\.pt \(about \d+ MB, MIT\) from .*, then: mmdisco convert ", last)
    assert app.run(["train", "--recipe", name]) == 4
    assert len(capsys.readouterr().err.splitlines()) == len(fetched) + 1


def test_a_plan_needs_no_discriminator(registry, models, tmp_path, capsys, monkeypatch):
    from mmdisco_cli import app

    monkeypatch.chdir(tmp_path)
    settings = [
        f"backbones.audio.path={models('audioldm')}", f"backbones.video.path={models('animatediff')}",
        "backbones.video.adapter=null", "request={seconds: 0.64, frames: 5, fps: 8, height: 32, width: 32}",
    ]  # fmt: skip
    chosen = [part for setting in settings for part in ("--set", setting)]
    code = app.run(["sample", "--recipe", "audioldm-animatediff", "--dry-run", *chosen])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert "memory audio: unet: " in out
    assert "MB of weights" not in out
    assert "missing: sample.weights: no weights/audioldm-animatediff.safetensors" in out
    assert "mmdisco convert audioldm_animediff_vggsound.pt" in out


@pytest.mark.parametrize(
    ("name", "audio", "video"),
    [("audioldm2-cogvideox", "audioldm2", "cogvideox"), ("stableaudio-wan", "stable-audio", "wan")],
)
def test_its_options_work_on_models_of_its_kind(name, audio, video, registry, models, tmp_path):
    from mmdisco_cli.run.options import SampleOptions
    from mmdisco_cli.sampling.run import sample

    settings = [
        f"backbones.audio.path={models(audio)}",
        f"backbones.video.path={models(video)}",
        "request={frames: 9, fps: 8, height: 16, width: 16}",
        "sample.steps=2",
    ]
    recipe = recipes.load(name, settings, registry=registry)
    sample(recipe, SampleOptions(n=1, prompts=("a dog",), out=tmp_path, independent=True))
    assert len(list(tmp_path.glob("*.mp4"))) == 1
