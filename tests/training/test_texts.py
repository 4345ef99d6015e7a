"""A discriminator trained under captions learns what they say of a pair, and nothing else of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from captioned_toys import WORDS, Points, PointsOptions, Worded, load
from safetensors.torch import load_file
from test_losses import BEST, SIGMA, WINDOW, C, exact_bases, levels
from test_resume import Killed, kill_at
from tiny_runs import run, weights
from torch import Tensor, nn

from mmdisco_cli.assembly import assemble
from mmdisco_cli.data.manifest import read_rows, read_settings
from mmdisco_cli.diffusion.backbone import Condition
from mmdisco_cli.diffusion.base_models import Prediction
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.evaluation.discriminator_levels import measure_levels
from mmdisco_cli.recipes.schema import Recipe, TrainConfig
from mmdisco_cli.run.options import SampleOptions
from mmdisco_cli.sampling.draw import draw
from mmdisco_cli.sampling.job import plan_job
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.training.batch import Batch, NoisyBatch, noised
from mmdisco_cli.training.captioned import CaptionedClips, CaptionedFakes
from mmdisco_cli.training.conditions import Conditions
from mmdisco_cli.training.data import latents_in
from mmdisco_cli.training.directory import RunDirectory, training_fingerprint
from mmdisco_cli.training.discriminator import discriminator_job
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.losses import joint_losses
from mmdisco_cli.training.pairing import Captions
from mmdisco_cli.training.run import _open
from mmdisco_cli.weights_file import read_about

CPU = torch.device("cpu")


class Worder(nn.Module):
    """l = (cross . text) x y + own (x^2 + y^2) / 2, with the log ratio of each text among them."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x: Mapping[str, Tensor], log_snr: object, pooled: Mapping[str, Tensor]) -> Tensor:
        a, b = (x[m][:, 0] for m in ("x", "y"))
        return (pooled["x"] @ self.parts[:2]) * a * b + self.parts[2] * (a**2 + b**2) / 2


