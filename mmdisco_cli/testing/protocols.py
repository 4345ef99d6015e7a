"""Checks of a protocol: metrics under the names that it lists, which JSON can represent, from a recipe and a seed."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import ExitCode, exit_code_of
from mmdisco_cli.evaluation.protocol import EvalOptions, Protocol, Ranks, Recipe, Report
from mmdisco_cli.testing.expecting import expect

NO_GROUP = "process group"
"""What torch says where ranks would meet that a check does not have."""


def check_whole(protocol: Protocol, recipe: Recipe, options: EvalOptions, tolerance: float) -> Report:
    """Run all checks, and return the report with all metrics."""
    check_description(protocol)
    report = report_of(protocol, recipe, options)
    check_report(protocol, report, options)
    check_one(protocol, recipe, options, report, tolerance)
    check_refusal(protocol, recipe, options)
    check_other_rank(protocol, recipe, options)
    return report


def check_description(protocol: Protocol) -> None:
    """Expect names of metrics, each once."""
    expect(isinstance(protocol, Protocol), f"build gives {type(protocol).__name__}, not a Protocol")
    names = protocol.metrics
    named = isinstance(names, tuple) and bool(names) and all(isinstance(name, str) and name for name in names)
    expect(named, f"metrics are {names!r}, not a tuple of names")
    expect(len(set(names)) == len(names), f"two metrics have one name: {', '.join(names)}")


def report_of(protocol: Protocol, recipe: Recipe, options: EvalOptions) -> Report:
    """Return the report of a single rank, and expect nothing on stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        report = protocol.evaluate(recipe, options, Ranks())
    expect(not printed.getvalue(), "evaluate prints to stdout, which is for results: add lines to the report's table")
    if not isinstance(report, Report):
        raise AssertionError(f"evaluate gives the first rank {type(report).__name__}, not a Report")
    return report


def check_report(protocol: Protocol, report: Report, options: EvalOptions) -> None:
    """Expect the requested metrics, JSON data, lines of a table, and files that exist."""
    expect(type(report.n) is int and report.n > 0, f"n is {report.n!r}, not a number of samples")
    _check_json(report.metrics, "metrics")
    _check_json(report.protocol, "protocol")
    wanted = options.metrics or protocol.metrics
    absent = [name for name in wanted if name not in report.metrics]
    expect(not absent, f"the report lacks the metric {' and '.join(absent)}")
    unknown = sorted(report.metrics.keys() - set(protocol.metrics))
    expect(not unknown, f"the report holds {' and '.join(unknown)}, which metrics does not name")
    seed = report.protocol.get("seed")
    expect(seed == options.seed, f'the report\'s protocol has the "seed" {seed!r}, not {options.seed} of the options')
    lines = not isinstance(report.table, str) and all(isinstance(line, str) for line in report.table)
    expect(lines, f"table is {report.table!r}, not lines of text")
    lost = [str(path) for path in report.files if not Path(path).is_file()]
    expect(not lost, f"the report names files that are not there: {', '.join(lost)}")


def check_one(protocol: Protocol, recipe: Recipe, options: EvalOptions, whole: Report, tolerance: float) -> None:
    """Expect a metric requested by itself to have the same value as among all."""
    name = protocol.metrics[0]
    alone = replace(options, metrics=(name,))
    report = report_of(protocol, recipe, alone)
    check_report(protocol, report, alone)
    found, expected = dict(_leaves(report.metrics[name])), dict(_leaves(whole.metrics[name]))
    same = found.keys() == expected.keys() and all(_close(found[key], expected[key], tolerance) for key in found)
    expect(same, f"{name} is another one where it is measured again, alone: {found}, not {expected}")


def check_refusal(protocol: Protocol, recipe: Recipe, options: EvalOptions) -> None:
    """Expect a recipe without data to be measured, or refused with a one-line error."""
    try:
        protocol.evaluate(replace(recipe, data=None), options, Ranks())
    except Exception as error:
        known = exit_code_of(error) != ExitCode.UNEXPECTED
        expect(known, f"a recipe without data fails with {type(error).__name__} ({error}), not UsageError")


def check_other_rank(protocol: Protocol, recipe: Recipe, options: EvalOptions) -> None:
    """Expect no report from ranks other than the first; one that waits for others cannot be checked here."""
    try:
        report = protocol.evaluate(recipe, options, Ranks(1, 2))
    except Exception as error:
        expect(NO_GROUP in str(error), f"the second of two ranks fails with {type(error).__name__}: {error}")
        return
    expect(report is None, "evaluate gives the second of two ranks a report: only the first returns one")


def _check_json(content: Mapping[str, Any], name: str) -> None:
    try:
        json.dumps(dict(content), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name} cannot be written as JSON ({error})") from error


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from _leaves(part, f"{name}.{place}")
    else:
        yield name, value


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, Real) and isinstance(b, Real):
        return abs(float(a) - float(b)) <= tolerance * max(1.0, abs(float(b)))
    return bool(a == b)
