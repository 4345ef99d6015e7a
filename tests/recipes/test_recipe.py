"""Recipes: every mistake at once and with its place, overrides that create nothing, extends."""

import json
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest

from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.hookspecs import DatasetSpec
from mmdisco_cli.recipes.recipe import differences, find, load
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.registry.plugins import Plugin, Registry, load_registry
from mmdisco_cli.schema import option

MINIMAL = """\
summary: two scalars
backbones:
  x: {name: gaussian-mixture}
  y: {name: gaussian-mixture}
discriminator: {name: mlp, width: 64}
train:
  learning_rate: 1e-4
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="r.yaml"):
        (tmp_path / name).write_text(text)
        return name

    return write


def messages(*arguments, **keywords):
    with pytest.raises(UsageError) as error:
        load(*arguments, **keywords)
    return str(error.value).splitlines()


def test_values_types_and_defaults(write):
    recipe = load(write(MINIMAL))
    assert recipe.name == "r"
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.target == "discriminator"
    assert recipe.discriminator.name == "mlp"
    assert recipe.discriminator.options.width == 64
    assert recipe.modalities == ("x", "y")


def test_all_mistakes_at_once_each_with_its_place(write):
    text = """\
trian: {}
backbones:
  x: {name: gaussian-mixture, schedul: flow}
train:
  learning_rte: 1
  steps: many
  warmup: true
  dtype: float23
sample:
  window: [1]
  guidance: {smell: 1}
