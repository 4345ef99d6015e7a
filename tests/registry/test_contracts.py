"""What hookspecs promises plugins of each kind of entry is what the code does: hooks, builds and Protocols."""

import inspect
import re
from importlib import import_module

import pytest

from mmdisco_cli import hookspecs
from mmdisco_cli.data.contract import Captioned, Labelled
from mmdisco_cli.hookspecs import ConverterSpec, Published, lazy
from mmdisco_cli.registry.plugins import HOST, KINDS, load_registry
from mmdisco_cli.toys.gaussians.data import Gaussians
from mmdisco_cli.toys.gaussians.options import GaussiansOptions

ROWS = re.findall(
    r"^\| `mmdisco_(\w+)s` \| `build\((.*?)\)` \| .*?`([\w.]+)\.(\w+)`", hookspecs.__doc__ or "", re.MULTILINE
)
ENTRIES = [(kind, spec) for kind in KINDS for owner, spec in load_registry().entries(kind) if owner == HOST]


def test_every_hook_has_a_row() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("mmdisco_")}
    assert {f"mmdisco_{kind}s" for kind, *_ in ROWS} == hooks == {f"mmdisco_{kind}s" for kind in KINDS}


@pytest.mark.parametrize(("kind", "arguments", "module", "name"), ROWS)
def test_every_row_names_a_protocol_and_that_of_its_build(kind: str, arguments: str, module: str, name: str) -> None:
    contract = import_module(f"mmdisco_cli.{module}")
    assert inspect.isclass(getattr(contract, name))
    build = getattr(contract, f"Build{kind.capitalize()}")
    parameters = list(inspect.signature(build.__call__).parameters.values())[1:]
    assert ", ".join(one.name for one in parameters) == arguments
    assert all(one.kind is one.POSITIONAL_ONLY and one.annotation is not one.empty for one in parameters)


@pytest.mark.parametrize(("kind", "spec"), ENTRIES, ids=[f"{kind}-{spec.name}" for kind, spec in ENTRIES])
def test_every_entry_is_built_as_its_row_says(kind: str, spec: hookspecs.Spec) -> None:
    (arguments,) = (found for row, found, *_ in ROWS if row == kind)
    required = [one for one in inspect.signature(spec.factory()).parameters.values() if one.default is one.empty]
    assert len(required) == len(arguments.split(", ") if arguments else [])


def test_captions_and_labels_are_optional() -> None:
    class Captions:
        def captions(self, indices, modalities):  # type: ignore[no-untyped-def]
            return {}

    plain = Gaussians(GaussiansOptions())
    assert [isinstance(one, Captioned) for one in (plain, Captions())] == [False, True]
    assert not isinstance(plain, Labelled)


def test_a_converter_needs_no_options() -> None:
    spec = ConverterSpec("tone", "tones", lazy("json:loads"), 1)
    assert (spec.options, spec.published, spec.key) == (hookspecs.NoOptions, (), "")


def test_a_published_files_command_can_be_copied() -> None:
    file = Published("a b.pt", "a tone", "https://example.org", "1 kB")
    assert file.how_to_get("weights/x.safetensors", "tone") == (
        "no weights/x.safetensors, a tone: download a b.pt (about 1 kB) from https://example.org, then: "
        "mmdisco convert 'a b.pt' weights/x.safetensors --format tone"
    )
