"""The shape of a recipe. Adding a key is adding a line here; README and `recipes cat` show the same names."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import yaml

from mmdisco_cli.hookspecs import BackboneSpec, Factory, Spec
from mmdisco_cli.run.files import fingerprint
from mmdisco_cli.schema import Bounds, KeyProblem, option


@dataclass(frozen=True)
class Component:
    """One registry entry as a recipe names it: `name` as written, `options` an instance of `spec.options`."""

    name: str
    options: Any
    spec: Spec = field(compare=False, repr=False)

    def factory(self) -> Factory:
        """Import and return the function that builds it."""
        return self.spec.factory()


@dataclass(frozen=True)
class RequestConfig:
    """The sample that a recipe requests of every backbone; each takes the nearest that its model can make."""

    seconds: float | None = option(None, "length of a sample in seconds", minimum=1e-3)
    frames: int | None = option(None, "video frames", minimum=1)
    fps: float | None = option(None, "video frames a second", minimum=1e-3)
    height: int | None = option(None, "pixels", minimum=1)
    width: int | None = option(None, "pixels", minimum=1)


@dataclass(frozen=True)
class LevelDistributionConfig:
    """The distribution of the noise levels in training."""

    name: str = option("uniform", "uniform in progress u, or normal in log-SNR", choices=("uniform", "logsnr-normal"))
    mean: float = option(0.0, "mean of the log-SNR")
    std: float = option(1.0, "standard deviation of the log-SNR", minimum=1e-6)


TRACKERS = ("jsonl", "tensorboard", "wandb")


@dataclass(frozen=True)
class TrainConfig:
    """How a discriminator or a built-in backbone is trained."""

    target: str = option("discriminator", "what is trained", choices=("discriminator", "backbone"))
    steps: int = option(2000, "optimiser steps; a run may be given more later", minimum=1)
    codec_steps: int = option(0, "optimiser steps of a trainable codec, before the backbone itself", minimum=0)
    batch_size: int = option(32, "real tuples a step, over all ranks", minimum=1)
    accumulate: int = option(1, "parts that a rank's batch is divided into, to save memory", minimum=1)
    learning_rate: float = option(1e-3, "peak of the schedule", minimum=0)
    warmup: int = option(100, "steps of linear warm-up", minimum=0)
    weight_decay: float = option(0.0, "of AdamW", minimum=0)
    clip: float = option(1.0, "largest norm of the gradient", minimum=0)
    ema: float = option(0.999, "decay of the averaged weights", minimum=0, maximum=1)
    seed: int = option(0, "of initialisation, data order and noise", minimum=0)
    dtype: str = option("float32", "of the forward passes", choices=("float32", "bfloat16"))
    compile: bool = option(False, "run base models through torch.compile, where that works")
    lambda_disc: float = option(1.0, "weight of the classification loss, Eq. (4)", minimum=0)
    lambda_denoise: float = option(1.0, "weight of the denoising loss, Eq. (5)", minimum=0)
    fakes: str = option("shuffled", "where fake tuples come from", choices=("shuffled", "generated", "mixed"))
    tuples_per_level: int = option(
        0,
        "shuffled: tuples at the same noise levels, which are re-paired; 0: as many as there are modalities",
        minimum=0,
    )
    denoise_space: str = option(
        "epsilon", "the quantity whose error Eq. (5) takes; v weights noisy levels more", choices=("epsilon", "v")
    )
    given_fraction: float = option(0.25, "share of tuples with one modality almost clean", minimum=0, maximum=1)
    given_shares: Mapping[str, float] = option(
        {},
        "how often each is the clean one, relative to the others; 1 where not given",
        minimum=0,
        by_modality=True,
        identity="used",
    )
    given_shift: float = option(
        0.0, "added to the log-SNR of noise_levels where one modality is almost clean", identity="used"
    )
    text_dropout: float = option(0.1, "share of captioned tuples that get the empty text", minimum=0, maximum=1)
    fake_cfg: float = option(1.0, "CFG scale of captioned fakes; 1: the distribution that guidance corrects", minimum=0)
    bank: int = option(0, "clips encoded once and reused; 0 encodes every batch", minimum=0)
    init: str | None = option(None, "weights of a discriminator of the same kind to start from", path=True)
    noise_levels: LevelDistributionConfig = field(
        default_factory=LevelDistributionConfig, metadata={"bounds": Bounds(formerly="time_law")}
    )
    log_every: int = option(50, "steps between two lines of metrics.jsonl", minimum=1)
    checkpoint_every: int = option(500, "steps between two checkpoints", minimum=1)
    validate_every: int = option(500, "steps between two measurements on held-out clips; 0 never", minimum=0)
    preview_every: int = option(0, "steps between two previews, guided samples of fixed noise; 0 none", minimum=0)
    previews: int = option(4, "samples of each preview", minimum=1)
    on_failure: str = option("warn", "what a sign of failure causes: a warning, or an end", choices=("warn", "stop"))
    log: tuple[str, ...] = field(
        default=("jsonl",),
        metadata={"bounds": Bounds(choices=TRACKERS, doc="where metrics go; metrics.jsonl is always written")},
    )

    def __post_init__(self) -> None:
        """Refuse a discriminator that would learn nothing, and a batch that cannot be cut into equal parts."""
        if self.batch_size % self.accumulate:
            raise KeyProblem("accumulate", f"{self.accumulate} does not divide train.batch_size={self.batch_size}")
        if self.tuples_per_level and self.batch_size % self.tuples_per_level:
            text = f"{self.tuples_per_level} does not divide train.batch_size={self.batch_size}"
            raise KeyProblem("tuples_per_level", text)
        if self.target == "discriminator" and self.lambda_disc == self.lambda_denoise == 0:
            raise KeyProblem("lambda_disc", "0, as is train.lambda_denoise, leaves no loss: give one of them above 0")
        if self.target == "backbone" and self.init is not None:
            raise KeyProblem("init", "is for discriminators: a base model goes on from backbones.NAME.base")


@dataclass(frozen=True)
class GivenConfig:
    """Settings that differ where a modality is given: conditional sampling may need more guidance."""

    guidance: Mapping[str, float] = option({}, "weights in place of those of sample.guidance", by_modality=True)
    joint_steps: Mapping[str, int] = option(
        {}, "in place of sample.joint_steps where these are sampled; of several the most", minimum=1, by_modality=True
    )
    joint_window: tuple[float, float] | None = option(None, "in place of sample.joint_window")


@dataclass(frozen=True)
class SampleConfig:
    """How samples are drawn and written."""

    sampler: str = option("ddim", "the solver", choices=("ddim", "ddpm", "dpmpp_2m", "dpmpp_3s", "dpm_3s"))
    steps: int = option(50, "solver steps", minimum=1)
    guidance: Mapping[str, float] = option({}, "weight w of Eq. (3); 1 where not given", by_modality=True)
    window: tuple[float, float] = option((-4.5, 4.0), "log-SNR between which guidance acts")
    cfg: Mapping[str, float] = option({}, "classifier-free guidance scale", minimum=0, by_modality=True)
    negative_prompt: str = option("", "negative prompt of CFG, where the models take prompts")
    batch_size: int = option(8, "samples denoised together", minimum=1)
    dtype: str = option("float32", "of the networks", choices=("float32", "bfloat16"))
    weights: str | None = option(None, "path or packaged name of the discriminator's weights", path=True)
    keep_latents: bool = option(False, "also write the final latents as .safetensors")
    scale: int = option(1, "nearest-neighbour upscaling of written video and images", minimum=1)
    guidance_form: str = option(
        "logit", "gradient of the logit, or clipped as in the paper's code", choices=("logit", "released")
    )
    joint_steps: int = option(1, "times that ddpm or ddim takes each step, adding noise in between", minimum=1)
    joint_window: tuple[float, float] = option((-20.0, 20.0), "log-SNR between which steps are repeated")
    gibbs: tuple[str, ...] = option((), "modalities resampled afterwards, each given all others", by_modality=True)
    gibbs_steps: int = option(20, "solver steps of each", minimum=1)
    gibbs_guidance: Mapping[str, float] = option(
        {}, "weights in place of those of sample.guidance while they are resampled", by_modality=True
    )
    gibbs_joint_steps: int | None = option(None, "in place of sample.joint_steps while they are resampled", minimum=1)
    gibbs_joint_window: tuple[float, float] | None = option(
        None, "in place of sample.joint_window while they are resampled"
    )
    given: GivenConfig = field(default_factory=GivenConfig)
    threshold: float = option(0.0, "quantile of x_0 at which it is clipped and rescaled; 0 never", minimum=0, maximum=1)

    def __post_init__(self) -> None:
        """Refuse an empty window, and repeated steps of a sampler that cannot repeat them."""
        for key, window in self._windows().items():
            if window is not None and window[0] >= window[1]:
                raise KeyProblem(key, f"must rise, got {list(window)}")
        again = {
            "joint_steps": self.joint_steps,
            "gibbs_joint_steps": self.gibbs_joint_steps,
            **{f"given.joint_steps.{m}": steps for m, steps in self.given.joint_steps.items()},
        }
        wrong = {f"sample.{key}": steps for key, steps in again.items() if steps is not None and steps > 1}
        if wrong and self.sampler not in ("ddpm", "ddim"):
            held = " and ".join(f"{key} is {steps}" for key, steps in wrong.items())
            ones = " and ".join(f"{key}=1" for key in wrong)
            text = f"{self.sampler} cannot repeat steps, and {held}: set {ones}, or sample.sampler to ddpm or ddim"
            raise KeyProblem("sampler", text)

    def where_given(self, modalities: Collection[str]) -> "SampleConfig":
        """Return the settings where some modalities are given: those of `given` in place of the others."""
        given = self.given
        joint_steps = max((n for m, n in given.joint_steps.items() if m not in modalities), default=None)
        return self._with(given.guidance, joint_steps, given.joint_window, GivenConfig())

    def while_resampled(self) -> "SampleConfig":
        """Return the settings of `gibbs` runs: those that begin with `gibbs_` in place of the others."""
        return self._with(self.gibbs_guidance, self.gibbs_joint_steps, self.gibbs_joint_window, self.given)

    def _with(
        self,
        guidance: Mapping[str, float],
        joint_steps: int | None,
        joint_window: tuple[float, float] | None,
        given: GivenConfig,
    ) -> "SampleConfig":
        return replace(
            self,
            guidance={**self.guidance, **guidance},
            joint_steps=joint_steps or self.joint_steps,
            joint_window=joint_window or self.joint_window,
            given=given,
        )

    def _windows(self) -> dict[str, tuple[float, float] | None]:
        return {
            "window": self.window,
            "joint_window": self.joint_window,
            "gibbs_joint_window": self.gibbs_joint_window,
            "given.joint_window": self.given.joint_window,
        }

    @property
    def solver_keys(self) -> tuple[str, ...]:
        """The keys that independent samples depend on; keys added to the schema later only where they are used."""
        repeats, resamples = self.joint_steps > 1, len(self.gibbs) > 0
        used = {
            "joint_steps": repeats,
            "joint_window": repeats,
            "gibbs": resamples,
            "gibbs_steps": resamples,
            "gibbs_joint_steps": resamples and self.gibbs_joint_steps is not None,
            "gibbs_joint_window": resamples and self.gibbs_joint_window is not None,
            "threshold": self.threshold > 0,
            "negative_prompt": bool(self.negative_prompt),
        }
        return ("sampler", "steps", "cfg", *(key for key, is_used in used.items() if is_used))

    def solver(self) -> dict[str, Any]:
        """Return the values of `solver_keys` as plain data."""
        return {key: to_plain(getattr(self, key)) for key in self.solver_keys}


@dataclass(frozen=True)
class EvalConfig:
    """What is evaluated, on how many samples."""

    protocol: str = field(default="bounce", metadata={"registry": "protocol", "bounds": Bounds(doc="set of measures")})
    n: int = option(512, "samples in each row of the report", minimum=1)
    seed: int = option(0, "of the samples", minimum=0)
    given: bool = option(False, "bounce: also sample each modality with the other one given")


@dataclass(frozen=True)
class StudyConfig:
    """The rows of a study, which `eval.protocol: study` trains and measures one after another."""

    rows: Mapping[str, tuple[str, ...]] = option(
        {}, "by name, settings KEY=VALUE of this recipe, or LABEL:KEY=VALUE of a base model's, which is trained first"
    )
    bases: Mapping[str, str] = option({}, "recipes that train the base models of rows, by backbone")
    protocol: str = field(
        default="bounce", metadata={"registry": "protocol", "bounds": Bounds(doc="what measures each row")}
    )
    metrics: tuple[str, ...] = option((), "columns of the table, as dotted keys: agreement.guided")


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe: everything that determines a run. `extends` is resolved while reading."""

    name: str = field(
        metadata={"bounds": Bounds(folder=True, doc="where it writes: runs/NAME; by default the file's name")}
    )
    summary: str = option("", "one line for `mmdisco recipes ls`")
    data: Component | None = field(
        default=None, metadata={"registry": "dataset", "bounds": Bounds(doc="the data set: `name` and its options")}
    )
    request: RequestConfig = field(default_factory=RequestConfig)
    backbones: Mapping[str, Component] = field(
        default_factory=dict,
        metadata={"registry": "backbone", "bounds": Bounds(doc="base models by modality: `name` and their options")},
    )
    coupling: str = option("index", "how noise levels of the modalities are paired", choices=("index", "logsnr"))
    coupling_shift: Mapping[str, float] = option(
        {}, "added to the log-SNR of each modality; one below 0 stays noisy for longer", by_modality=True
    )
    discriminator: Component | None = field(
        default=None,
        metadata={"registry": "discriminator", "bounds": Bounds(doc="the architecture: `name` and its options")},
    )
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    study: StudyConfig = field(default_factory=StudyConfig)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities of all backbones together, in the order of the recipe."""
        return modalities_of(self.backbones)

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain data; loading it again gives an equal recipe."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    def identity(self, stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what names a training, of this recipe or of a `stored` plain one: see `Bounds.identity`."""
        plain = dict(self.to_dict() if stored is None else stored)
        data = plain.get("data")
        if self.data is not None and isinstance(data, Mapping) and data.get("name") == self.data.name:
            plain["data"] = _identifying(data, self.data.options)
        backbones = plain.get("backbones")
        if isinstance(backbones, Mapping):
            plain["backbones"] = {label: self._identifying_model(label, part) for label, part in backbones.items()}
        return plain

    def _identifying_model(self, label: str, plain: Any) -> Any:
        own = self.backbones.get(label)
        same = own is not None and isinstance(plain, Mapping) and plain.get("name") == own.name
        return _identifying(plain, own.options) if own is not None and same else plain

    def to_yaml(self) -> str:
        """Return the resolved recipe as YAML, in the order of the schema."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120)

    def to_json(self) -> str:
        """Return the resolved recipe as canonical JSON."""
        return _canonical(self.to_dict())

    def fingerprint(self, sections: Sequence[str] = ()) -> str:
        """Return 16 hex digits that change with any value in the given dotted sections; without any, in all.

        Values that name no training (`Bounds.identity`) are left out.
        """
        plain = self.identity()
        picked = {name: _lookup(plain, name) for name in sections} if sections else plain
        return fingerprint(_canonical(picked))


def _identifying(plain: Mapping[str, Any], options: Any) -> dict[str, Any]:
    """Return the values of some options that name a training."""
    kinds = {f.name: (f.metadata["bounds"].identity, f.default) for f in fields(options) if "bounds" in f.metadata}
    kept = dict(plain)
    for name, (identity, default) in kinds.items():
        if name in kept and (identity == "never" or (identity == "used" and kept[name] == to_plain(default))):
            del kept[name]
    return kept


def modalities_of(backbones: Mapping[str, Component]) -> tuple[str, ...]:
    """Return the modalities of each backbone: those of its spec, else the key that the recipe gives it."""
    named = ((label, component.spec) for label, component in backbones.items())
    return tuple(
        modality
        for label, spec in named
        for modality in (isinstance(spec, BackboneSpec) and spec.modalities) or (label,)
    )


def to_plain(value: Any) -> Any:
    """Turn dataclasses, mappings and tuples into the types of JSON and YAML."""
    if isinstance(value, Component):
        return {"name": value.name, **to_plain(value.options)}
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the dotted path of every value in which two plain recipes differ."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return [] if old == new else [path]
    keys = [*old, *(key for key in new if key not in old)]
    missing = object()
    return [
        name
        for key in keys
        for name in differences(old.get(key, missing), new.get(key, missing), f"{path}.{key}" if path else key)
    ]


def value_at(plain: Any, dotted: str) -> Any:
    """Return the value of plain data at a dotted path, None where there is none."""
    for key in dotted.split("."):
        plain = plain.get(key) if isinstance(plain, Mapping) else None
    return plain


def _lookup(plain: Mapping[str, Any], dotted: str) -> Any:
    value: Any = plain
    for key in dotted.split("."):
        value = value[key]
    return value


def _canonical(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
