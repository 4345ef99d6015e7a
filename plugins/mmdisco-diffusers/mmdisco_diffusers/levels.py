"""From a scheduler's configuration to the noise levels that its model was trained with; its solver is not used.

The schedulers of diffusers have three parametrisations: variance-preserving tables of alphas, rectified flow, and EDM.
All become alpha and sigma of x_u = alpha * x_0 + sigma * epsilon, EDM after dividing x by sqrt(1 + sigma^2).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from mmdisco_cli.diffusion.prediction import PredictionType
from mmdisco_cli.diffusion.schedules import Levels, Schedule, Spacing, discrete_vp
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.parts import Parts

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_UNEVEN = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
_PREDICTIONS = {
    "epsilon": "epsilon",
    "sample": "sample",
    "v_prediction": "v",
    "flow_prediction": "flow",
}


def schedule_of(parts: Parts, changed: Mapping[str, Any] = _NOTHING) -> Schedule:
    """Return the noise levels of a pipeline's scheduler, with some keys of its configuration changed.

    Its grid is that of the scheduler's own `set_timesteps`, or the uniform steps of its `timestep_spacing` where the
    solver does not evaluate the model exactly once a step.

    Raises:
        UsageError: the levels are unknown, or (by `grid`) the steps can be taken in neither way.
    """
    name, config = parts.class_name("scheduler"), {**parts.config("scheduler"), **changed}
    if is_flow(name, config):
        return _flow(parts.get("scheduler"))
    if "sigma_data" in config:
        return _edm(config)
    scheduler = type(parts.get("scheduler")).from_config(config)
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UsageError(f"{name}: the noise levels of this scheduler are not known")
    spacing = cast(Spacing, config.get("timestep_spacing", "leading"))
    # Schedulers in sigma (Euler, DPM-Solver) end at their last sigma; the others have an option for it.
    end_at_zero = bool(config.get("set_alpha_to_one", True))
    uniform = discrete_vp(_betas(scheduler), spacing, int(config.get("steps_offset", 0)), end_at_zero)
    return replace(uniform, grid=lambda steps: _scheduler_grid(type(scheduler).from_config(config), uniform, steps))


def _scheduler_grid(scheduler: Any, uniform: Schedule, steps: int) -> Levels:
    """Return the levels of a fresh scheduler, with the times at which its model is evaluated.

    Uniform steps where these are not `steps` falling training times, or only the clean end.
    """
    times, sigmas = _set(scheduler, steps)
    last = len(scheduler.alphas_cumprod) - 1
    known = len(times) == steps and bool((times.diff() <= 0).all()) and 0 < times[0] <= last and bool(times[-1] >= 0)
    if sigmas is not None:
        known = known and len(sigmas) == steps + 1 and bool((sigmas.diff() <= 0).all())
    if not known:
        _require_uniform(scheduler)
        return uniform.grid(steps)
    if sigmas is not None:
        norm = (1 + sigmas.square()).sqrt()
        return _float(torch.cat([times, times.new_zeros(1)]), 1 / norm, sigmas / norm)
    end = uniform.grid(1)
    return Levels(*(torch.cat([one, two[-1:]]) for one, two in zip(uniform.levels_at(times / last), end, strict=True)))


def _set(scheduler: Any, steps: int) -> tuple[Tensor, Tensor | None]:
    """Return a scheduler's times for a number of steps and, where it has them, its ratios sigma / alpha."""
    name = type(scheduler).__name__
    try:
        scheduler.set_timesteps(steps)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UsageError(f"{name}: cannot take {steps} steps ({' '.join(str(error).split())})") from error
    sigmas = getattr(scheduler, "sigmas", None)
    return scheduler.timesteps.double().cpu(), None if sigmas is None else sigmas.double().cpu()


def _require_uniform(scheduler: Any) -> None:
    """Raise UsageError for an option whose steps cannot be replaced by uniform ones."""
    config, plain = scheduler.config, {"interpolation_type": "linear", "timestep_type": "discrete"}
    odd = [key for key in _UNEVEN if config.get(key)]
    odd += [key for key, value in plain.items() if config.get(key, value) != value]
    if odd:
        raise UsageError(f"{type(scheduler).__name__}: steps by its option {odd[0]}={config[odd[0]]} are not known")