"""
    assert messages(write(text)) == [
        "r.yaml:1:1: trian: unknown key (did you mean train?)",
        "r.yaml:3:31: backbones.x.schedul: unknown key (did you mean schedule?)",
        "r.yaml:5:3: train.learning_rte: unknown key (did you mean learning_rate?)",
        "r.yaml:6:10: train.steps: expected a whole number, got 'many'",
        "r.yaml:7:11: train.warmup: expected a whole number, got 'true'",
        "r.yaml:8:10: train.dtype: unknown value 'float23' (did you mean float32 or bfloat16?)",
        "r.yaml:10:11: sample.window: expected 2 values, got 1",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps=0", "train.steps: must be at least 1, got 0"),
        ("train.seed=1" + "0" * 30, f"train.seed: must be at most {2**63 - 1}, got 1{'0' * 30}"),
        (f"sample.steps={2**63}", f"sample.steps: must be at most {2**63 - 1}, got {2**63}"),
        ("eval.n=" + "9" * 5000, f"eval.n: expected a whole number, got '{'9' * 5000}'"),
        ("train.steps=!!int ''", "train.steps: expected a whole number, got ''"),
        ("train.clip=!!float ''", "train.clip: expected a number, got ''"),
        ("train.clip=-.inf", "train.clip: expected a number, got '-.inf'"),
        ("summary=2020-01-01", "summary: expected text, got '2020-01-01' (quote it)"),
        ("summary=!!binary aGk=", "summary: expected text, got 'aGk=' (quote it)"),
        ('sample.weights="a\\0"', r"sample.weights: holds characters that are not text, got 'a\x00'"),
        ('sample.weights="\\ud800"', r"sample.weights: holds characters that are not text, got '\ud800'"),
        ('summary="\\UFFFFFFFF"', r"not readable as YAML: an escape \U stands for no character"),
        ('summary="\\U00110000"', r"not readable as YAML: an escape \U stands for no character"),
        ("name=", "name: expected text, got ''"),
        ("name=''", "name: must be a valid name of one folder, got ''"),
        ("name=..", "name: must be a valid name of one folder, got '..'"),
        ("name=../../../tmp/x", "name: must be a valid name of one folder, got '../../../tmp/x'"),
        (r"name=a\b", r"name: must be a valid name of one folder, got 'a\\b'"),
        ("name=" + "é" * 128, f"name: must be a valid name of one folder, got '{'é' * 128}'"),
        ('name="a\\nb"', r"name: must be a valid name of one folder, got 'a\nb'"),
        ("train.steps=1.5", "train.steps: expected a whole number, got '1.5'"),
        ("train.steps=", "train.steps: expected a whole number, got ''"),
        ("train.steps=[1]", "train.steps: expected a whole number, got a list or mapping"),
        ("train.ema=1.5", "train.ema: must be at most 1, got 1.5"),
        ("train.clip=.nan", "train.clip: expected a number, got '.nan'"),
        ("train.clip=!!python/object:os.system x", "train.clip: expected a number, got 'x'"),
        ("train.clip='1e-4'", "train.clip: expected a number, got '1e-4'"),
        ("sample.keep_latents=1", "sample.keep_latents: expected true or false, got '1'"),
        ("sample.weights=12", "sample.weights: expected text, got '12' (quote it)"),
        ("sample.window=[3, 1]", "sample.window: must rise, got [3.0, 1.0]"),
        ("sample.window=3", "sample.window: expected a list"),
        ("sample.guidance.smell=1", "sample.guidance.smell: unknown modality (known: x, y)"),
        ("sample.guidance=1", "sample.guidance: expected a mapping"),
        ("sample.gibbs=[x, smell]", "sample.gibbs[1]: unknown modality (known: x, y)"),
        ("sample.gibbs=x", "sample.gibbs: expected a list"),
        ("sample.gibbs=[[x]]", "sample.gibbs[0]: expected text, got a list or mapping"),
        ("train.stepz=1", "train.stepz: unknown key (did you mean steps?)"),
        ("train.time_law.std=1", "train.time_law: is now called train.noise_levels"),
        ("trian.steps=1", "trian: unknown key (did you mean train?)"),
        ("discriminator.heigth=1", "discriminator.heigth: unknown key (known: depth, frequencies, width)"),
        ("discriminator=3", "discriminator: expected a mapping with a name"),
        ("backbones.z.name=token", "backbones.z: unknown key (known: x, y)"),
        ("train.steps=1:30", "train.steps: expected a whole number, got '1:30'"),
        ("train.clip=1:30", "train.clip: expected a number, got '1:30'"),
        ("train.clip=1:30.5", "train.clip: expected a number, got '1:30.5'"),
        ("train.clip=yes", "train.clip: expected a number, got 'yes'"),
        ("train.clip=2020-01-01", "train.clip: expected a number, got '2020-01-01'"),
        ("train.clip=", "train.clip: expected a number, got ''"),
        ("train.steps=1e3", "train.steps: expected a whole number, got '1e3'"),
        ("train.steps=0o10", "train.steps: expected a whole number, got '0o10'"),
        ("train.steps='10'", "train.steps: expected a whole number, got '10'"),
        ("sample.keep_latents=y", "sample.keep_latents: expected true or false, got 'y'"),
        ("sample.keep_latents='yes'", "sample.keep_latents: expected true or false, got 'yes'"),
        ("summary=no", "summary: expected text, got 'no' (quote it)"),
        ("summary=010", "summary: expected text, got '010' (quote it)"),
        ("summary=1:30", "summary: expected text, got '1:30' (quote it)"),
        ("sample.weights=#5", "what follows a # would be left out: quote the value"),
        ("summary=take #5", "what follows a # would be left out: quote the value"),
        ("sample.window=[1, 2] # both", "what follows a # would be left out: quote the value"),
        ("sample.joint_window=[3, 3]", "sample.joint_window: must rise, got [3.0, 3.0]"),
        ("sample.gibbs_joint_window=[1, 0]", "sample.gibbs_joint_window: must rise, got [1.0, 0.0]"),
        ("sample.given.joint_window=[1, 0]", "sample.given.joint_window: must rise, got [1.0, 0.0]"),
        (
            "sample={sampler: dpmpp_2m, joint_steps: 3, given: {joint_steps: {y: 8}}}",
            "sample.sampler: dpmpp_2m cannot repeat steps, and sample.joint_steps is 3 and sample.given.joint_steps.y "
            "is 8: set sample.joint_steps=1 and sample.given.joint_steps.y=1, or sample.sampler to ddpm or ddim",
        ),
        ("train.steps", "expected KEY=VALUE, as in sample.steps=20"),
        ("=1", "expected KEY=VALUE, as in sample.steps=20"),
        ("train..steps=1", "expected KEY=VALUE, as in sample.steps=20"),
        ("a." * 3000 + "a=1", "the key is nested too deeply"),
    ],
)
def test_a_wrong_override_is_named(write, override, message):
    assert messages(write(MINIMAL), [override]) == [f"--set {override}: {message}"]


def test_an_override_of_two_lines_is_one_line_of_complaint(write):
    for override in ("train.st\neps=1", "backbones.z\n.name=x", "a\nb"):
        (line,) = messages(write(MINIMAL), [override])
        assert line.startswith("--set " + override.replace("\n", r"\n") + ": ")


def test_a_discriminator_with_no_loss_learns_nothing(write):
    nothing = ["train.lambda_denoise=0.0", "train.lambda_disc=0"]
    assert messages(write(MINIMAL), nothing) == [
        "--set train.lambda_disc=0: train.lambda_disc: 0, as is train.lambda_denoise, leaves no loss: "
        "give one of them above 0"
    ]
    assert load(write(MINIMAL), nothing[:1]).train.lambda_denoise == 0
    assert load(write(MINIMAL), [*nothing, "train.target=backbone"]).train.lambda_disc == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("08", 8), ("+7", 7), ("1_000", 1000), ("0_1", 1), ("0x10", 16), ("0b11", 3), ("00", 0),
    ],
)  # fmt: skip
def test_whole_numbers_are_what_anyone_reads(write, text, value):
    for recipe in (
        load(write(MINIMAL), [f"train.warmup={text}", f"train.clip={text}", f"sample.window=[-30, {text}]"]),
        load(write(f"{MINIMAL}  warmup: {text}\n  clip: {text}\nsample: {{window: [-30, {text}]}}")),
    ):
        assert (recipe.train.warmup, recipe.train.clip, recipe.sample.window[1]) == (value, value, value)
        assert isinstance(recipe.train.clip, float)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E4", 1e4), (".5", 0.5), ("5.", 5.0), ("1_0.5", 10.5), ("010.5", 10.5), ("1.5e3", 1500.0),
        ("1e+2", 100.0), ("-0", 0.0), ("09.5", 9.5), ("1_0e1", 100.0),
    ],
)  # fmt: skip
def test_numbers_are_what_anyone_reads(write, text, value):
    assert load(write(MINIMAL), [f"train.clip={text}"]).train.clip == value
    assert load(write(f"{MINIMAL}  clip: {text}\n")).train.clip == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("On", True), ("true", True), ("no", False), ("off", False), ("False", False)],
)
def test_yes_and_no(write, text, value):
    assert load(write(MINIMAL), [f"sample.keep_latents={text}"]).sample.keep_latents is value


@pytest.mark.parametrize("text", ["~", "null", "", "Null"])
def test_nothing(write, text):
    recipe = load(write(MINIMAL), ["sample.weights=x", f"sample.weights={text}", f"request.frames={text}"])
    assert (recipe.sample.weights, recipe.request.frames) == (None, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sample", SampleConfig()),
        ("sample.guidance", {}),
        ("sample.window", SampleConfig().window),
        ("sample.steps", SampleConfig().steps),
        ("sample.gibbs", ()),
        ("sample.given", SampleConfig().given),
        ("discriminator.width", 128),
        ("eval.protocol", "bounce"),
        ("train.init", None),
        ("discriminator", None),
    ],
)
@pytest.mark.parametrize("null", ["null", "~"])
def test_null_resets_a_key_of_the_recipe_that_is_extended(write, key, value, null):
    def found(recipe):
        for part in key.split("."):
            recipe = getattr(getattr(recipe, "options", recipe), part)
        return recipe

    text = f" {null}"
    for part in reversed(key.split(".")):
        text = f" {{{part}:{text}}}"
    base = "digits" if key == "eval.protocol" else "bounce"
    child = f"extends: {base}\n" + text.strip()[1:-1]
    assert found(load(base)) != value
    assert found(load(write(child))) == value
    assert found(load(base, [f"{key}={null}"])) == value


def test_null_takes_an_entry_out_of_a_mapping(write):
    child = "extends: bounce\nsample: {guidance: {audio: null}, given: null}\n"
    assert load(write(child)).sample.guidance == {"video": load("bounce").sample.guidance["video"]}
    without_words = load(write("extends: digits3\nbackbones: {word: null}\nsample: null\ntrain: null\n"))
    assert without_words.modalities == ("audio", "image")


def test_a_key_without_a_default_is_not_reset(write):
    (line,) = messages(write(MINIMAL), ["backbones.x.name=null"])
    assert "backbones.x.name" in line
    assert messages(write(MINIMAL), ["train.steps="]) == [
        "--set train.steps=: train.steps: expected a whole number, got ''"
    ]
    assert messages(write("extends: bounce\nsample:\n  window:\n", "child.yaml")) == [
        "child.yaml:3:10: sample.window: expected a list"
    ]


def test_text_that_looks_like_something_else_is_text_once_it_is_quoted(write):
    for text in ("no", "010", "2020-01-01", "1:30", "~", "1e5", "take #5", "a: b"):
        recipe = load(write(MINIMAL), [f"summary='{text}'"])
        assert recipe.summary == text
        assert load(write(recipe.to_yaml(), "again.yaml")).summary == text


def test_a_sampler_that_cannot_noise_again_names_the_steps_that_are_in_its_way():
    with pytest.raises(UsageError) as raised:
        load("bounce", ["sample.sampler=dpmpp_2m"])
    assert str(raised.value) == (
        "--set sample.sampler=dpmpp_2m: sample.sampler: dpmpp_2m cannot repeat steps, and sample.joint_steps is 6 and "
        "sample.gibbs_joint_steps is 3 and sample.given.joint_steps.audio is 2 and sample.given.joint_steps.video is "
        "12: set sample.joint_steps=1 and sample.gibbs_joint_steps=1 and sample.given.joint_steps.audio=1 and "
        "sample.given.joint_steps.video=1, or sample.sampler to ddpm or ddim"
    )
    named = ["joint_steps", "gibbs_joint_steps", "given.joint_steps.audio", "given.joint_steps.video"]
    freed = ["sample.sampler=dpmpp_2m", *(f"sample.{key}=1" for key in named)]
    assert load("bounce", freed).sample.sampler == "dpmpp_2m"


def test_a_home_is_where_a_shell_would_look(write, tmp_path, monkeypatch):
    """In what names a file or folder, and in nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "data: {name: clips, path: ~/clips}\nbackbones: {x: {name: token, weights: ~/x.safetensors}}\n"
    recipe = load(write(text), ["sample.weights=~/d.safetensors", "summary='~/x'", "sample.negative_prompt=~/x"])
    assert recipe.data.options.path == f"{tmp_path}/clips"
    assert recipe.backbones["x"].options.weights == f"{tmp_path}/x.safetensors"
    assert recipe.sample.weights == f"{tmp_path}/d.safetensors"
    assert (recipe.summary, recipe.sample.negative_prompt) == ("~/x", "~/x")
    for kept in ("./~/x", "a/~", "~nobody-of-this-name/x", "$HOME/x"):
        assert load(write(MINIMAL), [f"sample.weights={kept}"]).sample.weights == kept
    write(MINIMAL, "base.yaml")
    assert find("~/base.yaml") == tmp_path / "base.yaml"
    assert load(write("extends: ~/base.yaml\n", "child.yaml")).train.learning_rate == 1e-4


