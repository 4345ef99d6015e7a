"""Try what a plugin's factory returns once, where it is built, so that a wrong type or shape does not fail hours later.

Built-in discriminators and data sets are not tried.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.diffusion.guidance import reads_x0
from mmdisco_cli.errors import DataError, ExitCode, PluginError, describe, exit_code_of
from mmdisco_cli.hookspecs import Spec

BACKBONE = ("info", "plan", "grid", "levels_at", "encode_prompt", "predict", "encode", "decode")
DATASET = ("length", "fingerprint", "report", "media", "split")
BATCH = 2
"""Enough to distinguish a logit (B,) from (), (1,) and (B, 1)."""
LOUDEST = 16.0
"""Media in [-1, 1] never reach this; pixels of 0 to 255, or integer samples, do."""
Shapes = Mapping[str, tuple[int, ...]]


def require_members(spec: Spec, thing: object, names: Iterable[str]) -> None:
    """Raise PluginError where an object that a plugin returned lacks members."""
    # Statically first: evaluating a property may be slow.
    absent = [n for n in names if inspect.getattr_static(thing, n, None) is None and not hasattr(thing, n)]
    _expect(spec, not absent, f"{type(thing).__name__} has no {', '.join(absent)}")


def require_module(spec: Spec, module: object) -> None:
    """Raise PluginError where a plugin's discriminator is no torch.nn.Module."""
    _expect(spec, isinstance(module, nn.Module), f"it returns {type(module).__name__}, not a torch.nn.Module")


def try_discriminator(spec: Spec, module: nn.Module, shapes: Shapes, *, twice: bool = False) -> None:
    """Evaluate a plugin's discriminator and its gradient once, on noise of latent `shapes` without batch.

    `twice` takes the gradient's own gradient too, as the denoising loss does.

    Raises:
        PluginError: the call fails, or its result is no logit (B,) that can be differentiated by the states.
    """
    if not spec.owner:
        return
    kept = module.training
    module.eval()  # so that running statistics, such as those of batch norms, ignore these states
    try:
        with _naming(spec, "its forward"), torch.enable_grad():
            _evaluate(spec, module, shapes, twice)
    finally:
        module.train(kept)


def try_dataset(spec: Spec, dataset: Any, plans: Mapping[str, ModalityPlan]) -> None:
    """Read the splits and first clips of a plugin's data set.

    Raises:
        PluginError: a member is missing or fails, or its media are no clips (B, ...) of floats in [-1, 1].
    """
    if not spec.owner:
        return
    require_members(spec, dataset, DATASET)
    for part in ("train", "heldout"):
        try:
            with _naming(spec, f"split({part!r})"):
                split = dataset.split(part)
        except DataError:  # it may be too small to split, which training reports
            continue
        require_members(spec, split, [name for name in DATASET if name != "split"])
        with _naming(spec, "its members"):
            length, name, report = split.length, split.fingerprint, split.report
        whole = length is None or (type(length) is int and length > 0)
        _expect(spec, whole, f"length is {length!r}, not a number of clips or None")
        _expect(spec, isinstance(name, str), f"fingerprint is {name!r}, not text")
        _expect(spec, not isinstance(report, str), f"report is {report!r}, not lines of text")
        if part == "train":
            _try_media(spec, split.media, range(min(BATCH, length or BATCH)), plans)


def _try_media(spec: Spec, media: Callable[..., Any], indices: range, plans: Mapping[str, ModalityPlan]) -> None:
    for modality, plan in plans.items():
        try:
            with _naming(spec, "media"):
                found = media(indices, (modality,))
        except KeyError:  # it has no such modality, which is reported as a mistake of the recipe
            continue
        _expect(spec, isinstance(found, Mapping), f"media returns {type(found).__name__}, not a mapping of modalities")
        if modality in found:
            _require_media(spec, modality, found[modality], len(indices), plan)


def _require_media(spec: Spec, modality: str, x: object, count: int, plan: ModalityPlan) -> None:
    if not isinstance(x, Tensor):
        raise _wrong(spec, f"media of {modality} are {type(x).__name__}, not a tensor")
    shape = tuple(x.shape)
    _expect(spec, shape[:1] == (count,), f"media of {count} clips of {modality} have the shape {shape}, not (B, ...)")
    _expect(spec, x.is_floating_point(), f"media of {modality} are {x.dtype}, not floats in [-1, 1]")
    _expect(spec, bool(x.isfinite().all()), f"media of {modality} are not finite")
    loud = float(x.abs().max()) if plan.rate and x.numel() else 0.0
    _expect(spec, loud <= LOUDEST, f"media of {modality} reach {loud:g}, far outside of [-1, 1]")


def _evaluate(spec: Spec, module: nn.Module, shapes: Shapes, twice: bool) -> None:
    first = next(iter(module.parameters()), torch.empty(0))
    draw = torch.Generator().manual_seed(0)
    x = {m: torch.randn(BATCH, *s, generator=draw).to(first.device).requires_grad_() for m, s in shapes.items()}
    levels = {m: torch.linspace(-2, 2, BATCH, device=first.device) for m in x}
    with torch.random.fork_rng(devices=[first.device] if first.is_cuda else []):
        known = ({m: s.detach() for m, s in x.items()},) if reads_x0(module) else ()
        value = module(x, levels, None, *known)
    if not isinstance(value, Tensor):
        raise _wrong(spec, f"its logit is {type(value).__name__}, not a tensor")
    shape = tuple(value.shape)
    _expect(spec, shape == (BATCH,), f"its logit of {BATCH} samples has the shape {shape}, not (B,)")
    _expect(spec, value.is_floating_point(), f"its logit is {value.dtype}, not of floats")
    _expect(spec, bool(value.isfinite().all()), "its logit is not finite")
    found = _gradients(value, list(x.values()), twice) if value.requires_grad else []
    _expect(spec, bool(found), "its logit has no gradient by the states, which guidance needs")
    weights = [p for p in module.parameters() if p.requires_grad]
    slope = sum((g.float().square().sum() for g in found), torch.zeros(()))
    if twice and weights and slope.requires_grad:
        torch.autograd.grad(slope, weights, allow_unused=True)


def _gradients(value: Tensor, states: list[Tensor], twice: bool) -> list[Tensor]:
    found = torch.autograd.grad(value.float().sum(), states, create_graph=twice, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


@contextmanager
def _naming(spec: Spec, call: str) -> Iterator[None]:
    """Name the plugin whose call failed; a KeyError of media is handled by the caller."""
    try:
        yield
    except Exception as error:
        if exit_code_of(error) != ExitCode.UNEXPECTED or (call == "media" and isinstance(error, KeyError)):
            raise
        raise _wrong(spec, f"{call} fails: {describe(error)}") from error


def _expect(spec: Spec, holds: bool, otherwise: str) -> None:
    if spec.owner and not holds:
        raise _wrong(spec, otherwise)


def _wrong(spec: Spec, what: str) -> PluginError:
    return PluginError(f"plugin {spec.owner}: {spec.name!r}: {what}")
