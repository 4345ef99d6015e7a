"""A model is found where the recipe says, or the message says what to do; nothing is ever fetched unasked."""

import json
import shutil
import subprocess
import sys

import diffusers
import pytest
import torch
import transformers
from tiny import BUILDERS, JOINT

from mmdisco_cli.diffusion.backbone import Request, as_joint
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_diffusers import mmdisco_backbones
from mmdisco_diffusers.audioldm2 import generate
from mmdisco_diffusers.finding import NATIVE
from mmdisco_diffusers.options import AnimateDiffOptions, ModelOptions
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.weights_on_disk import count_weights, name_weights, weight_files

SPECS = {spec.name: spec for spec in mmdisco_backbones()}


def test_whoever_has_not_installed_it_sees_how():
    from mmdisco_cli.registry.installing import entries_of

    assert entries_of("mmdisco-diffusers") == {"backbone": list(SPECS)}


def test_every_pipeline_leads_to_the_backbone_that_reads_it(models):
    for family in (*BUILDERS, *JOINT):
        index = json.loads((models(family) / "model_index.json").read_text())
        assert NATIVE[index["_class_name"]] == family


def build(family, path, **options):
    spec = SPECS[family]
    return spec.factory()("video", spec.options(path=str(path), **options), Request())


def test_describing_the_models_imports_neither_torch_nor_diffusers():
    code = "import sys, mmdisco_diffusers as m; list(m.mmdisco_backbones()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "diffusers", "transformers", "huggingface_hub"}.isdisjoint(done.stdout.split())
    assert SPECS.keys() == BUILDERS.keys() | JOINT.keys() | {"auffusion", "videocrafter2", "lockstep"}


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("MMDISCO_DOWNLOAD", raising=False)
    return tmp_path / "hub"


def test_a_missing_model_comes_with_the_command_that_fetches_it(empty_cache):
    with pytest.raises(DataError) as error:
        build("wan", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    assert str(error.value) == (
        "backbones.video.path: Wan-AI/Wan2.1-T2V-1.3B-Diffusers is neither a folder nor in the cache "
        "(7.2 billion parameters: 14 GB in 16 bits, 29 GB in 32; Apache-2.0): "
        "fetch it with `hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers`, or add --download"
    )


def test_every_model_that_is_lacked_is_named_with_its_command(empty_cache, monkeypatch):
    from mmdisco_diffusers.finding import models_lacked
    from mmdisco_diffusers.options import AnimateDiffOptions

    options = AnimateDiffOptions(path="someone/tiny", adapter="nowhere/at/all")
    (first, how), (second, other) = models_lacked("video", options)
    assert (first, second) == ("backbones.video.path", "backbones.video.adapter")
    assert "in the cache: fetch it with `hf download someone/tiny`" in how
    assert other == "nowhere/at/all: no such folder"
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "1")
    assert [key for key, _ in models_lacked("video", options)] == ["backbones.video.adapter"]
    assert list(models_lacked("video", AnimateDiffOptions())) == []


@pytest.mark.parametrize(
    "name", ["a/b c", "a/.b", "a/b-", "a--b/c", "a/b..c", "a/b.git", "a/" + "b" * 97, "~/b", "a/%s", "-a/b"]
)
def test_a_name_that_the_hub_would_refuse_is_that_of_a_folder(empty_cache, name):
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    with pytest.raises(HFValidationError):
        validate_repo_id(name)
    with pytest.raises(DataError, match=r"^backbones\.video\.path: .*: no such folder$"):
        build("wan", name)


def cached(folder, cache):
    """Put a pipeline into the cache as someone/tiny, and return where it lies there."""
    home = cache / "models--someone--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123abcd")
    return shutil.copytree(folder, home / "snapshots" / "0123abcd")


def test_a_model_in_the_cache_is_found_by_its_name(empty_cache, models):
    cached(models("wan"), empty_cache)
    assert build("wan", "someone/tiny").fingerprint == build("wan", models("wan")).fingerprint


def test_only_the_option_lets_anything_be_fetched(empty_cache, monkeypatch):
    import diffusers

    requested = []
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", lambda name: requested.append(name) or 1 / 0)
    with pytest.raises(DataError, match="neither a folder nor in the cache"):
        build("wan", "someone/tiny")
    assert requested == []
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "1")
    with pytest.raises(DataError, match=r"someone/tiny could not be fetched \(division by zero\)"):
        build("wan", "someone/tiny")
    assert requested == ["someone/tiny"]