def test_overrides(write):
    overrides = ["sample.guidance.x=2", "train.clip=1e-4", "summary='a=b: c'", "sample.window=[-1, 2]", "eval={n: 3}"]
    recipe = load(write(MINIMAL), overrides)
    assert recipe.sample.guidance == {"x": 2.0}
    assert recipe.train.clip == 1e-4
    assert recipe.summary == "a=b: c"
    assert recipe.sample.window == (-1.0, 2.0)
    assert recipe.eval.n == 3


def test_another_name_drops_the_options_of_the_old_entry(write):
    recipe = load(write(MINIMAL), ["discriminator.name=energy"])
    assert recipe.discriminator.options.width == load_registry().find("discriminator", "energy").options().width
    write(MINIMAL, "base.yaml")
    assert load(write("extends: base.yaml\ndiscriminator: {name: energy}")).discriminator == recipe.discriminator


def test_an_override_of_one_alias_leaves_the_other(write):
    recipe = load(write("backbones: {x: &base {name: gaussian-mixture}, y: *base}"), ["backbones.x.schedule=flow"])
    assert recipe.backbones["x"].options.schedule == "flow"
    assert recipe.backbones["y"].options.schedule == "cosine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.yaml: expected a mapping of sections, found nothing"),
        ("[1]", "r.yaml: expected a mapping of sections, found something else"),
        ("a: [1", "r.yaml:1:6: expected ',' or ']', but got '<stream end>'"),
        ("summary: x\nsummary: y", "r.yaml:2:1: key 'summary' is given twice"),
        ("? [a]\n: 1", "r.yaml:1:3: a key must be text"),
        ("a: 1\n---\nb: 1", "r.yaml:2:1: but found another document"),
        ("a: \x00", "r.yaml: not readable as YAML: unacceptable character #x0000: special characters are not allowed"),
        ("train: &a {noise_levels: *a}", "r.yaml:1:8: a value holds itself"),
        ("train: &a [*a]", "r.yaml:1:8: a value holds itself"),
        ("train: &a {steps: 1}\neval: {<<: *a}", "r.yaml:2:8: eval.<<: unknown key (known: given, n, protocol, seed)"),
        ("train:\n\tsteps: 1", r"r.yaml:2:1: found character '\t' that cannot start any token"),
        ('? "a\\nb"\n: 1', r"r.yaml:1:3: a\nb: unknown key"),
        ("backbones: {a.b: {name: gaussian-mixture}}", "r.yaml:1:13: backbones.a.b: a name must be of letters"),
        ("name: a/b", "r.yaml:1:7: name: must be a valid name of one folder, got 'a/b'"),
        ("extends: " + "x" * 300, "r.yaml:1:10: extends: no recipe 'xxx"),
        ("data: {path: x}", "r.yaml:1:7: data: expected a mapping with a name"),
        ("extends: [a]", "r.yaml:1:10: extends: expected the name or path of one recipe"),
        ("a: " + "[" * 5000, "r.yaml: not readable as YAML: nested too deeply"),
    ],
)
def test_text_that_is_no_recipe(write, text, message):
    (line,) = messages(write(text))
    assert line.startswith(message)


