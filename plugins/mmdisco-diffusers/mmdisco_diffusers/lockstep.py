"""Any pipelines without a backbone: they run unmodified, each in a thread, and synchronise at every step.

    from mmdisco_diffusers.lockstep import Part, run

    results = run(
        {"audio": Part(audio_pipeline, {"prompt": "a dog", "num_inference_steps": 50}),
         "video": Part(video_pipeline, {"prompt": "a dog", "num_inference_steps": 50})},
        Guidance(discriminator, {"video": 8.0}),
    )

At each call of a scheduler's `step` all threads wait for one another; the discriminator is evaluated on all samples,
and its guidance is added to the predictions that the schedulers then use. So every solver works, stochastic and
distilled ones too. `lockstep_backbone` does the same for a recipe.

Limits: no training (a pipeline cannot be evaluated at a chosen noise level), no resuming in the middle of a sample, no
given modality; all pipelines need the same number of steps, one scheduler each, and one evaluation a step. The
discriminator must have been trained elsewhere, on latents of these shapes. Pass each pipeline a `generator`: the order
in which threads use the global one is random.
"""

import functools
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.guidance import Guidance, active, logit_and_gradient, reads_x0
from mmdisco_cli.diffusion.prediction import PredictionType, coefficients, per_sample
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.levels import is_flow, prediction_named

Layout = Callable[[Tensor], Tensor]
StepCallback = Callable[[int, Tensor | None], None]
"""Called at every step with its number, from 1 on, and the logit (B,) where the discriminator was evaluated."""


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Part:
    """One pipeline and its arguments; `to_canonical` brings latents to channels first, `from_canonical` back."""

    pipeline: Any
    arguments: Mapping[str, Any]
    to_canonical: Layout = _as_it_is
    from_canonical: Layout = _as_it_is


@dataclass(frozen=True)
class _Arrival:
    """The arguments of one call of a scheduler's `step`."""

    output: Tensor
    sample: Tensor
    time: Tensor
    scheduler: Any


@dataclass(frozen=True)
class _Place:
    """The noise level of a sample, its scale, and its model's prediction type."""

    level: Levels
    scale: float  # the sample is scale * (alpha * x_0 + sigma * epsilon)
    prediction: PredictionType


def run(
    parts: Mapping[str, Part], guidance: Guidance | None = None, on_step: StepCallback | None = None
) -> dict[str, Any]:
    """Run pipelines together by modality and return their results; without guidance, the same as alone.

    Raises:
        UsageError: pipelines of different numbers of steps or of several schedulers; with guidance, a scheduler whose
            noise levels are not known, or a discriminator that needs more than latents.
    """
    _require_plain(guidance)
    meeting = _Meeting(parts, guidance, on_step or (lambda count, logit: None))
    threads = [threading.Thread(target=meeting.attend, args=(m, part), name=m) for m, part in parts.items()]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        meeting.stopped = True  # the pipelines end at their next step
        raise
    if meeting.errors:
        raise meeting.errors[0]
    return meeting.results


def _require_plain(guidance: Guidance | None) -> None:
    if guidance is None:
        return
    if reads_x0(guidance.discriminator):
        raise UsageError("lockstep: this discriminator reads the base models' x_0, which pipelines do not expose")
    if guidance.form != "logit":
        raise UsageError(f"lockstep: guidance of the form {guidance.form} is not supported, only logit")


class _LeftAlone(Exception):  # noqa: N818 - another pipeline's end, reported as its own error
    """Another pipeline has ended and will take no further step."""