def test_a_gated_model_says_what_to_do(empty_cache, monkeypatch):
    from huggingface_hub.errors import GatedRepoError

    def refuse(name):
        gated = GatedRepoError.__new__(GatedRepoError)  # which wants the response of a server
        raise OSError("Cannot load model, see the stacktrace above.") from gated

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", refuse)
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "1")
    with pytest.raises(DataError) as error:
        build("wan", "someone/tiny")
    assert str(error.value) == (
        "backbones.video.path: someone/tiny is gated: accept its licence at https://huggingface.co/someone/tiny "
        "and log in with `hf auth login`"
    )


def test_what_diffusers_left_out_of_a_repository_is_not_missed(empty_cache, monkeypatch, models):
    from huggingface_hub.errors import LocalEntryNotFoundError

    home = cached(models("wan"), empty_cache)

    def incomplete(name, local_files_only):
        error = LocalEntryNotFoundError("some files of the repository's listing are not in the cache")
        error.snapshot_path = str(home)
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", incomplete)
    assert build("wan", "someone/tiny").fingerprint == build("wan", models("wan")).fingerprint


def test_a_part_beside_a_pipeline_is_fetched_with_its_weights(empty_cache, monkeypatch, models):
    import huggingface_hub

    requested = []

    def snapshot(name, **wanted):
        requested.append((name, wanted))
        return str(models("text-to-video-sd") / "unet")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "1")
    build("videocrafter2", models("text-to-video-sd"), unet="someone/unet")
    ((name, wanted),) = requested
    assert name == "someone/unet"
    assert "*.safetensors" in wanted["allow_patterns"]
    assert not wanted.get("local_files_only")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", UsageError, "backbones.video.path: missing"),
        ("./nowhere", DataError, "./nowhere: no such folder"),
        ("/nowhere/at/all", DataError, "/nowhere/at/all: no such folder"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path, error, message):
    with pytest.raises(error, match=message):
        build("wan", path)


def test_another_pipeline_is_named_as_what_it_is(models, tmp_path):
    with pytest.raises(DataError, match="Pipeline, not WanPipeline; the backbone stable-audio reads it"):
        build("wan", models("stable-audio"))
    (tmp_path / "model_index.json").write_text('{"_class_name": "AllegroPipeline"}')
    with pytest.raises(DataError, match="AllegroPipeline, not WanPipeline; the backbone lockstep runs pipelines that"):
        build("wan", tmp_path)
    with pytest.raises(DataError, match=r"holds the pipeline WanPipeline, not AnimateDiffPipeline or Stable"):
        build("animatediff", models("wan"))
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(DataError, match="Pipeline, not WanPipeline; the backbone animatediff reads it with a motion"):
        build("wan", tmp_path)
    (tmp_path / "wan.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"wan\.safetensors: a single file, which is not read; name a folder"):
        build("wan", tmp_path / "wan.safetensors")
    with pytest.raises(DataError, match=r"holds a single model: it has no model_index\.json"):
        build("wan", models("wan") / "transformer")
    with pytest.raises(DataError, match="holds no pipeline of diffusers"):
        build("wan", models("wan") / "tokenizer")


def test_damage_is_named(models, tmp_path):
    folder = shutil.copytree(models("wan"), tmp_path / "wan")
    (folder / "model_index.json").write_text("{")
    with pytest.raises(DataError, match=r"model_index.json: damaged"):
        build("wan", folder)
    shutil.copy(models("wan") / "model_index.json", folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x08" + bytes(7) + b"{}      ")
    model = build("wan", folder)
    with pytest.raises(DataError, match=r"transformer: lacks \d+ weights of a WanTransformer3DModel, \S+ first"):
        model.predict(torch.zeros(1, 4, 2, 2, 2), torch.tensor([500.0]), None, model.plan(Request(frames=5)))
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(DataError, match=r"vae: has no config.json$"):
        build("wan", folder).plan(Request(frames=5))


def header(text, more=b""):
    return len(text).to_bytes(8, "little") + text + more


ENTRY = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"damaged: it is empty$"),
        (b"\x08", r"damaged: it ends within its header$"),
        (header(ENTRY)[:-1], r"damaged: it ends within its header$"),
        (header(ENTRY, bytes(7)), r"damaged: 76 bytes, where its header declares 77$"),
        (header(ENTRY, bytes(9)), r"damaged: 78 bytes, where its header declares 77$"),
        (header(b"no JSON"), r"damaged: its header is not one of safetensors$"),
        (header(b'{"a": [1]}'), r"damaged: its header is not one of safetensors$"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a pointer of git-LFS, not the weights; `git lfs pull` fetches them$",
        ),
        (None, r"transformer: has no weights$"),
    ],
    ids=("empty", "stub", "half a header", "short", "long", "no JSON", "no tensors", "pointer", "missing"),
)
def test_weights_that_cannot_be_whole_are_named_before_anything_is_loaded(content, message, models, tmp_path):
    folder = shutil.copytree(models("wan"), tmp_path / "wan")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        build("wan", folder)
    assert str(error.value).startswith(str(path.parent if content is None else path))
    assert "\n" not in str(error.value)