def test_extends_recipes_that_extend_others(write):
    write(MINIMAL, "base.yaml")
    recipe = load(write("extends: base.yaml\nsummary: mine\ntrain: {steps: 7, warmup: 3}\n"))
    assert (recipe.name, recipe.summary, recipe.train.steps, recipe.train.learning_rate) == ("r", "mine", 7, 1e-4)
    deep = load(write("extends: r.yaml\ntrain: {steps: 8}\n", "deep.yaml"))
    assert (deep.name, deep.summary, deep.train.steps, deep.train.warmup) == ("deep", "", 8, 3)
    assert deep.backbones == recipe.backbones
    assert "deeper.yaml:1:10: extends: no recipe 'gone'" in messages(write("extends: gone", "deeper.yaml"))[0]
    write("extends: deeper.yaml", "deepest.yaml")
    (line,) = messages("deepest.yaml")
    assert line.startswith("deepest.yaml:1:10: extends: deeper.yaml:1:10: extends: no recipe 'gone'")


@pytest.mark.parametrize("names", [("r",), ("r", "s"), ("r", "s", "t")])
def test_recipes_that_extend_one_another_in_a_circle(write, names):
    for name, following in zip(names, (*names[1:], names[0]), strict=True):
        write(f"extends: {following}.yaml\n", f"{name}.yaml")
    (line,) = messages("r.yaml")
    assert line.endswith("extends: r.yaml extends this one, so that none would be the first")
    assert load(write("extends: bounce\n", "bounce.yaml")).train.steps > 0  # the packaged one, of the same name


