"""Try what a plugin's factory returns once, where it is built, so that a wrong type or shape does not fail hours later.

Built-in discriminators and data sets are not tried.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import AUDIO, IMAGE, VIDEO
from mmdisco_cli.diffusion.guidance import reads_x0
from mmdisco_cli.errors import DataError, ExitCode, PluginError, describe, exit_code_of
from mmdisco_cli.hookspecs import Spec

BACKBONE = ("info", "plan", "grid", "levels_at", "encode_prompt", "predict", "encode", "decode")
DATASET = ("length", "fingerprint", "report", "media", "split")
RANGED = (AUDIO, VIDEO, IMAGE)
"""Kinds whose media are in [-1, 1]."""
BATCH = 2
"""Enough to distinguish a logit (B,) from (), (1,) and (B, 1)."""
LOUDEST = 16.0
"""What no media in [-1, 1] reach: they are pixels of 0 to 255, or whole numbers."""
NO_GRADIENT = "its logit has no gradient by the states, which guidance needs"
Shapes = Mapping[str, tuple[int, ...]]
Expect = Callable[[bool, str], None]
"""What complains, in the second argument's words, where the first is false: here by naming a plugin."""


def require_members(spec: Spec, thing: object, names: Iterable[str]) -> None:
    """Raise PluginError where a plugin's thing lacks members."""
    expect_members(partial(_expect, spec), thing, names)


def require_module(spec: Spec, module: object) -> None:
    """Raise PluginError where a plugin's discriminator is not a torch.nn.Module."""
    _expect(spec, isinstance(module, nn.Module), f"it returns {type(module).__name__}, not a torch.nn.Module")


def try_discriminator(
    spec: Spec, module: nn.Module, shapes: Shapes, pooled: Mapping[str, int], *, twice: bool = False
) -> None:
    """Ask a plugin's discriminator for a logit and its gradient, on noise of latent `shapes` without batch.

    `pooled` are the sizes of the conditions that the base models give it, 0 where there is none. `twice` takes the
    gradient's own gradient too, as the denoising loss does.

    Raises:
        PluginError: the call fails, or its result is not a logit (B,) that can be differentiated by the states.
    """
    if not spec.owner:
        return
    kept = module.training
    module.eval()  # so that running statistics, such as those of batch norms, ignore these states
    try:
        with _naming(spec, "its forward"), torch.enable_grad():
            _ask(spec, module, shapes, pooled, twice)
    finally:
        module.train(kept)


