"""The paper's discriminators from Python: build one, load a converted file, sample with any epsilon function.

    from mmdisco_cli import paper

    discriminator = paper.load_discriminator("landscape.safetensors")
    latents = paper.guided_sample(discriminator, epsilon, noise, sampler="dpmpp_3s", steps=20, threshold=0.995)

`epsilon(x, t)` takes the place of the base models: from states (B, C, T, ...) and whole training times t (B,), both by
modality, it returns their noise predictions, after any classifier-free guidance of its own.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base, Condition, State
from mmdisco_cli.diffusion.denoise import JointDenoiser
from mmdisco_cli.diffusion.guidance import ALL_LEVELS, Form, Guidance, LogSNRWindow
from mmdisco_cli.diffusion.noise import GeneratorNoise
from mmdisco_cli.diffusion.samplers import SAMPLERS, Noise, StepCallback, sampler_of
from mmdisco_cli.diffusion.schedules import Levels, Schedule, Spacing, trained_schedule
from mmdisco_cli.errors import DataError, UsageError, did_you_mean
from mmdisco_cli.paper.configs import RELEASED, Released
from mmdisco_cli.paper.discriminator import PaperDiscriminator, PaperOptions
from mmdisco_cli.paper.epsilon import DRAW_ORDER, Epsilon, EpsilonBackbone, from_callers_axes, to_callers_axes
from mmdisco_cli.paper.options import PaperMelOptions, PaperWaveformOptions
from mmdisco_cli.weights_file import load_weights, read_about

_OPTIONS: dict[str, Callable[[Mapping[str, Any]], PaperOptions]] = {
    "paper-waveform": lambda options: PaperWaveformOptions(**options),
    "paper-mel": lambda options: PaperMelOptions(**options),
}


def build_discriminator(config: str) -> PaperDiscriminator:
    """Return an untrained discriminator of a released configuration; its state dict has the authors' names.

    Raises:
        UsageError: no such configuration.
    """
    released = configuration(config)
    return PaperDiscriminator(released.options, released.shapes, released.texts)


def configuration(config: str) -> Released:
    """Return the architecture and the sampling settings of a released discriminator, by name.

    Raises:
        UsageError: no such configuration.
    """
    if config not in RELEASED:
        raise UsageError(f"no released discriminator {config!r}{did_you_mean(config, RELEASED)}")
    return RELEASED[config]


def load_discriminator(path: str | Path) -> PaperDiscriminator:
    """Return the discriminator in a file that `mmdisco convert` or `mmdisco train` wrote, frozen, in eval mode.

    Raises:
        DataError: no such file, another kind of file, or tensors that do not fit its description.
    """
    file = Path(path)
    about = read_about(file, "discriminator")
    if about.get("name") not in _OPTIONS:
        raise DataError(f"{file}: holds the discriminator {about.get('name')!r}, not one of the paper's")
    text_sizes = _text_sizes(file)
    try:
        options = _OPTIONS[about["name"]](about["options"])
        shapes = {m: tuple(shape) for m, shape in about["shapes"].items()}
        module = PaperDiscriminator(options, shapes, text_sizes)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: its description is damaged ({error})") from error
    load_weights(file, module)
    return module.eval().requires_grad_(False)


def _text_sizes(file: Path) -> dict[str, int]:
    """Return the size of each modality's text embedding, read off the weights; none where it takes no text."""
    with safe_open(file, framework="pt") as stored:
        weights = {m: f"{m}_text_embed.weight" for m in DRAW_ORDER}
        names = set(stored.keys())
        return {m: stored.get_slice(name).get_shape()[1] for m, name in weights.items() if name in names}