def worded(count: int, seed: int = 0) -> NoisyBatch:
    """Return noisy pairs of correlation 0.8 and -0.8 in turn, under the text that says which."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2, count, 1, generator=generator, dtype=torch.float64)
    odd = torch.arange(count)[:, None] % 2
    rho = 0.8 * (1 - 2 * odd)
    real = Batch({"x": z[0], "y": rho * z[0] + (1 - rho**2).sqrt() * z[1]})
    text = torch.cat([1 - odd, odd], 1).double()
    noisy = noised(real, levels(count), generator)
    return NoisyBatch(noisy.states, noisy.noise, noisy.levels, {m: Condition(text, pooled=text) for m in ("x", "y")})


def test_the_minimiser_under_texts_is_the_residual_score_of_each_text() -> None:
    module, noisy = Worder(), worded(100_000)
    optimizer, config = (
        torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe"),
        TrainConfig(lambda_disc=0),
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value, _ = joint_losses(module, exact_bases, noisy, None, WINDOW, config)
        value.backward()
        return value

    optimizer.step(closure)
    assert module.parts.tolist() == pytest.approx([BEST["cross"], -BEST["cross"], BEST["own"]], abs=0.03)
    _, figures = joint_losses(module, exact_bases, noisy, None, WINDOW, config)
    expected = 1 - (1 - SIGMA**2 / (1 - C**2)) / (1 - SIGMA**2)
    assert figures["gain"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("own", [False, True])
def test_rows_that_are_not_comparable_add_nothing_to_the_classification(own: bool) -> None:
    module, config = Worder(), TrainConfig(lambda_denoise=0)
    module.parts.data[:] = torch.tensor([0.3, -0.2, 0.1])
    noisy, half = worded(64), torch.arange(64) < 32
    fake = worded(64, 1) if own else None

    def value(comparable: Tensor) -> tuple[float, Mapping[str, float]]:
        parts = [
            NoisyBatch(b.states, b.noise, b.levels, b.conditions, comparable) if b else None for b in (noisy, fake)
        ]
        loss, figures = joint_losses(module, exact_bases, parts[0], parts[1], WINDOW, config)  # type: ignore[arg-type]
        return float(loss.detach()), figures

    whole, none = value(torch.ones(64, dtype=torch.bool)), value(torch.zeros(64, dtype=torch.bool))
    first, second = value(half), value(~half)
    assert none[0] == 0
    assert first[0] + second[0] == pytest.approx(whole[0])
    assert first[1]["disc"] == pytest.approx(2 * first[0])


@pytest.mark.parametrize("fakes", ["shuffled", "generated", "mixed"])
def test_training_under_captions_learns_what_they_say(fakes: str, tmp_path: Path) -> None:
    recipe, out = load(tmp_path, fakes=fakes), tmp_path / "out"
    Worded.seen.clear()
    run(recipe, out)
    rows = torch.cat([c for c in Worded.seen if len(c) == 64])
    # Both halves of CFG: each text, and the empty one for a tenth of the rows; never CFG itself.
    assert sorted(map(tuple, rows.unique(dim=0).tolist())) == sorted(map(tuple, WORDS.values()))
    assert 0.06 < float((rows.sum(1) == 0).float().mean()) < 0.15
    about = read_about(out / "discriminator.safetensors", "discriminator")
    assert about["captions"] is True
    assert about["text_dropout"] == 0.1
    assert about["results"]["heldout"]["gain"] > 0.04
    assert about["results"]["heldout"]["disc"] < 2 * math.log(2) - 0.01


def test_without_texts_the_same_pairs_teach_nothing(tmp_path: Path) -> None:
    """The control: over both texts the two scalars are uncorrelated."""
    run(load(tmp_path, text_dropout=1), tmp_path / "out")
    about = read_about(tmp_path / "out/discriminator.safetensors", "discriminator")
    assert about["results"]["heldout"]["gain"] < 0.03


def test_every_prompt_layer_moves(tmp_path: Path) -> None:
    recipe = load(tmp_path, steps=20)
    from tiny_runs import alone

    before = discriminator_job(alone(recipe, tmp_path / "none")).module.state_dict()["layers.0.weight"].clone()
    after = run(recipe, tmp_path / "out")["layers.0.weight"]
    moved = (after - before)[:, -4:].abs().amax(0)  # two numbers of text a modality, after the states
    assert bool((moved > 1e-3).all())


@pytest.mark.parametrize("fakes", ["shuffled", "generated", "mixed"])
@pytest.mark.parametrize("bank", [64, 0])
def test_a_killed_training_ends_in_the_same_bits(
    fakes: str, bank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(tmp_path, fakes=fakes, bank=bank, steps=20, batch_size=8)
    run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        kill_at("discriminator", 17, patched)
        with pytest.raises(Killed):
            run(recipe, tmp_path / "killed")
    run(recipe, tmp_path / "killed")
    torch.testing.assert_close(
        weights(tmp_path / "killed", "worded"), weights(tmp_path / "whole", "worded"), rtol=0, atol=0
    )


def test_generated_fakes_keep_their_captions_and_are_made_once_a_caption(tmp_path: Path) -> None:
    settings = {"fakes": "generated", "steps": 2, "bank": 16}
    run(load(tmp_path, **settings), tmp_path / "out")  # type: ignore[arg-type]
    folders = {path.parent for path in (tmp_path / "out/bank").rglob("captions.json")}
    kept = sorted(len(json.loads((f / "captions.json").read_text())["texts"]["x"]) for f in folders)
    assert kept == [16, 16]  # of training and of the held-out clips that are measured
    for folder in folders:
        (shard,) = folder.glob("*.safetensors")
        assert {m: len(x) for m, x in load_file(shard).items()} == {"x": 16, "y": 16}
    run(load(tmp_path, "data.unique=true", **settings), tmp_path / "out", fresh=True)  # type: ignore[arg-type]
    assert len({path.parent for path in (tmp_path / "out/bank").rglob("captions.json")} - folders) == 2


@pytest.mark.parametrize(("cfg", "seen"), [(1.0, 1), (2.0, 2)])
def test_fakes_are_made_without_cfg_unless_the_recipe_says_so(cfg: float, seen: int, tmp_path: Path) -> None:
    recipe = load(tmp_path, "sample.batch_size=3", fakes="generated", steps=1, bank=3, batch_size=8, fake_cfg=cfg)
    Worded.seen.clear()
    run(recipe, tmp_path / "out")
    assert {len(c) for c in Worded.seen} == {3 * seen, 8}
    texts = next(c for c in Worded.seen if len(c) == 3 * seen)[-3:]
    assert texts.tolist() == [WORDS["same"], WORDS["opposite"], WORDS["same"]]


@pytest.mark.parametrize(
    ("settings", "train", "said"),
    [
        (
            ["data.unique=true"],
            {"text_dropout": 0},
            r"train\.fakes: shuffled .*train\.fakes=generated, data with labels",
        ),
        (["data.unique=true"], {"batch_size": 3}, r"train\.batch_size: shuffled fakes of captions .* at least 4"),
        (["data.silent=true"], {}, r"backbones\.x and backbones\.y: .* no captions .*pooled: false"),
    ],
)
def test_what_cannot_be_right_is_refused(
    settings: list[str], train: dict[str, float], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        run(load(tmp_path, *settings, **train), tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "train"),
    [
        (["data.unique=true", "data.labelled=true"], {"text_dropout": 0}),
        (["data.unique=true"], {"text_dropout": 0, "fakes": "generated"}),
        (["data.unique=true"], {"text_dropout": 0, "fakes": "mixed"}),
        (["data.unique=true"], {"text_dropout": 0, "lambda_disc": 0}),
        (["data.unique=true"], {"text_dropout": 0.5}),
        (["data.silent=true", "backbones.x.pooled=false", "backbones.y.pooled=false"], {}),
    ],
)
def test_what_can_be_right_is_trained(settings: list[str], train: dict[str, object], tmp_path: Path) -> None:
    run(load(tmp_path, *settings, steps=2, batch_size=8, **train), tmp_path / "out")
    about = read_about(tmp_path / "out/discriminator.safetensors", "discriminator")
    assert about.get("captions", False) is ("data.silent=true" not in settings)


def test_another_dropout_is_another_training_only_where_there_are_captions(tmp_path: Path) -> None:
    run(load(tmp_path, steps=2), tmp_path / "out")
    with pytest.raises(DataError, match=r"changed of train\.text_dropout: choose another --out"):
        run(load(tmp_path, steps=2, text_dropout=0.2), tmp_path / "out")
    silent = ["data.silent=true", "backbones.x.pooled=false", "backbones.y.pooled=false"]
    first, second = (load(tmp_path, *silent, steps=2, text_dropout=share) for share in (0.1, 0.2))
    assert training_fingerprint(first) == training_fingerprint(second)
    ours, theirs = run(first, tmp_path / "silent"), run(second, tmp_path / "silent")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def with_weights(recipe: Recipe, path: Path, *settings: str) -> Recipe:
    return load(path.parent.parent, f"sample.weights={path}", *settings)


def test_a_file_with_captions_is_sampled_beside_prompts_and_only_beside_those(tmp_path: Path) -> None:
    recipe = load(tmp_path)
    run(recipe, tmp_path / "out")
    path = tmp_path / "out/discriminator.safetensors"
    assembly = assemble(with_weights(recipe, path), CPU)
    found = {}
    for text in ("same", "opposite"):
        latents = draw(assembly, recipe.sample, 0, range(400), prompts=[text] * 400).latents
        found[text] = float(torch.corrcoef(torch.cat([latents["x"], latents["y"]], 1).T)[0, 1])
    assert found["same"] > 0.3
    assert found["opposite"] < -0.3
    mixed = draw(assembly, recipe.sample, 0, [0], prompts={"x": ["same"], "y": ["opposite"]}).latents
    same = draw(assembly, recipe.sample, 0, [0], prompts=["same"]).latents
    assert not torch.equal(mixed["x"], same["x"])
    with pytest.raises(DataError, match="trained with prompts of x of size 2, but the recipe has 0"):
        assemble(with_weights(recipe, path, "backbones.x.pooled=false"), CPU)


def test_texts_are_encoded_once_and_forgotten_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assembly = assemble(load(tmp_path), CPU, with_discriminator=False)
    made: list[str] = []
    encode = Worded.encode_prompt
    monkeypatch.setattr(Worded, "encode_prompt", lambda self, p, n, plan: made.extend(p) or encode(self, p, n, plan))
    texts = {m: ["same", "opposite", "same", ""] for m in ("x", "y")}
    conditions = Conditions(assembly)
    for _ in range(3):
        found = conditions.of(texts)
    assert sorted(made) == sorted(["same", "opposite", ""] * 2)
    assert found["y"].pooled is not None
    assert found["y"].pooled.tolist() == [WORDS[t] for t in texts["y"]]
    assert found["x"].negative is None
    assert found["x"].pooled_negative is None
    tight, made[:] = Conditions(assembly, limit=1), []
    for _ in range(2):
        assert torch.equal(tight.of(texts)["x"].pooled, found["x"].pooled)  # type: ignore[arg-type]
    assert len(made) == 12
    assert conditions.of({}) == {}


def test_a_dry_run_counts_the_captions(tmp_path: Path) -> None:
    from tiny_runs import alone

    overview = _open(alone(load(tmp_path, fakes="generated"), tmp_path / "out")).overview
    assert (overview["captions"], overview["text_dropout"]) == (4096, 0.1)


def notes(recipe: Recipe, **options: object) -> str:
    return "\n".join(plan_job(recipe, SampleOptions(n=1, **options)).notes)  # type: ignore[arg-type]


def test_a_file_without_captions_leaves_prompts_out_of_the_guidance_and_says_so(tmp_path: Path) -> None:
    settings = ["data.silent=true", "backbones.x.pooled=false", "backbones.y.pooled=false"]
    run(load(tmp_path, *settings, steps=2, batch_size=8), tmp_path / "out")
    path = tmp_path / "out/discriminator.safetensors"
    recipe = load(tmp_path, *settings, f"sample.weights={path}")
    said = "trained without captions: the prompts reach the base models, not the guidance"
    assert said in notes(recipe, prompts=("same",))
    assert said not in notes(recipe)
    assert said not in notes(recipe, prompts=("same",), independent=True)
    Worded.seen.clear()
    draw(assemble(recipe, CPU), recipe.sample, 0, [0], prompts=["same"])
    # Both halves of CFG at 3 are in one batch, the prompt second.
    assert torch.cat(Worded.seen)[1].tolist() == WORDS["same"]
    with pytest.raises(DataError, match="trained without captions"):
        assemble(load(tmp_path, f"sample.weights={path}"), CPU)


@pytest.mark.parametrize(("dropout", "warned"), [(0.0, True), (0.1, False)])
def test_a_file_says_whether_it_knows_the_empty_text(dropout: float, warned: bool, tmp_path: Path) -> None:
    run(load(tmp_path, steps=2, batch_size=8, text_dropout=dropout), tmp_path / "out")
    recipe = load(tmp_path, f"sample.weights={tmp_path / 'out/discriminator.safetensors'}")
    found = notes(recipe, prompts=("same",))
    assert ("it does not know the empty text" in found) == warned
    assert "without captions" not in found


def test_texts_by_modality_are_kept_in_the_manifest(tmp_path: Path) -> None:
    run(load(tmp_path, steps=2, batch_size=8), tmp_path / "out")
    recipe = load(tmp_path, f"sample.weights={tmp_path / 'out/discriminator.safetensors'}", "sample.cfg={x: 1, y: 1}")
    options = SampleOptions(n=3, prompts=("same", "opposite"), captions=({}, {"y": "same"}), out=tmp_path / "samples")
    Worded.seen.clear()
    sample(recipe, options)
    x, y = (Worded.seen[0], Worded.seen[1])
    assert x.tolist() == [WORDS["same"], WORDS["opposite"], WORDS["same"]]
    assert y.tolist() == [WORDS["same"]] * 3
    rows = read_rows(tmp_path / "samples")
    assert [(row["prompt"], row.get("captions")) for row in rows] == [
        ("same", None),
        ("opposite", {"y": "same"}),
        ("same", None),
    ]
    assert read_settings(tmp_path / "samples")["captions"] == [{}, {"y": "same"}]  # type: ignore[index]
    with pytest.raises(UsageError, match="holds samples made with captions"):
        sample(recipe, replace(options, captions=()))


def test_eval_of_a_discriminator_that_knows_texts_is_under_none(tmp_path: Path) -> None:
    run(load(tmp_path, steps=2, batch_size=8), tmp_path / "out")
    assembly = assemble(load(tmp_path, f"sample.weights={tmp_path / 'out/discriminator.safetensors'}"), CPU)
    assert {m: x.tolist() for m, x in assembly.pooled_without_text.items()} == {m: [WORDS[""]] for m in ("x", "y")}
    clean = Points(PointsOptions()).media(range(100), ("x", "y"))
    found = measure_levels(assembly, clean, 0)
    assert all(math.isfinite(float(level.figures["logit"].value)) for level in found)


def test_texts_of_several_lengths_are_padded_by_the_model_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(self: Worded, prompts: list[str], negatives: None, plan: object) -> Condition:
        longest = max(map(len, prompts))
        return Condition({"tokens": torch.tensor([[ord(c) for c in p.rjust(longest, "_")] for p in prompts])})

    monkeypatch.setattr(Worded, "encode_prompt", encode)
    conditions = Conditions(assemble(load(tmp_path), CPU, with_discriminator=False))
    padded = conditions.of({"x": ["same", "to"]})["x"].positive
    assert isinstance(padded, Mapping)
    assert ["".join(map(chr, row)) for row in padded["tokens"].tolist()] == ["same", "__to"]
    alone = conditions.of({"x": ["to", "to"]})["x"].positive
    assert isinstance(alone, Mapping)
    assert alone["tokens"].shape == (2, 2)


def test_fakes_of_rows_without_text_are_of_texts_that_have_nothing_in_common() -> None:
    rows = torch.arange(50)[:, None]
    captions = Captions({m: tuple(f"{m} {k}" for k in range(50)) for m in ("x", "y")})
    clips = CaptionedClips(captions, latents_in({"x": rows, "y": rows}), dropout=0.5)
    fakes = CaptionedFakes(clips, latents_in({"x": rows + 100, "y": rows + 100}), (("x",), ("y",)))
    generator = torch.Generator().manual_seed(0)
    real = clips(200, generator)
    fake = fakes(real, generator)
    assert fake.texts == real.texts
    dropped = torch.tensor([not text for text in real.texts["x"]])
    pairs = torch.cat([real.latents["x"] + 100, fake.latents["x"], fake.latents["y"]], 1)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert torch.equal(pairs[~dropped, 1], pairs[~dropped, 2])
    assert 0.3 < float(dropped.float().mean()) < 0.7
    assert float((pairs[dropped, 1] == pairs[dropped, 2]).float().mean()) < 0.1


def test_mixed_fakes_of_texts_are_re_paired_within_their_label_and_then_generated() -> None:
    rows = torch.arange(51)[:, None]
    texts = {m: tuple(f"{m} {k}" for k in range(51)) for m in ("x", "y")}
    captions = Captions(texts, (*(f"kind {k % 5}" for k in range(50)), "alone"))
    clips = CaptionedClips(captions, latents_in({"x": rows, "y": rows}))
    fakes = CaptionedFakes(clips, latents_in({"x": rows + 100, "y": rows + 100}), (("x",), ("y",)), mixed=True)
    generator = torch.Generator().manual_seed(0)
    real = clips(400, generator)
    x, y = (values[:, 0].int() for values in fakes(real, generator).latents.values())
    own = real.latents["x"][:, 0].int()
    alone = own[:200] == 50
    assert torch.equal(x[200:], own[200:] + 100)
    assert torch.equal(y[200:], own[200:] + 100)
    assert torch.equal(x[:200][alone], own[:200][alone] + 100)
    assert torch.equal(x[:200][~alone], own[:200][~alone])
    assert torch.equal(y[:200][~alone] % 5, own[:200][~alone] % 5)
    assert bool((y[:200][~alone] != own[:200][~alone]).all())


def said_of(recipe: Recipe, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    discriminator_job(Context(RunDirectory(folder / "none", recipe), CPU))
    return capsys.readouterr().err


def test_captions_that_are_not_read_whole_are_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of(load(tmp_path, "data.unique=true", bank=10), tmp_path, capsys).splitlines()
    lines = [line for line in said if "longer than" in line]
    assert lines == [
        f"warning: 10 captions are longer than the 1 tokens that {m}'s text encoder reads; "
        "the rest of them is not seen, as '0' in 'same 0'"
        for m in ("x", "y")
    ]
    assert "longer than" not in said_of(load(tmp_path, bank=10), tmp_path, capsys)


@pytest.mark.parametrize(
    ("fakes", "settings", "said"),
    [
        ("shuffled", ("data.unique=true", "data.labelled=true"), True),
        ("mixed", ("data.unique=true", "data.labelled=true"), True),
        ("generated", ("data.unique=true", "data.labelled=true"), False),
        ("shuffled", ("data.labelled=true",), False),
        ("shuffled", ("data.unique=true",), False),
    ],
)
def test_texts_that_differ_within_a_label_are_said(
    fakes: str, settings: tuple[str, ...], said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said_of(load(tmp_path, *settings, fakes=fakes, bank=10), tmp_path, capsys)
    assert ("note: 2 labels have clips of different texts" in found) is said


def test_captions_that_no_model_takes_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "note: the captions of the clips are not used: no backbone of this recipe takes any prompts"
    monkeypatch.setattr(Worded, "takes_prompts", False)
    monkeypatch.setattr(Worded, "encode_prompt", lambda *_: Condition())
    unpooled = ["backbones.x.pooled=false", "backbones.y.pooled=false"]
    assert said_of(load(tmp_path, *unpooled), tmp_path, capsys).splitlines().count(line) == 1
    assert line not in said_of(load(tmp_path, *unpooled, "data.silent=true"), tmp_path, capsys)


class ReadsPredictions(nn.Module):
    """A discriminator whose logit is what the second model predicted."""

    reads_x0 = True

    def forward(self, x: Mapping[str, Tensor], log_snr: object, pooled: object, x0: Mapping[str, Tensor]) -> Tensor:
        return x0["y"][:, 0] + 0 * x["x"][:, 0]


@pytest.mark.parametrize("equal", [True, False])
def test_what_is_predicted_of_a_re_paired_state_is_under_the_text_of_its_row(equal: bool) -> None:
    count, calls = 8, []
    texts = torch.ones(count, 1) if equal else torch.arange(count)[:, None].float()
    batch = Batch({m: torch.arange(count)[:, None].float() * 10 for m in ("x", "y")})
    noisy = replace(
        noised(batch, levels(count), torch.Generator().manual_seed(0)),
        conditions={m: Condition(texts) for m in ("x", "y")},
    )

    def predict(given: NoisyBatch) -> Prediction:
        calls.append(given)
        x0 = {m: given.states[m] + 1000 * given.conditions[m].positive for m in ("x", "y")}  # type: ignore[operator]
        return Prediction(x0, given.states)

    joint_losses(ReadsPredictions(), predict, noisy, None, WINDOW, TrainConfig(lambda_denoise=0))
    assert len(calls) == (1 if equal else 2)
    if not equal:
        assert torch.equal(calls[1].states["y"], noisy.states["y"].roll(count // 2, 0))
        assert torch.equal(calls[1].states["x"], noisy.states["x"])
        assert torch.equal(calls[1].conditions["y"].positive, texts)  # type: ignore[arg-type]