def try_dataset(spec: Spec, dataset: Any, kinds: Mapping[str, str]) -> None:
    """Read the splits and first clips of a plugin's data set, of modalities of these kinds, by label.

    Raises:
        PluginError: a member is missing or fails, or its media are not clips (B, ...) of floats in [-1, 1].
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
            length = expect_part(partial(_expect, spec), split)
        if part == "train":
            _try_media(spec, split.media, range(min(BATCH, length or BATCH)), kinds)


def _try_media(spec: Spec, media: Callable[..., Any], indices: range, kinds: Mapping[str, str]) -> None:
    for modality, kind in kinds.items():
        try:
            with _naming(spec, "media"):
                found = media(indices, (modality,))
        except KeyError:  # it has no such modality, which is the recipe's mistake
            continue
        _expect(spec, isinstance(found, Mapping), f"media returns {type(found).__name__}, not a mapping of modalities")
        if modality in found:
            expect_clips(partial(_expect, spec), modality, found[modality], len(indices), kind in RANGED)


def _ask(spec: Spec, module: nn.Module, shapes: Shapes, pooled: Mapping[str, int], twice: bool) -> None:
    first = next(iter(module.parameters()), torch.empty(0))
    x, levels, texts = noisy(shapes, pooled, BATCH, first.device)
    with torch.random.fork_rng(devices=[first.device] if first.is_cuda else []):
        known = ({m: s.detach() for m, s in x.items()},) if reads_x0(module) else ()
        value = module(x, levels, texts, *known)
    expect = partial(_expect, spec)
    logit = expect_logit(expect, value, BATCH)
    found = gradients(logit, list(x.values()), twice) if logit.requires_grad else []
    expect(bool(found), NO_GRADIENT)
    slope = sum((g.float().square().sum() for g in found), torch.zeros(()))
    if twice and slope.requires_grad:
        gradients_by_weights(slope, module)


def noisy(
    shapes: Shapes, pooled: Mapping[str, int], batch: int, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor] | None]:
    """Return states to differentiate by, log-SNR (B,) and conditions, the same at every call, None for no condition."""
    draw = torch.Generator().manual_seed(0)
    x = {m: torch.randn(batch, *s, generator=draw).to(device).requires_grad_() for m, s in shapes.items()}
    levels = {m: torch.linspace(-2, 2, batch, device=device) for m in x}
    texts = {m: torch.randn(batch, size, generator=draw).to(device) for m, size in pooled.items() if size}
    return x, levels, texts or None


def gradients(value: Tensor, states: Sequence[Tensor], twice: bool) -> list[Tensor]:
    """Return the gradients of a logit by those of the states that it has one by."""
    found = torch.autograd.grad(value.float().sum(), states, create_graph=twice, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def gradients_by_weights(loss: Tensor, module: nn.Module) -> list[Tensor]:
    """Return the gradients of a loss by those of the weights that it has one by, which are left without any."""
    # As training takes them: autograd.grad passes by what refuses to be differentiated on the way to no weight.
    loss.backward(retain_graph=True)
    found = [p.grad for p in module.parameters() if p.grad is not None]
    module.zero_grad(set_to_none=True)
    return found


def expect_members(expect: Expect, thing: object, names: Iterable[str]) -> None:
    """Expect a thing to have members of these names."""
    # Statically first: a property may take its time.
    absent = [n for n in names if inspect.getattr_static(thing, n, None) is None and not hasattr(thing, n)]
    expect(not absent, f"{type(thing).__name__} has no {', '.join(absent)}")


def expect_logit(expect: Expect, value: Any, batch: int) -> Tensor:
    """Expect finite floats (B,), and return them."""
    expect(isinstance(value, Tensor), f"its logit is {type(value).__name__}, not a tensor")
    logit: Tensor = value
    shape = tuple(logit.shape)
    expect(shape == (batch,), f"its logit of {batch} samples has the shape {shape}, not (B,)")
    expect(logit.is_floating_point(), f"its logit is {logit.dtype}, not of floats")
    expect(bool(logit.isfinite().all()), "its logit is not finite")
    return logit


def expect_part(expect: Expect, part: Any) -> int | None:
    """Expect a data set's part to say what it holds, and return its number of clips."""
    length, name, report = part.length, part.fingerprint, part.report
    whole = length is None or (type(length) is int and length > 0)
    expect(whole, f"length is {length!r}, not a number of clips or None")
    expect(isinstance(name, str), f"fingerprint is {name!r}, not text")
    expect(not isinstance(report, str), f"report is {report!r}, not lines of text")
    return length if whole else None


def far_outside(media: Tensor, ranged: bool) -> float:
    """Return the largest magnitude of media where they are of a kind in [-1, 1] and far outside of it, else 0."""
    most = float(media.abs().max()) if ranged and media.numel() else 0.0
    return 0.0 if most <= LOUDEST else most  # which NaN is not


def expect_clips(expect: Expect, modality: str, x: Any, count: int, ranged: bool) -> None:
    """Expect one modality of `count` clips to be floats (B, ...), and where it is `ranged` about in [-1, 1]."""
    expect(isinstance(x, Tensor), f"media of {modality} are {type(x).__name__}, not a tensor")
    shape = tuple(x.shape)
    expect(shape[:1] == (count,), f"media of {count} clips of {modality} have the shape {shape}, not (B, ...)")
    expect(x.is_floating_point(), f"media of {modality} are {x.dtype}, not floats in [-1, 1]")
    expect(bool(x.isfinite().all()), f"media of {modality} are not finite")
    loud = far_outside(x, ranged)
    expect(not loud, f"media of {modality} reach {loud:g}, far outside of [-1, 1]")


@contextmanager
def _naming(spec: Spec, call: str) -> Iterator[None]:
    """Say whose call failed; a KeyError of media is for the caller."""
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
