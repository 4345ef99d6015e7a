"""The command line: names, options and exit codes; no logic, and no import of torch for `--help`."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from mmdisco_cli import __version__
from mmdisco_cli.commands import convert, evaluate, info, plugins, recipes, sample, train
from mmdisco_cli.commands.wrong_usage import explain
from mmdisco_cli.errors import EXIT_MEANINGS, ExitCode, Unread, describe, exit_code_of
from mmdisco_cli.recipes.hints import remember
from mmdisco_cli.registry.blame import blamed
from mmdisco_cli.run import console
from mmdisco_cli.run.signals import stopping

ENVIRONMENT = {
    "MMDISCO_PLUGINS": "which plugins load: unset all, empty none, a,b only those distributions",
    "MMDISCO_DOWNLOAD": "1, as --download sets it: models that are missing may be downloaded",
    "HF_HOME, HF_HUB_CACHE": "where models of the hub lie that are named rather than given as folders",
    "RANK, WORLD_SIZE": "set by torchrun: divide training, sampling and evaluation",
    "LOCAL_RANK": "set by torchrun: which GPU of its machine a process uses",
    "CUDA_VISIBLE_DEVICES": "which GPUs are visible; empty: the CPU only",
    "OMP_NUM_THREADS": "CPU threads; with another number sums are rounded differently",
}


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(["\b", f"{title}:", *(f"  {name:<{width}}{text}" for name, text in rows)])


_EPILOG = "\n\n".join(
    [
        _table("Exit codes", [(str(int(code)), text) for code, text in EXIT_MEANINGS.items()]),
        _table("Environment", list(ENVIRONMENT.items())),
    ]
)

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Join pre-trained single-modality diffusion models into one joint generator.",
    epilog=_EPILOG,
)


@dataclass
class GlobalOptions:
    """The options that stand before the command; kept outside of it, to be read after a failure."""

    debug: bool = False


def _print_version(requested: bool) -> None:
    if requested:
        console.result(f"mmdisco {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""
    context.obj.debug = debug
    remember(None)
    if context.invoked_subcommand is None:
        console.note(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


app.command("sample")(sample.command)
app.command("train")(train.command)
app.command("eval")(evaluate.command)
app.command("convert")(convert.command)
app.command("plugins")(plugins.command)
app.add_typer(recipes.app, name="recipes")
app.command("info")(info.command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every error ends here."""
    options = GlobalOptions()
    console.open_closed_streams()
    try:
        with stopping():
            code = app(args=arguments, prog_name="mmdisco", obj=options, standalone_mode=False)
    except BaseException as error:
        blame = blamed(error)
        if blame is None and not isinstance(error, Exception | KeyboardInterrupt):
            raise
        if options.debug:
            traceback.print_exc()
        return _report(blame or error)
    if code == ExitCode.INTERRUPTED:  # typer catches Ctrl-C and returns this code
        console.fail(describe(KeyboardInterrupt()))
    return code if isinstance(code, int) else ExitCode.OK


def _report(error: BaseException) -> int:
    # Typer's own usage errors have no public base class in every version that we support.
    if hasattr(error, "format_message"):
        console.fail(explain(error))
        return ExitCode.USAGE
    if not isinstance(error, Unread):
        console.fail(describe(error))
    return exit_code_of(error)
