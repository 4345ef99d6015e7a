"""What protocols take gives the samples of `mmdisco sample`, in batches, and refuses what does not fit in a line."""

import pytest
import torch
from small_models import write_recipe

from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.models import draw_samples, open_clips, open_models
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.sampling.draw import draw


@pytest.fixture
def recipe(models, tmp_path):
    return load(str(write_recipe(models, tmp_path)), ["eval.seed=5"])


@pytest.mark.parametrize("independent", [False, True])
def test_samples_are_those_of_one_batch(recipe, independent):
    models = open_models(recipe)
    found = draw_samples(recipe, models, independent=independent)  # 6 in batches of 4 and 2
    expected = draw(models, recipe.sample, 5, range(6), independent=independent).latents
    assert found.keys() == expected.keys() == {"audio", "video"}
    assert all(torch.allclose(found[m], expected[m], atol=1e-3) for m in expected)


def test_guided_samples_differ_from_independent_ones(recipe):
    models = open_models(recipe)
    guided, alone = draw_samples(recipe, models), draw_samples(recipe, models, independent=True)
    assert (guided["audio"] - alone["audio"]).abs().max() > 1e-2


def test_given_latents_stay_and_reach_their_own_samples(recipe):
    models = open_models(recipe)
    given = models.encode(open_clips(recipe, models).split("heldout").media(range(6), ["video"]))
    found = draw_samples(recipe, models, given=given)
    assert torch.equal(found["video"], given["video"])
    expected = draw(models, recipe.sample, 5, range(6), given=given).latents
    assert torch.allclose(found["audio"], expected["audio"], atol=1e-3)


def test_prompts_follow_their_samples(recipe, monkeypatch):
    seen = []

    def watched(models, config, seed, rows, *, prompts, given, independent):
        seen.append(prompts)
        return draw(models, config, seed, rows)

    monkeypatch.setattr("mmdisco_cli.evaluation.models.draw", watched)
    models = open_models(recipe)
    texts = [str(k) for k in range(6)]
    draw_samples(recipe, models, prompts=texts)
    draw_samples(recipe, models, prompts={"audio": texts, "video": texts[::-1]})
    draw_samples(recipe, models)
    assert seen[:2] == [texts[:4], texts[4:]]
    assert seen[2:4] == [{"audio": texts[:4], "video": texts[:1:-1]}, {"audio": texts[4:], "video": texts[1::-1]}]
    assert seen[4:] == [(), ()]


def test_clips_are_of_the_models_shapes(recipe):
    models = open_models(recipe)
    media = open_clips(recipe, models).split("heldout").media([0, 1], ["audio", "video"])
    assert {m: tuple(x.shape[1:]) for m, x in media.items()} == {
        m: plan.media_shape for m, plan in models.modalities.items()
    }


def test_a_recipe_without_data_is_refused(recipe, models, tmp_path):
    with pytest.raises(UsageError, match="names no data"):
        open_clips(load(str(write_recipe(models, tmp_path, data="null"))), open_models(recipe))


def test_a_recipe_without_weights_is_refused(models, tmp_path):
    with pytest.raises(UsageError, match="names no trained discriminator"):
        open_models(load(str(write_recipe(models, tmp_path)), ["sample.weights=null"]))