def test_half_a_file_of_torch_is_named(models, tmp_path):
    from safetensors.torch import load_file

    folder = shutil.copytree(models("wan"), tmp_path / "wan")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    path = path.with_suffix(".bin")
    build("wan", folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"model\.bin: damaged: it ends too early$"):
        build("wan", folder)


def test_variants_are_neither_counted_nor_enough(models, tmp_path):
    folder = shutil.copytree(models("wan"), tmp_path / "wan")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    plain = build("wan", folder)
    others = [
        path.with_name(f"diffusion_pytorch_model.{name}.safetensors")
        for name in ("fp16", "fp16-00001-of-00002", "fp16-00002-of-00002", "bf16", "non_ema")
    ]
    others.append(path.with_name("diffusion_pytorch_model-00001-of-00002.fp16.safetensors"))
    for other in others:
        shutil.copy(path, other)
    assert weight_files(path.parent) == [path]
    both = build("wan", folder)
    assert (both.fingerprint, both.parameters) == (plain.fingerprint, plain.parameters)
    path.unlink()
    with pytest.raises(DataError, match=r"transformer: has only those of a variant, which are not read \(\S+fp16"):
        build("wan", folder)


def test_a_shard_that_lacks_is_named(models, tmp_path):
    import diffusers

    folder = shutil.copytree(models("wan"), tmp_path / "wan")
    place = folder / "transformer"
    plain = build("wan", folder).parameters
    whole = diffusers.WanTransformer3DModel.from_pretrained(place)
    (place / "diffusion_pytorch_model.safetensors").unlink()
    whole.save_pretrained(place, max_shard_size="5KB")
    first, *others = sorted(place.glob("*.safetensors"))
    assert others
    assert build("wan", folder).parameters == plain
    first.unlink()
    with pytest.raises(DataError, match=f"transformer: lacks {first.name}, which diffusion_pytorch_model.safetensors"):
        build("wan", folder)


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        ("model_index.json", "holds no pipeline of diffusers: it has no model_index.json"),
        ("transformer", "transformer: has no weights"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer: has no weights"),
        ("transformer/config.json", "transformer: has no config.json"),
        ("scheduler/scheduler_config.json", "scheduler: has no scheduler_config.json"),
        ("tokenizer", "tokenizer: has no files of a tokenizer"),
    ],
)
def test_what_lacks_in_the_cache_comes_with_the_command_that_fetches_it(lost, what, empty_cache, models):
    folder = cached(models("wan"), empty_cache)
    place = folder / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(DataError) as error:
        assert build("wan", "someone/tiny").info
    assert str(error.value).endswith(f"{what}; fetch it with `hf download someone/tiny`")


def test_half_a_file_in_the_cache_is_to_be_replaced(empty_cache, models):
    path = cached(models("wan"), empty_cache) / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"; fetch it with `hf download someone/tiny --force-download`$"):
        build("wan", "someone/tiny")


def test_weights_that_would_be_left_out_are_named(models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(models("text-to-video-sd"), tmp_path / "zeroscope")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(path), "fps_embedding.linear_1.weight": torch.zeros(2, 2)}, path, {"format": "pt"})
    model = build("text-to-video-sd", folder)
    with pytest.raises(DataError, match=r"holds 1 weights that a UNet3DConditionModel does not have, fps_embedding"):
        model.predict(torch.zeros(1, 4, 1, 4, 4), torch.tensor([500.0]), None, model.plan(Request(frames=1)))


def test_a_fingerprint_follows_the_weights_and_not_their_place(models, tmp_path):
    from safetensors.torch import load_file, save_file

    first = build("wan", models("wan"), chunk=2, text="free").fingerprint
    folder = shutil.copytree(models("wan"), tmp_path / "elsewhere")
    assert build("wan", folder).fingerprint == first
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name] = weights[name] + 1e-3
    save_file(weights, path, {"format": "pt"})
    assert build("wan", folder).fingerprint != first