@dataclass
class _Meeting:
    """The synchronisation of the threads; the last to arrive computes guidance for all."""

    parts: Mapping[str, Part]
    guidance: Guidance | None
    on_step: StepCallback
    results: dict[str, Any] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    arrived: dict[str, _Arrival] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    meetings: int = 0
    stopped: bool = False
    change: threading.Condition = field(default_factory=threading.Condition)

    def attend(self, modality: str, part: Part) -> None:
        """Run one pipeline to its end, synchronised with the others at every step."""
        scheduler, own = part.pipeline.scheduler, type(part.pipeline.scheduler)

        @functools.wraps(own.step)  # pipelines inspect its signature
        def step(called: Any, output: Tensor, *args: Any, **kwargs: Any) -> Any:
            if called is not scheduler:
                raise UsageError(f"lockstep: a {type(part.pipeline).__name__} uses several schedulers at once")
            return own.step(called, self._joined(modality, scheduler, output, args, kwargs), *args, **kwargs)

        # A subclass rather than an attribute of this scheduler, so that a pipeline's copies of it are detected.
        scheduler.__class__ = type(own.__name__, (own,), {"step": step})
        try:
            self.results[modality] = part.pipeline(**part.arguments)
        except _LeftAlone:
            first = self.ended[0] if self.ended else modality
            self.errors.append(UsageError(f"lockstep: {first} ends before {modality}: give both as many steps"))
        except BaseException as error:
            self.errors.insert(0, error)
        finally:
            scheduler.__class__ = own
            with self.change:
                self.ended.append(modality)
                self.change.notify_all()

    def _joined(
        self, modality: str, scheduler: Any, output: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        if self.stopped:
            raise _LeftAlone
        time, sample = _time_and_sample(scheduler, args, kwargs)
        with self.change:
            self.arrived[modality] = _Arrival(output, sample, time, scheduler)
            self._wait()
            extra = self.added.get(modality)
        return output if extra is None else output + self.parts[modality].from_canonical(extra).to(output.dtype)

    def _wait(self) -> None:
        """Wait for the others; the last to arrive computes guidance."""
        meeting = self.meetings
        if len(self.arrived) == len(self.parts):
            logit = self._guide()
            self.on_step(self.meetings + 1, logit)
            self.arrived = {}
            self.meetings += 1
            self.change.notify_all()
            return
        self.change.wait_for(lambda: self.meetings != meeting or bool(self.ended))
        if self.meetings == meeting:
            raise _LeftAlone

    def _guide(self) -> Tensor | None:
        """Compute what guidance adds to every prediction: eq. (3) in each model's own prediction type."""
        self.added = {}
        if self.guidance is None:
            return None
        places = {m: _place(arrival) for m, arrival in self.arrived.items()}
        levels = {m: place.level for m, place in places.items()}
        guided = active(self.guidance, levels)
        if not guided:
            return None
        x = {m: self.parts[m].to_canonical(a.sample.float() / places[m].scale) for m, a in self.arrived.items()}
        logit, gradient = logit_and_gradient(self.guidance.discriminator, x, levels)
        for m in guided:
            level, weight = levels[m], self.guidance.weights.get(m, 1.0)
            a, b = coefficients(level.alpha, level.sigma, places[m].prediction)
            # At fixed x, a change d of epsilon changes x_0 by -sigma / alpha * d.
            factor = -weight * level.sigma * (b - a * level.sigma / level.alpha)
            self.added[m] = per_sample(factor, gradient[m]) * gradient[m]
        return logit


def _time_and_sample(scheduler: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    # Only CogVideoX's own DPM solver takes its previous prediction before the time.
    first = 1 if type(scheduler).__name__ == "CogVideoXDPMScheduler" else 0
    time = kwargs.get("timestep", args[first] if len(args) > first else None)
    place = first + 1 + first
    sample = kwargs.get("sample", args[place] if len(args) > place else None)
    if time is None or sample is None:
        raise UsageError(f"lockstep: {type(scheduler).__name__} is called in an unknown way")
    return torch.as_tensor(time), sample


def _place(arrival: _Arrival) -> _Place:
    scheduler, time = arrival.scheduler, float(arrival.time)
    name, config = type(scheduler).__name__, scheduler.config
    alpha, sigma, scale = _level(scheduler, name, time)
    prediction = prediction_named(name, config)
    if config.get("invert_sigmas"):
        alpha, sigma, prediction = sigma, alpha, "flow_reversed"
    return _Place(Levels(*(torch.tensor(value) for value in (time, alpha, sigma))), scale, prediction)


def _level(scheduler: Any, name: str, time: float) -> tuple[float, float, float]:
    """Return alpha, sigma, and the sample's scale against alpha * x_0 + sigma * epsilon."""
    config = scheduler.config
    if is_flow(name, config):
        share = time / config.get("num_train_timesteps", 1000)
        return 1 - share, share, 1.0
    if name.startswith("CosineDPM"):
        ratio = math.tan(time * math.pi / 2)
        norm = math.sqrt(1 + ratio**2)
        return 1 / norm, ratio / norm, norm
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UsageError(f"lockstep: the noise levels of {name} are not known")
    kept = float(scheduler.alphas_cumprod[round(time)])
    # Schedulers in sigma, as Euler's, keep samples of variance 1 + (sigma / alpha)^2.
    exploding = hasattr(scheduler, "is_scale_input_called")
    return math.sqrt(kept), math.sqrt(1 - kept), 1 / math.sqrt(kept) if exploding else 1.0
