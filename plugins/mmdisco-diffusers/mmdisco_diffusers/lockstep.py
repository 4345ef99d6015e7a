"""Any two pipelines that nobody wrote a backbone for: they run unmodified, each in a thread, and meet at every step.

    from mmdisco_diffusers.lockstep import Part, run

    films = run(
        {"audio": Part(audio_pipeline, {"prompt": "a dog", "num_inference_steps": 50}),
         "video": Part(video_pipeline, {"prompt": "a dog", "num_inference_steps": 50})},
        Guidance(discriminator, {"video": 8.0}),
    )

At each call of a scheduler's `step` all wait for one another; the discriminator sees all samples, and what it has to
add goes into the predictions that the schedulers then use. So every solver works, stochastic and distilled ones too.

What it cannot do: train (a pipeline cannot be asked about a noise level of one's choosing), resume, hold a given
modality, shard, or be named in a recipe; pipelines of unlike numbers of steps; schedulers that ask their model twice a
step. Its discriminator must have been trained elsewhere, on latents of these shapes. Pass each pipeline a `generator`:
the global one is drawn from in whatever order the threads run.
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


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Part:
    """One pipeline and what it is called with; `to_canonical` and back are its latents' layout, channels first."""

    pipeline: Any
    arguments: Mapping[str, Any]
    to_canonical: Layout = _as_it_is
    from_canonical: Layout = _as_it_is


@dataclass(frozen=True)
class _Arrival:
    """What one scheduler was called with."""

    output: Tensor
    sample: Tensor
    level: Levels
    scale: float  # by which its sample differs from alpha * x_0 + sigma * epsilon
    prediction: PredictionType


def run(parts: Mapping[str, Part], guidance: Guidance | None = None) -> dict[str, Any]:
    """Run pipelines together by modality and return what each returns; without guidance, what each would alone.

    Raises:
        UsageError: a scheduler whose noise levels are not known, or pipelines of unlike numbers of steps.
    """
    if guidance is not None and reads_x0(guidance.discriminator):
        raise UsageError("lockstep: this discriminator reads the base models' x_0, which pipelines do not tell apart")
    meeting = _Meeting(parts, guidance)
    threads = [threading.Thread(target=meeting.attend, args=(m, part), name=m) for m, part in parts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if meeting.errors:
        raise meeting.errors[0]
    return meeting.results


class _LeftAlone(Exception):  # noqa: N818 - another pipeline's end, told in its own words
    """Another pipeline has ended, and will not come to the next meeting."""


@dataclass
class _Meeting:
    """Where the threads wait, and what the last to arrive works out for all."""

    parts: Mapping[str, Part]
    guidance: Guidance | None
    results: dict[str, Any] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    arrived: dict[str, _Arrival] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    meetings: int = 0
    change: threading.Condition = field(default_factory=threading.Condition)

    def attend(self, modality: str, part: Part) -> None:
        """Run one pipeline to its end, meeting the others at every step."""
        scheduler = part.pipeline.scheduler
        own = scheduler.step

        @functools.wraps(own)  # pipelines look at its parameters
        def step(output: Tensor, *args: Any, **kwargs: Any) -> Any:
            return own(self._joined(modality, scheduler, output, args, kwargs), *args, **kwargs)

        scheduler.step = step
        try:
            self.results[modality] = part.pipeline(**part.arguments)
        except _LeftAlone:
            text = f"lockstep: {self.ended[0]} ends before {modality}: give both as many steps"
            self.errors.append(UsageError(text))
        except BaseException as error:
            self.errors.insert(0, error)
        finally:
            del scheduler.step
            with self.change:
                self.ended.append(modality)
                self.change.notify_all()

    def _joined(
        self, modality: str, scheduler: Any, output: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        time, sample = _time_and_sample(scheduler, args, kwargs)
        with self.change:
            self.arrived[modality] = _arrival(scheduler, output, time, sample)
            self._wait()
            extra = self.added.get(modality)
        return output if extra is None else output + self.parts[modality].from_canonical(extra).to(output.dtype)

    def _wait(self) -> None:
        """Wait for the others; the last to arrive confers."""
        meeting = self.meetings
        if len(self.arrived) == len(self.parts):
            self._confer()
            self.arrived = {}
            self.meetings += 1
            self.change.notify_all()
            return
        self.change.wait_for(lambda: self.meetings != meeting or bool(self.ended))
        if self.meetings == meeting:
            raise _LeftAlone

    def _confer(self) -> None:
        """Work out what the discriminator adds to every prediction: Eq. (3) in each model's own terms."""
        self.added = {}
        levels = {m: arrival.level for m, arrival in self.arrived.items()}
        guided = active(self.guidance, levels) if self.guidance is not None else {}
        if self.guidance is None or not guided:
            return
        x = {m: self.parts[m].to_canonical(a.sample.float() / a.scale) for m, a in self.arrived.items()}
        _, gradient = logit_and_gradient(self.guidance.discriminator, x, levels)
        for m in guided:
            level, weight = levels[m], self.guidance.weights.get(m, 1.0)
            a, b = coefficients(level.alpha, level.sigma, self.arrived[m].prediction)
            # At fixed x, x_0 moves by -sigma / alpha of what epsilon moves by.
            factor = -weight * level.sigma * (b - a * level.sigma / level.alpha)
            self.added[m] = per_sample(factor, gradient[m]) * gradient[m]


def _time_and_sample(scheduler: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    # Only CogVideoX's own DPM solver is told its former prediction before the time.
    first = 1 if type(scheduler).__name__ == "CogVideoXDPMScheduler" else 0
    time = kwargs.get("timestep", args[first] if len(args) > first else None)
    place = first + 1 + first
    sample = kwargs.get("sample", args[place] if len(args) > place else None)
    if time is None or sample is None:
        raise UsageError(f"lockstep: {type(scheduler).__name__} is called in a way that is not known")
    return torch.as_tensor(time), sample


def _arrival(scheduler: Any, output: Tensor, time: Tensor, sample: Tensor) -> _Arrival:
    name, config = type(scheduler).__name__, scheduler.config
    alpha, sigma, scale = _level(scheduler, name, float(time))
    prediction = prediction_named(name, config)
    if config.get("invert_sigmas"):
        alpha, sigma, prediction = sigma, alpha, "flow_reversed"
    level = Levels(*(torch.tensor(value) for value in (float(time), alpha, sigma)))
    return _Arrival(output, sample, level, scale, prediction)


def _level(scheduler: Any, name: str, time: float) -> tuple[float, float, float]:
    """Return alpha, sigma, and the sample's scale against alpha * x_0 + sigma * epsilon."""
    config = scheduler.config
    if is_flow(name, config):
        share = time / config.get("num_train_timesteps", 1000)
        return 1 - share, share, 1.0
    if hasattr(scheduler, "precondition_noise"):
        ratio = math.tan(time * math.pi / 2)
        norm = math.sqrt(1 + ratio**2)
        return 1 / norm, ratio / norm, norm
    if not hasattr(scheduler, "alphas_cumprod"):
        raise UsageError(f"lockstep: the noise levels of {name} are not known")
    kept = float(scheduler.alphas_cumprod[round(time)])
    # Euler's and its kin keep samples of variance 1 + (sigma / alpha)^2.
    exploding = hasattr(scheduler, "is_scale_input_called")
    return math.sqrt(kept), math.sqrt(1 - kept), 1 / math.sqrt(kept) if exploding else 1.0