def test_a_value_that_holds_itself_on_both_sides(write):
    write("train: &a\n  a: *a\n", "base.yaml")
    assert messages(write("extends: base.yaml\ntrain: &b {a: *b}\n")) == ["r.yaml:2:8: a value holds itself"]


def test_an_error_in_the_base_names_the_base(write):
    write("train: {stepz: 1}", "base.yaml")
    assert messages(write("extends: base.yaml\n")) == ["base.yaml:1:9: train.stepz: unknown key (did you mean steps?)"]


def test_resolved_recipe_loads_to_the_same(write):
    recipe = load(write(MINIMAL), ["train.ema=1e-7"])
    assert load(write(recipe.to_yaml(), "resolved.yaml")) == recipe
    assert json.loads(recipe.to_json()) == recipe.to_dict()


def test_fingerprint_sees_its_sections_only(write):
    one, two = load(write(MINIMAL)), load(write(MINIMAL), ["train.steps=3", "sample.steps=4"])
    assert one.fingerprint(["backbones", "train.seed"]) == two.fingerprint(["backbones", "train.seed"])
    assert one.fingerprint(["train"]) != two.fingerprint(["train"])
    assert one.fingerprint() != two.fingerprint()
    assert len(one.fingerprint()) == 16
    assert differences(one.to_dict(), two.to_dict()) == ["train.steps", "sample.steps"]