def rewritten(path, **changed):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.mark.parametrize(
    ("family", "file", "changed"),
    [
        ("wan", "scheduler/scheduler_config.json", {"shift": 8.0}),
        ("wan", "model_index.json", {"boundary_ratio": 0.875}),
        ("wan", "model_index.json", {"expand_timesteps": True}),
        ("wan", "model_index.json", {"scheduler": ["diffusers", "UniPCMultistepScheduler"]}),
        ("wan", "vae/config.json", {"latents_mean": [0.0, -0.2, 0.3, 0.0]}),
        ("mochi", "model_index.json", {"force_zeros_for_empty_prompt": True}),
        ("audioldm", "scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}),
    ],
)
def test_a_fingerprint_follows_the_scheduler_and_what_models_read(family, file, changed, models, tmp_path):
    folder = shutil.copytree(models(family), tmp_path / "model")
    first = build(family, folder).fingerprint
    rewritten(folder / file, **changed)
    assert build(family, folder).fingerprint != first


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("scheduler/scheduler_config.json", {"_diffusers_version": "0.1"}),
        ("transformer/config.json", {"_diffusers_version": "0.1", "_name_or_path": "elsewhere"}),
        ("text_encoder/config.json", {"transformers_version": "0.1"}),
        ("model_index.json", {"_diffusers_version": "0.1", "_name_or_path": "elsewhere"}),
        ("model_index.json", {"boundary_ratio": None, "expand_timesteps": False}),
    ],
)
def test_a_fingerprint_does_not_follow_versions_and_defaults(file, changed, models, tmp_path):
    folder = shutil.copytree(models("wan"), tmp_path / "model")
    first = build("wan", folder).fingerprint
    rewritten(folder / file, **changed)
    assert build("wan", folder).fingerprint == first


@pytest.mark.parametrize("family", ["audioldm", "audioldm2"])
def test_a_vocoder_is_in_the_variant_and_in_no_fingerprint(family, models, tmp_path):
    from safetensors.torch import load_file, save_file

    plain = build(family, models(family))
    folder = shutil.copytree(models(family), tmp_path / "model")
    assert build(family, folder).variant == plain.variant
    path = folder / "vocoder" / "model.safetensors"
    save_file({name: weight + 1e-3 for name, weight in load_file(path).items()}, path, {"format": "pt"})
    other = build(family, folder)
    assert other.fingerprint == plain.fingerprint
    assert other.variant != plain.variant
    assert other.variant.startswith("vocoder ")


def test_a_fingerprint_follows_what_changes_predictions_and_a_variant_the_rest(models):
    def seen(family, **options):
        model = build(family, models(family), **options)
        return model.fingerprint, model.variant

    plain = seen("hunyuan-video")
    assert plain[1] == ""
    assert (
        seen("hunyuan-video", embedded_guidance_scale=6.0, chunk=2, slicing=True, text="free", offload="codec") == plain
    )
    assert seen("hunyuan-video", tiling=True) == (plain[0], "tiling True")
    assert seen("hunyuan-video", embedded_guidance_scale=3.0)[0] != plain[0]
    assert seen("hunyuan-video", clean_end=True) == (plain[0], "clean_end True")
    assert seen("audioldm")[0] != seen("audioldm", normalise=False)[0]
    assert seen("animatediff")[0] != seen("animatediff", betas="scaled_linear")[0]
    assert as_joint(build("stable-audio", models("stable-audio"), full=False)).info.variant == "full False"


def test_of_large_files_a_sample_is_read_from_beginning_to_end(tmp_path):
    path = tmp_path / "weights.safetensors"
    for place in (0, 700_000, 999_999):
        path.write_bytes(bytes(1_000_000))
        first = name_weights([tmp_path])
        content = bytearray(1_000_000)
        content[max(place - 20_000, 0) : place + 1] = bytes([1]) * (place + 1 - max(place - 20_000, 0))
        path.write_bytes(content)
        assert name_weights([tmp_path]) != first


@pytest.mark.parametrize("family", BUILDERS)
def test_weights_are_counted_without_loading_them(family, models, backbone):
    model = build(family, models(family))
    named = [name for name in model.family.roles.all if model.parts.has(name)]
    counted = model.parameters
    assert not any(model.parts.is_loaded(name) for name in named)
    loaded = backbone(family).parts
    # Weights that two layers share are stored once.
    tensors = [t for name in named for t in loaded.get(name).state_dict().values()]
    assert counted == sum({t.data_ptr(): t.numel() for t in tensors}.values())


