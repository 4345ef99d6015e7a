"""The digits protocol, from written files: banks of real digits as base models, as recognisable as real ones."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from small_digits import ASSETS

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, ExitCode, PluginError, UsageError
from mmdisco_cli.evaluation.run import evaluate
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.run.options import EvalOptions, SampleOptions, TrainOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.toys.digits import agreement
from mmdisco_cli.toys.digits.dataset import WORDS, build
from mmdisco_cli.toys.digits.judges import Verdicts, digits_of, framed, load_judges
from mmdisco_cli.toys.digits.options import DigitsOptions
from mmdisco_cli.toys.digits.reading import Judged, read_image
from mmdisco_cli.toys.digits.real import open_real
from mmdisco_cli.training.run import train

N = 24
RECIPE = """
summary: banks of digits
data: {{name: digits, spoken: {spoken}, written: {written}, pairs: 100}}
request: {{seconds: 1.0, height: 28, width: 28}}
backbones:
  audio: {{name: bank, path: audio.safetensors, rate: 16000}}
  image: {{name: bank, path: image.safetensors}}
  word: {{name: bank, texts: [{words}]}}
discriminator: {{name: factors, factors: 12, width: 16, depth: 1, heads: 2, tokens: 16}}
train: {{steps: 3, batch_size: 6, bank: 12}}
sample: {{steps: 6, batch_size: 12, weights: joint/discriminator.safetensors, scale: 2}}
eval: {{protocol: digits, n: {n}, given: true}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with banks of the recordings and images to train on, a recipe, and a discriminator hardly trained."""

    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = DigitsOptions(spoken=str(ASSETS / "spoken"), written=str(ASSETS / "written"))
        data = build(options, Request())
        places = [p for found in data.spoken.places["train"].values() for p in found]
        save_file({"audio": data.spoken.stacked(places)}, "audio.safetensors")
        images = [data.written.places["train"][digit][k] for digit in range(10) for k in range(3)]
        save_file({"image": data.written.images[images][:, None].float() / 127.5 - 1}, "image.safetensors")
        text = RECIPE.format(spoken=options.spoken, written=options.written, words=", ".join(WORDS), n=N)
        (folder / "banks.yaml").write_text(text)
        train(load("banks.yaml"), TrainOptions(out=folder / "joint"))
    return folder


@pytest.fixture
def recipe(world, monkeypatch):
    monkeypatch.chdir(world)
    return load("banks.yaml")


@pytest.fixture(scope="module")
def report(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        evaluate(load("banks.yaml"), EvalOptions(out=world / "eval"))
    return json.loads((world / "eval" / "metrics.json").read_text())


def test_real_pairs_agree_and_banks_alone_do_not(report):
    figures = report["metrics"]
    assert figures["agreement"]["real"]["value"] > 0.85
    # Of three modalities, each of ten digits by itself, one in a hundred agrees.
    assert figures["agreement"]["independent"]["value"] <= 0.15
    assert set(figures) >= {"agreement_audio_image", "agreement_audio_word", "agreement_image_word"}
    low, high = (figures["agreement_image_word"]["independent"][key] for key in ("low", "high"))
    assert low <= figures["agreement_image_word"]["independent"]["value"] <= high
    assert report["protocol"]["judges"]["image"] > 0.95


def test_shares_of_digits_are_of_all_samples(report):
    shares = report["metrics"]["digit_share"]
    assert set(shares) == {"audio", "image", "word"}
    for rows in shares.values():
        for share in rows.values():
            assert sum(share[str(digit)]["value"] for digit in range(10)) == pytest.approx(1, abs=1e-3)
            assert all(share[str(k)]["low"] <= share[str(k)]["value"] <= share[str(k)]["high"] for k in range(10))


def test_distances_compare_with_the_other_half(report):
    for name in ("kd_audio", "kd_image"):
        assert set(report["metrics"][name]) == {"real", "independent", "guided", "ratio", "difference"}


def test_a_given_modality_is_judged_by_what_was_given(report):
    for m in ("audio", "image", "word"):
        found = report["metrics"][f"given_{m}"]
        assert set(found) == {"audio", "image", "word", "all"} - {m}
        assert found["all"]["value"] <= min(value["value"] for key, value in found.items() if key != "all")


def test_every_file_is_listed_with_its_verdict(world, report):
    rows = [json.loads(line) for line in (world / "eval" / "per_sample.jsonl").read_text().splitlines()]
    assert len(rows) == 6 * N
    guided = [row for row in rows if row["row"] == "guided"]
    assert report["metrics"]["agreement"]["guided"]["value"] == pytest.approx(
        sum(len(set(row["digits"].values())) == 1 for row in guided) / N
    )
    with Image.open(world / "eval" / "confusion.png") as image:
        assert image.size[0] > 300


def test_samples_of_a_folder_are_judged_in_place_of_guided_ones(recipe, report, world, capsys):
    sample(recipe, SampleOptions(n=10, seed=3, out=world / "own"))
    evaluate(recipe, EvalOptions(out=world / "eval-own", samples=world / "own", metrics=("agreement",)))
    found = json.loads((world / "eval-own" / "metrics.json").read_text())
    assert found["n"] == 10
    assert set(found["metrics"]) == {"agreement"}
    # Of another seed, and so of other noise than the independent ones.
    assert found["metrics"]["agreement"]["difference"]["n"] == 0
    said = capsys.readouterr().err
    assert "10 samples, so every row has as many instead of 24" in said
    assert "not the same models and noise" not in said
    sample(recipe, SampleOptions(n=8, out=world / "same"))
    evaluate(recipe, EvalOptions(out=world / "eval-same", samples=world / "same", metrics=("agreement",)))
    same = json.loads((world / "eval-same" / "metrics.json").read_text())
    assert same["metrics"]["agreement"]["difference"]["n"] == 8


def test_samples_of_other_models_or_kinds_are_warned_of_or_refused(recipe, report, world, capsys):
    sample(load("banks.yaml", ["sample.steps=2"]), SampleOptions(n=2, out=world / "quick"))
    evaluate(recipe, EvalOptions(out=world / "eval-quick", samples=world / "quick", metrics=("agreement",)))
    assert "not the same models and noise" in capsys.readouterr().err
    silent = load("banks.yaml", ["backbones.audio.rate=null"])
    sample(silent, SampleOptions(n=1, independent=True, out=world / "vectors"))
    with pytest.raises(DataError, match="in sample 0 audio is of kind vector, not audio"):
        evaluate(recipe, EvalOptions(out=world / "eval-vectors", samples=world / "vectors"))


def test_a_kind_that_nobody_provides_is_refused_before_anything_is_trained(world, monkeypatch, tmp_path):
    monkeypatch.chdir(world)
    with pytest.raises(PluginError, match="backbones: image: unknown kind 'imag'"):
        train(load("banks.yaml", ["backbones.image.kind=imag"]), TrainOptions(out=tmp_path / "train"))
    assert not (tmp_path / "train" / "metrics.jsonl").exists()


def test_reports_of_it_do_not_compare_clip_by_clip(report, world, monkeypatch, capsys):
    monkeypatch.chdir(world)
    assert mmdisco(["eval", "--compare", "eval", "eval"]) == ExitCode.DATA
    assert "eval: its protocol keeps no figures of single clips, which --compare pairs" in capsys.readouterr().err


def test_a_folder_of_real_digits_is_the_reference(recipe, report, world, tmp_path, spoken, written):
    for source in (*spoken.iterdir(), *written.iterdir()):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    options = EvalOptions(out=world / "eval-ref", reference=tmp_path, metrics=("kd_audio", "kd_image"))
    evaluate(recipe, options)
    found = json.loads((world / "eval-ref" / "metrics.json").read_text())
    assert found["protocol"]["reference"] == str(tmp_path)
    assert found["metrics"]["kd_image"]["real"]["value"] != report["metrics"]["kd_image"]["real"]["value"]


def test_a_recording_that_cannot_be_read_is_left_out_of_the_real_ones(recipe, tmp_path, spoken, written, capsys):
    for source in (*spoken.iterdir(), *written.iterdir()):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    whole = open_real(recipe, tmp_path)
    broken = tmp_path / "3_nicolas_7.wav"
    broken.write_bytes(b"no recording")
    real = open_real(recipe, tmp_path)
    warned = capsys.readouterr().err
    assert f"skipped: {broken}: " in warned
    read = [real.data.spoken.recordings[k].path for k in (*real.others["audio"], *real.paired["audio"][3])]
    assert broken not in read
    assert len(real.others["audio"]) == len(whole.others["audio"])
    (tmp_path / "4_nicolas_7.wav").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 32 clips cannot be used"):
        open_real(recipe, tmp_path)


def test_other_data_and_samples_without_files_are_refused(recipe, tmp_path):
    with pytest.raises(UsageError, match="needs the data set digits"):
        evaluate(replace(load("gaussians"), eval=recipe.eval), EvalOptions(out=tmp_path / "out"))
    with pytest.raises(DataError, match="holds no samples"):
        evaluate(recipe, EvalOptions(out=tmp_path / "out", samples=tmp_path))


def judged(**digits):
    verdicts = {m: Verdicts(torch.tensor(values)) for m, values in digits.items()}
    return Judged([{}] * len(next(iter(digits.values()))), {}, verdicts)


def test_agreement_counts_what_is_no_digit_as_none():
    found = judged(audio=[1, 2, 3, -1], image=[1, 2, 4, -1], word=[1, 3, 3, -1])
    assert agreement.agreeing(found, ["audio", "image"]).tolist() == [True, True, False, False]
    assert agreement.agreeing(found, ["audio", "image", "word"]).tolist() == [True, False, False, False]
    assert agreement.confusion(found, "audio", "image").sum() == 3
    assert int(agreement.confusion(found, "audio", "image")[3, 4]) == 1


def test_two_modalities_have_one_figure_of_agreement():
    assert agreement.names_of(["audio", "word"]) == {"agreement": ("audio", "word")}


def test_texts_are_names_or_numerals():
    assert digits_of(["seven", " Seven\n", "7", "seventeen", ""]).digits.tolist() == [7, 7, 7, -1, -1]


def test_judges_do_not_mind_inversion_size_or_loudness(written, spoken, tmp_path):
    data = build(DigitsOptions(spoken=str(spoken), written=str(written)), Request())
    judges, _ = load_judges()
    images = data.media(range(32), ("image",))["image"]
    plain = judges.judge("image", images).digits
    assert torch.equal(judges.judge("image", -images).digits, plain)
    audio = data.media(range(16), ("audio",))["audio"]
    assert (
        float((judges.judge("audio", audio * 0.3).digits == judges.judge("audio", audio).digits).float().mean()) > 0.9
    )
    pixels = ((images[0, 0] + 1) * 127.5).round().byte().numpy()
    Image.fromarray(pixels).resize((112, 112), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    torch.testing.assert_close(read_image(tmp_path / "large.png"), images[0], atol=1e-2, rtol=0)
    assert framed(torch.full((1, 3, 32, 32), -1.0)).shape == (1, 1, 28, 28)