def guided_sample(
    discriminator: PaperDiscriminator,
    epsilon: Epsilon,
    noise: Mapping[str, Tensor],
    *,
    sampler: str = "ddpm",
    steps: int = 50,
    weights: Mapping[str, float] | None = None,
    form: Form = "released",
    window: LogSNRWindow = ALL_LEVELS,
    texts: Mapping[str, Tensor] | None = None,
    negative_texts: Mapping[str, Tensor] | None = None,
    cfg: Mapping[str, float] | None = None,
    joint_steps: int = 1,
    threshold: float = 0.0,
    generator: torch.Generator | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    axes: Mapping[str, Sequence[int]] | None = None,
    callback: StepCallback | None = None,
) -> State:
    """Return the sampler's result from initial noise of `audio` and `video`, both (B, C, T, ...).

    `weights` are the joint scales, 1 where absent. `texts` (B, D) or (B, N, D) and `negative_texts` go to the
    discriminator, whose gradient follows the scales `cfg` as the base's does. `window` is the log-SNR between which
    guidance acts, `threshold` the quantile of dynamic thresholding, 0 for none. `generator` draws the step noise, audio
    first, each time for the whole batch. `schedules` replace those that the discriminator was trained with.
    `callback` is called after each step with its number, the states and the prediction.

    `axes` gives the order of axes in which `noise`, `epsilon` and the result hold a modality, as a permutation of ours:
    `configuration(name).axes` is the authors' own. Step noise is drawn in it.

    Raises:
        ValueError: an unknown sampler, form or modality, batches that differ, ddpm without a generator, or `cfg` where
            there are texts and no negative ones.
    """
    modalities = {"weights": weights, "texts": texts, "negative_texts": negative_texts, "cfg": cfg, "axes": axes}
    _require_known_names(noise, sampler, form, {**modalities, "schedules": schedules})
    if texts and not negative_texts and any(scale != 1 for scale in (cfg or {}).values()):
        raise ValueError("cfg beside texts takes negative_texts: there is nothing to guide away from")
    orders = {m: list(order) for m, order in (axes or {}).items()}
    base = _base(epsilon, orders, texts or {}, negative_texts or {})
    guidance = Guidance(discriminator, dict(weights or {}), dict.fromkeys(DRAW_ORDER, window), form)
    denoise = JointDenoiser([base], guidance, dict(cfg or {}), dtype=None, quantile=threshold)
    grid = _grid(discriminator, sampler, steps, schedules or {})
    step_noise: Noise | None = GeneratorNoise(generator, DRAW_ORDER, orders) if generator is not None else None
    start = {m: from_callers_axes(noise[m], orders.get(m)) for m in DRAW_ORDER}
    end = sampler_of(sampler, joint_steps)(denoise, start, grid, step_noise, callback)
    return {m: to_callers_axes(x, orders.get(m)) for m, x in end.items()}


def _require_known_names(
    noise: Mapping[str, Tensor],
    sampler: str,
    form: str,
    by_modality: Mapping[str, Mapping[str, Any] | None],
) -> None:
    """Raise ValueError for an unknown sampler, form or modality, or noise that is not of both modalities."""
    if set(noise) != set(DRAW_ORDER):
        raise ValueError(f"expected noise of audio and video, got {' and '.join(sorted(noise)) or 'none'}")
    _require_known("sampler", [sampler], SAMPLERS)
    _require_known("form", [form], get_args(Form))
    for argument, values in by_modality.items():
        _require_known(argument, values or (), DRAW_ORDER)


def _require_known(argument: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{argument}: unknown {name!r} (known: {', '.join(known)})")


def _base(
    epsilon: Epsilon,
    orders: Mapping[str, Sequence[int]],
    texts: Mapping[str, Tensor],
    negative_texts: Mapping[str, Tensor],
) -> Base:
    """Return the function as a base model, whose conditions carry the discriminator's texts.

    A negative condition, though the function takes none, makes the gradient follow the scale of CFG.
    """
    conditions = {m: Condition(None, negative_texts.get(m), texts.get(m), negative_texts.get(m)) for m in DRAW_ORDER}
    return Base(EpsilonBackbone(epsilon, orders), EpsilonBackbone.no_plan, conditions)


def _grid(
    discriminator: PaperDiscriminator, sampler: str, steps: int, schedules: Mapping[str, Schedule]
) -> dict[str, Levels]:
    """Return the levels of every step, by the caller's schedules or those that the discriminator was trained with."""
    return {m: schedules.get(m, _schedule(discriminator, m, sampler)).grid(steps) for m in DRAW_ORDER}


def _schedule(discriminator: PaperDiscriminator, modality: str, sampler: str) -> Schedule:
    """Return the schedule of a modality with the authors' spacing: even in log-SNR for the singlestep solvers."""
    options = discriminator.options
    name = options.audio_schedule if modality == "audio" else options.video_schedule
    spacing: Spacing = "logsnr" if sampler in ("dpmpp_3s", "dpm_3s") else "leading"
    return trained_schedule(name, spacing)
