"""Which of the known networks a checkpoint holds, as the installed converters say, and how it falls short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from torch import Tensor

from mmdisco_cli.conversion.contract import BuildConverter, Candidate, Shapes, describe_misfits
from mmdisco_cli.errors import DataError, PluginError, UsageError, describe, did_you_mean
from mmdisco_cli.hookspecs import Spec
from mmdisco_cli.registry.installing import how_to_install
from mmdisco_cli.registry.plugins import Registry
from mmdisco_cli.tensors.guard import form_trouble

KIND = "converter"


@dataclass(frozen=True)
class Found:
    """The candidate that a checkpoint fits best and its converter, None and None where it is like nothing known.

    `failures` are in clauses the converters that could not say anything.
    """

    candidate: Candidate | None
    spec: Spec | None
    failures: tuple[str, ...] = ()


def require_format(registry: Registry, name: str) -> Spec:
    """Return the converter that `--format` names.

    Raises:
        UsageError: there is none of that name.
        PluginError: a plugin that is not installed provides it, or several do.
    """
    known = [spec.name for _, spec in registry.entries(KIND)]
    short = name.rpartition(":")[2]
    if short not in known and not registry.installable(KIND, short):
        raise UsageError(f"--format {name}: unknown{did_you_mean(name, known)}{registry.troubles}")
    return registry.find(KIND, name)


def recognised(registry: Registry, source: Path, tensors: Mapping[str, Tensor], format_name: str | None) -> Candidate:
    """Return what a checkpoint holds; `format_name` is what `--format` says that it is.

    Raises:
        DataError: no network that is known, another one than was given out, or one with tensors that do not fit.
        PluginError: the converter of that format fails.
    """
    wanted = require_format(registry, format_name) if format_name else None
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = nearest(registry, shapes, wanted.name if wanted else source.name, wanted)
    if found.candidate is None:
        first = ", ".join(f"{name} ({str(t.dtype)[6:]} {tuple(t.shape)})" for name, t in list(tensors.items())[:3])
        begin = f"its {len(shapes)} tensors begin with {first}"
        raise DataError(f"{source}: no network that mmdisco knows; {begin}{_others(registry, found.failures)}")
    title, misfits = found.candidate.title, found.candidate.misfits(shapes)
    misfits += [f"{name} {trouble}" for name, t in tensors.items() if (trouble := form_trouble(t))]
    said = f" {describe_misfits(misfits)}" if misfits else ""
    if wanted is not None and found.spec is not wanted:
        near = f", apart from:{said}" if misfits else ""
        raise DataError(f"{source}: is not {format_name}; it looks like {title}{near}")
    if misfits:
        raise DataError(f"{source}: looks like {title}, but {len(misfits)} tensors do not fit:{said}")
    return found.candidate


def nearest(registry: Registry, shapes: Shapes, file: str, wanted: Spec | None = None) -> Found:
    """Return the network that shapes fit best; of several that fit as well, the one that is `wanted`.

    Raises:
        PluginError: the wanted converter fails.
    """
    candidates: list[tuple[Candidate, Spec]] = []
    failures = []
    for _, spec in registry.entries(KIND):
        try:
            candidates += [(candidate, spec) for candidate in _candidates(spec, shapes, file)]
        except Exception as error:  # whatever one converter makes of the file, the others have their say
            if spec is wanted:
                raise
            failures.append(f"converter {spec.name} failed: {describe(error)}")
    if not candidates:
        return Found(None, None, tuple(failures))
    candidate, spec = min(candidates, key=lambda pair: (len(pair[0].misfits(shapes)), pair[1] is not wanted))
    return Found(candidate, spec, tuple(failures))


def _candidates(spec: Spec, shapes: Shapes, file: str) -> Sequence[Candidate]:
    build = cast(BuildConverter, spec.factory())
    candidates = build(spec.name, shapes, file)
    if not isinstance(candidates, Sequence) or not all(isinstance(one, Candidate) for one in candidates):
        raise PluginError(f"plugin {spec.owner}: {spec.name!r}: it gives {candidates!r}, not a sequence of Candidate")
    return candidates


def _others(registry: Registry, failures: Sequence[str]) -> str:
    """Say who else might know a checkpoint."""
    absent = " and ".join(how_to_install(distribution) for distribution in registry.installable(KIND))
    provided = f"; plugins provide converters for more ({absent})" if absent else ""
    return "".join(f"; {failure}" for failure in failures) + provided + registry.troubles