def test_unknown_names_alone_are_a_plugin_error(write):
    with pytest.raises(PluginError, match=r"r\.yaml:1:23: discriminator\.name: unknown discriminator 'mpl' \(did you"):
        load(write("discriminator: {name: mpl}"))
    assert len(messages(write("discriminator: {name: mpl}\ntrain: {steps: 0}"))) == 2


def test_two_backbones_of_one_modality(write):
    registry = load_registry()
    (line,) = messages(write("backbones: {a: {name: tone}, b: {name: tone}}"), registry=_with_tone(registry))
    assert line.endswith("backbones: several of them make 'audio'")


def _with_tone(registry):
    from mmdisco_cli.hookspecs import BackboneSpec

    spec = BackboneSpec("tone", "", _Empty, lambda: dict, 1, ("audio",))
    return Registry((*registry.plugins, Plugin("d", "1", "loaded", (("backbone", spec),))))


@dataclass(frozen=True)
class _Empty:
    pass


@dataclass(frozen=True)
class _Inner:
    scale: float
    sizes: tuple[int, ...] = option((1, 2), minimum=1)


@dataclass(frozen=True)
class _Rich:
    inner: _Inner
    label: str | None = None
    weights: MappingProxyType | None = field(default=None, init=False)


def test_nested_options_and_required_keys(write):
    spec = DatasetSpec("rich", "", _Rich, lambda: dict, 1)
    registry = Registry((Plugin("d", "1", "loaded", (("dataset", spec),)),))
    recipe = load(write("data: {name: rich, label: null, inner: {scale: 1, sizes: [3]}}"), registry=registry)
    assert recipe.data.options == _Rich(_Inner(1.0, (3,)))
    text = "data:\n  name: rich\n  inner:\n    sizes: [3, 0]\n"
    assert messages(write(text), registry=registry) == [
        "r.yaml:4:16: data.inner.sizes[1]: must be at least 1, got 0",
        "r.yaml:4:5: data.inner.scale: is missing",
    ]


def test_find_prefers_a_path_then_the_packaged(write, tmp_path):
    assert find("gaussians") == find("gaussians.yaml")
    assert find("gaussians").is_absolute()
    write(MINIMAL, "gaussians.yaml")
    assert str(find("gaussians.yaml")) == "gaussians.yaml"
    with pytest.raises(UsageError, match=r"no recipe 'xxx"):
        find("x" * 300)
    with pytest.raises(UsageError, match=r"no recipe 'gausians'.*\(did you mean gaussians"):
        find("gausians")


