"""The paper's discriminators from Python: build one, load a converted file, sample with any epsilon function.

    from mmdisco_cli import paper

    discriminator = paper.load_discriminator("landscape.safetensors")
    latents = paper.guided_sample(discriminator, epsilon, noise, sampler="dpmpp_3s", steps=20, threshold=0.995)

`epsilon(x, t)` stands in for the base models: it maps states (B, C, T, ...) by modality, and whole training times t
(B,) by modality, to their noise predictions, after any classifier-free guidance of its own.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base, Condition, State
from mmdisco_cli.diffusion.denoise import JointDenoiser
from mmdisco_cli.diffusion.guidance import EVERYWHERE, Form, Guidance, Window
from mmdisco_cli.diffusion.noise import GeneratorNoise
from mmdisco_cli.diffusion.samplers import SAMPLERS, Noise, StepCallback, sampler_of
from mmdisco_cli.diffusion.schedules import Schedule, Spacing, trained_schedule
from mmdisco_cli.errors import DataError, UsageError, did_you_mean
from mmdisco_cli.paper.configs import RELEASED, Released
from mmdisco_cli.paper.discriminator import PaperDiscriminator, PaperOptions
from mmdisco_cli.paper.epsilon import ORDER, Epsilon, EpsilonBackbone, to_ours, to_theirs
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
    """Return how a released discriminator is made and sampled with; errors as for `build_discriminator`."""
    if config not in RELEASED:
        raise UsageError(f"no released discriminator {config!r}{did_you_mean(config, RELEASED)}")
    return RELEASED[config]


def load_discriminator(path: str | Path) -> PaperDiscriminator:
    """Return the discriminator in a file that `mmdisco convert` or `mmdisco train` wrote, ready to guide.

    Raises:
        DataError: no such file, another kind of file, or tensors that do not fit its description.
    """
    file = Path(path)
    about = read_about(file, "discriminator")
    if about.get("name") not in _OPTIONS:
        raise DataError(f"{file}: holds the discriminator {about.get('name')!r}, not one of the paper's")
    with safe_open(file, framework="pt") as stored:
        names = {m: f"{m}_text_embed.weight" for m in ORDER}
        known = set(stored.keys())
        texts = {m: stored.get_slice(name).get_shape()[1] for m, name in names.items() if name in known}
    try:
        options = _OPTIONS[about["name"]](about["options"])
        shapes = {m: tuple(shape) for m, shape in about["shapes"].items()}
        module = PaperDiscriminator(options, shapes, texts)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: its description is damaged ({error})") from error
    load_weights(file, module)
    return module.eval().requires_grad_(False)


def guided_sample(
    discriminator: PaperDiscriminator,
    epsilon: Epsilon,
    noise: Mapping[str, Tensor],
    *,
    sampler: str = "ddpm",
    steps: int = 50,
    weights: Mapping[str, float] | None = None,
    form: Form = "released",
    window: Window = EVERYWHERE,
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
    """Return what the sampler makes of initial noise (B, C, T, ...) of `audio` and `video`.

    `weights` are the joint scales, 1 where absent. `texts` (B, D) or (B, N, D) and `negative_texts` go to the
    discriminator, whose gradient follows the scales `cfg` as the base's does. `generator` draws the step noise, audio
    first, each time for the whole batch. `schedules` replace those that the discriminator was trained beside.

    `axes` says in which order of axes `noise`, `epsilon` and the result hold a modality, as a permutation of ours:
    `configuration(name).axes` is the authors' own. Step noise is drawn in it.

    Raises:
        ValueError: an unknown sampler, form or modality, batches that differ, ddpm without a generator, or `cfg` where
            there are texts and no negative ones.
    """
    orders = {m: list(order) for m, order in (axes or {}).items()}
    if set(noise) != set(ORDER):
        raise ValueError(f"expected noise of audio and video, got {' and '.join(sorted(noise)) or 'none'}")
    _require_known({"sampler": [sampler]}, SAMPLERS)
    _require_known({"form": [form]}, get_args(Form))
    named = {"weights": weights, "texts": texts, "negative_texts": negative_texts, "cfg": cfg, "axes": axes}
    _require_known({name: value or () for name, value in {**named, "schedules": schedules}.items()}, ORDER)
    if texts and not negative_texts and any(scale != 1 for scale in (cfg or {}).values()):
        raise ValueError("cfg beside texts takes negative_texts: there is nothing to guide away from")
    guidance = Guidance(discriminator, dict(weights or {}), dict.fromkeys(ORDER, window), form)
    grid = {m: (schedules or {}).get(m, _schedule(discriminator, m, sampler)).grid(steps) for m in ORDER}

    conditions = {
        m: Condition(None, (negative_texts or {}).get(m), (texts or {}).get(m), (negative_texts or {}).get(m))
        for m in ORDER
    }
    base = Base(EpsilonBackbone(epsilon, orders), EpsilonBackbone.unplanned, conditions)
    denoise = JointDenoiser([base], guidance, dict(cfg or {}), dtype=None, quantile=threshold)
    fresh: Noise | None = GeneratorNoise(generator, ORDER, orders) if generator is not None else None
    state = {m: to_ours(noise[m], orders.get(m)) for m in ORDER}
    end = sampler_of(sampler, joint_steps)(denoise, state, grid, fresh, callback)
    return {m: to_theirs(x, orders.get(m)) for m, x in end.items()}


def _require_known(asked: Mapping[str, Iterable[str]], known: Collection[str]) -> None:
    """Raise ValueError for the first name that an argument should not hold."""
    for argument, names in asked.items():
        for name in names:
            if name not in known:
                raise ValueError(f"{argument}: unknown {name!r} (known: {', '.join(known)})")


def _schedule(discriminator: PaperDiscriminator, modality: str, sampler: str) -> Schedule:
    """Return the schedule of a modality with the authors' spacing: even in log-SNR for the singlestep solvers."""
    options = discriminator.options
    name = options.audio_schedule if modality == "audio" else options.video_schedule
    spacing: Spacing = "logsnr" if sampler in ("dpmpp_3s", "dpm_3s") else "leading"
    return trained_schedule(name, spacing)