def ended_clean(schedule: Schedule) -> Schedule:
    """Return the schedule with grids that end at sigma = 0, as ancestral sampling does in any case."""

    def grid(steps: int) -> Levels:
        t, alpha, sigma = schedule.grid(steps)
        return Levels(t, torch.cat([alpha[:-1], torch.ones(1)]), torch.cat([sigma[:-1], torch.zeros(1)]))

    return Schedule(schedule.name, schedule.levels_at, grid)


def prediction_of(parts: Parts) -> PredictionType:
    """Return the prediction type of a model that was trained with a pipeline's scheduler."""
    return prediction_named(parts.class_name("scheduler"), parts.config("scheduler"))


def prediction_named(name: str, config: Mapping[str, Any]) -> PredictionType:
    """Return the prediction type of a model that was trained with a scheduler of this class and configuration."""
    if is_flow(name, config):
        return "flow"
    name_of_type = config.get("prediction_type", "epsilon")
    if name_of_type not in _PREDICTIONS:
        raise UsageError(f"{name}: prediction {name_of_type!r} is not known")
    return cast(PredictionType, _PREDICTIONS[name_of_type])


def is_flow(name: str, config: Mapping[str, Any]) -> bool:
    """Return whether a scheduler is for rectified flow."""
    flows = bool(config.get("use_flow_sigmas")) or config.get("prediction_type") == "flow_prediction"
    return name.startswith("FlowMatch") or flows


def _betas(scheduler: Any) -> Tensor:
    """Return betas that give the scheduler's own table of alphas, which some rescale after computing it."""
    kept: Tensor = scheduler.alphas_cumprod.double().cpu()
    return 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])


def _flow(scheduler: Any) -> Schedule:
    config = scheduler.config
    shift = float(config.get("flow_shift", config.get("shift", 1.0)))
    train_steps = int(config.get("num_train_timesteps", 1000))

    def levels_at(u: Tensor) -> Levels:
        s = u.double()
        s = shift * s / (1 + (shift - 1) * s)
        return _float(s * train_steps, 1 - s, s)

    def grid(steps: int) -> Levels:
        times, sigmas = _set(type(scheduler).from_config(config), steps)
        if sigmas is None:
            raise UsageError(f"{type(scheduler).__name__}: the noise levels of this scheduler are not known")
        return _float(torch.cat([times, times.new_zeros(1)]), 1 - sigmas, sigmas)

    return Schedule("flow", levels_at, grid)


def _edm(config: Mapping[str, Any]) -> Schedule:
    """Return levels of x / sqrt(1 + sigma^2), from the configuration: the class itself needs another package."""
    if config["sigma_data"] != 1:
        raise UsageError(f"a scheduler of sigma_data {config['sigma_data']} is not known, only of 1")
    low, high, rho = float(config["sigma_min"]), float(config["sigma_max"]), float(config.get("rho", 7.0))
    karras = config.get("sigma_schedule") == "karras"

    def levels_at(u: Tensor) -> Levels:
        if karras:
            return variance_preserving((low ** (1 / rho) + u.double() * (high ** (1 / rho) - low ** (1 / rho))) ** rho)
        return variance_preserving((math.log(low) + u.double() * (math.log(high) - math.log(low))).exp())

    def variance_preserving(sigma: Tensor) -> Levels:
        norm = (1 + sigma.square()).sqrt()
        return _float(sigma.atan() * 2 / math.pi, 1 / norm, sigma / norm)

    def grid(steps: int) -> Levels:
        t, alpha, sigma = levels_at(torch.linspace(1, 0, steps, dtype=torch.float64))
        return Levels(torch.cat([t, t[:1] * 0]), torch.cat([alpha, alpha.new_ones(1)]), torch.cat([sigma, t[:1] * 0]))

    return Schedule("edm", levels_at, grid)


def _float(t: Tensor, alpha: Tensor, sigma: Tensor) -> Levels:
    return Levels(t.float(), alpha.float(), sigma.float())