def test_a_given_modality_changes_what_the_recipe_says_it_does(write):
    given = "{guidance: {y: 5.0}, joint_steps: {x: 2, y: 4}}"
    text = MINIMAL + f"sample: {{guidance: {{x: 2.0, y: 3.0}}, steps: 7, given: {given}}}\n"
    whole = load(write(text)).sample
    beside = whole.where_given(["x"])
    assert (beside.guidance, beside.joint_steps, beside.steps) == ({"x": 2.0, "y": 5.0}, 4, 7)
    assert (whole.guidance, whole.joint_steps) == ({"x": 2.0, "y": 3.0}, 1)
    assert whole.where_given(["y"]).joint_steps == 2
    assert whole.where_given(["z"]).joint_steps == 4
    assert whole.where_given(["x", "y"]).joint_steps == 1
    plain = load(write(MINIMAL + "sample: {joint_steps: 3, guidance: {x: 2.0}}\n")).sample
    assert plain.where_given(["x"]) == plain
    with pytest.raises(UsageError, match=r"cannot repeat steps, and sample\.given\.joint_steps\.x is 2: set"):
        load(write(MINIMAL + "sample: {sampler: dpmpp_2m, given: {joint_steps: {x: 2}}}\n"))
    with pytest.raises(UsageError, match=r"sample\.given\.joint_steps\.smell: unknown modality"):
        load(write(MINIMAL + "sample: {given: {joint_steps: {smell: 2}}}\n"))
    assert (whole.joint_window, whole.given.joint_window) == ((-20.0, 20.0), None)
    narrow = load(write(MINIMAL + "sample: {joint_steps: 2, given: {joint_window: [-3, 1]}}\n")).sample
    narrow = narrow.where_given(["x"])
    assert (narrow.joint_steps, narrow.joint_window) == (2, (-3.0, 1.0))
    with pytest.raises(UsageError, match=r"sample\.given\.guidance\.smell: unknown modality"):
        load(write(MINIMAL + "sample: {given: {guidance: {smell: 2.0}}}\n"))


@pytest.mark.parametrize("key", ["joint_steps: 2", "threshold: 0.995", "negative_prompt: noise"])
def test_what_changes_generated_fakes_changes_the_training_and_nothing_else_does(write, key):
    from mmdisco_cli.training.directory import training_fingerprint

    def fingerprint(fakes, extra):
        sample = f"sample: {{sampler: ddpm{extra}}}\n"
        return training_fingerprint(load(write(f"{MINIMAL}  fakes: {fakes}\n{sample}")))

    assert fingerprint("generated", "") != fingerprint("generated", f", {key}")
    assert fingerprint("shuffled", "") == fingerprint("shuffled", f", {key}")


def test_resampling_changes_what_the_recipe_says_it_does(write):
    text = "sample: {guidance: {x: 2.0, y: 3.0}, joint_steps: 2, joint_window: [-3, 0], gibbs: [y], %s}\n"
    own = "gibbs_guidance: {y: 5.0}, gibbs_joint_steps: 3, gibbs_joint_window: [-4, -1]"
    whole = load(write(MINIMAL + text % own)).sample
    again = whole.while_resampled()
    assert (again.guidance, again.joint_steps, again.joint_window) == ({"x": 2.0, "y": 5.0}, 3, (-4.0, -1.0))
    assert (whole.guidance, whole.joint_steps, whole.joint_window) == ({"x": 2.0, "y": 3.0}, 2, (-3.0, 0.0))
    plain = load(write(MINIMAL + text % "gibbs_steps: 5")).sample
    assert plain.while_resampled() == plain
    assert "gibbs_joint_steps" not in plain.solver_keys
    assert {"gibbs_joint_steps", "gibbs_joint_window"} <= set(whole.solver_keys)