def test_a_language_model_of_the_wrong_class_is_read_as_the_right_one(models, tmp_path, backbone):
    folder = shutil.copytree(models("audioldm2"), tmp_path / "old")
    index = json.loads((folder / "model_index.json").read_text())
    index["language_model"] = ["transformers", "GPT2Model"]
    (folder / "model_index.json").write_text(json.dumps(index))
    model = build("audioldm2", folder)
    plan = model.plan(Request(seconds=0.3))
    found, expected = (m.encode_prompt(["a dog"], None, plan).positive for m in (model, backbone("audioldm2")))
    torch.testing.assert_close(found["generated"], expected["generated"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [None, 1, 8])
def test_a_language_model_goes_on_as_its_pipeline_lets_it_with_no_word_of_a_cache(models, monkeypatch, count):
    pipeline = diffusers.AudioLDM2Pipeline.from_pretrained(models("audioldm2"), local_files_only=True)
    model = pipeline.language_model
    generator = torch.Generator().manual_seed(0)
    states, mask = torch.randn(2, 5, model.config.n_embd, generator=generator), torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    with torch.no_grad():
        expected = pipeline.generate_language_model(states, max_new_tokens=count, attention_mask=mask)
    forward = transformers.GPT2Model.forward

    def newer(self, input_ids=None, *, inputs_embeds, attention_mask, use_cache):  # of releases that renamed the cache
        return forward(self, inputs_embeds=inputs_embeds, attention_mask=attention_mask, use_cache=use_cache)

    monkeypatch.setattr(transformers.GPT2Model, "forward", newer)
    with torch.no_grad():
        found = generate(model, states, attention_mask=mask, max_new_tokens=count)
    assert found.shape == (2, count or 4, model.config.n_embd)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_adapter_gives_motion_to_a_stable_diffusion(models, tmp_path, backbone):
    import diffusers
    from tiny import animatediff

    torch.manual_seed(3)
    whole = animatediff()
    torch.manual_seed(3)
    parts = animatediff().components
    still = diffusers.UNet2DConditionModel(**UNET)
    adapter = whole.motion_adapter
    diffusers.StableDiffusionPipeline(
        vae=parts["vae"], text_encoder=parts["text_encoder"], tokenizer=parts["tokenizer"], unet=still,
        scheduler=parts["scheduler"], safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(tmp_path / "still")  # fmt: skip
    adapter.save_pretrained(tmp_path / "motion")
    with pytest.raises(UsageError, match=r"backbones.video.adapter: missing; .* which has no motion modules"):
        build("animatediff", tmp_path / "still")
    model = build("animatediff", tmp_path / "still", adapter=str(tmp_path / "motion"))
    adapter.save_pretrained(tmp_path / "more")
    other = build("animatediff", tmp_path / "still", adapter=str(tmp_path / "more"))
    assert other.fingerprint == model.fingerprint
    rewritten(tmp_path / "more" / "config.json", motion_max_seq_length=4)
    other = build("animatediff", tmp_path / "still", adapter=str(tmp_path / "more"))
    assert other.fingerprint != model.fingerprint
    expected = diffusers.UNetMotionModel.from_unet2d(still, adapter).eval()
    size = sum(t.numel() for t in expected.state_dict().values())
    assert model.parameters == size + model.parts.count(["vae", "text_encoder"])
    half = build("animatediff", tmp_path / "still", adapter=str(tmp_path / "motion"), dtype="bfloat16")
    assert model.memory[0].startswith(f"unet and motion_adapter: {size * 4 / 1e6:.2f} MB in float32, stays")
    assert half.memory[0].startswith(f"unet and motion_adapter: {size * 2 / 1e6:.2f} MB in bfloat16, stays")
    plan = model.plan(Request(frames=3, height=16, width=16))
    condition = model.encode_prompt(["a dog"], None, plan).positive
    x, t = torch.randn(1, *plan.latent_shape), torch.tensor([400.0])
    with torch.no_grad():
        wanted = expected(x, t, encoder_hidden_states=condition["tokens"].repeat_interleave(3, 0)).sample
    assert (model.predict(x, t, condition, plan) - wanted).abs().max() < 1e-5


UNET = {
    "sample_size": 4, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 8), "layers_per_block": 1,
    "norm_num_groups": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 8, "attention_head_dim": 2,
}  # fmt: skip


def test_options_have_defaults_that_fetch_and_change_nothing():
    assert ModelOptions().path == ""
    assert AnimateDiffOptions().adapter is None
    assert "download" not in vars(ModelOptions())


def test_parts_say_which_class_this_version_lacks(tmp_path):
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNetOfTomorrow"]}')
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(DataError, match="this version of diffusers has no UNetOfTomorrow"):
        Parts(tmp_path).config("unet")
    assert count_weights(tmp_path / "unet") == 0
