"""The command line: streams, exit codes, and a start that imports nothing heavy."""

import errno
import io
import json
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mmdisco_cli import app
from mmdisco_cli.errors import (
    EXIT_MEANINGS,
    DataError,
    DeviceError,
    ExitCode,
    PluginError,
    Stopped,
    Unread,
    UsageError,
    describe,
    exit_code_of,
)
from mmdisco_cli.recipes.copies import renamed
from mmdisco_cli.recipes.recipe import find
from mmdisco_cli.run import console, progress

HEAVY = {"torch", "numpy", "av", "matplotlib", "click"}


# Typer itself takes pydantic to describe a command's options, but not for the list of commands.
@pytest.mark.parametrize(("arguments", "heavy"), [(["--help"], {*HEAVY, "pydantic"}), (["sample", "--help"], HEAVY)])
def test_help_imports_nothing_heavy(arguments, heavy):
    code = (
        f"import sys; from mmdisco_cli.app import run; code = run({arguments})\n"
        f"print(code, sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"


def test_recipes_and_plugins_import_no_torch():
    code = (
        "import sys; from mmdisco_cli.app import run\n"
        "run(['plugins']); run(['recipes', 'ls']); run(['train', '--recipe', 'gaussians', '--set', 'a.b=c'])\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_help_lists_exit_codes_and_environment(capsys):
    assert app.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for code, meaning in EXIT_MEANINGS.items():
        assert f"  {int(code):<5}{meaning}" in shown
    assert set(EXIT_MEANINGS) == set(ExitCode)
    assert "MMDISCO_PLUGINS" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sample", "--recipe", "gaussians", "--n", "0"], 2, "error: Invalid value for '--n'"),
        (["sample"], 2, "error: Missing option '--recipe'"),
        (["smaple"], 2, "error: No such command 'smaple'"),
        (["sample", "--recipe", "gausians"], 2, "error: no recipe 'gausians'"),
        (["sample", "--recipe", "gaussians", "--shard", "4/4"], 2, "error: --shard 4/4: expected I/N"),
        (["sample", "--recipe", "gaussians", "--given", "x"], 2, "error: --given x: expected MODALITY=PATH"),
        (["sample", "--recipe", "gaussians", "--given", "z=a"], 2, "error: --given z: unknown modality (known: x, y)"),
        (["sample", "--recipe", "gaussians", "--dtype", "float23"], 2, "error: --dtype float23: unknown (did you mean"),
        (["sample", "--recipe", "gaussians", "--prompts", "gone.txt"], 4, "error: gone.txt: No such file or directory"),
        (
            ["train", "--recipe", "gaussians", "--set", "train.steps=0"],
            2,
            "error: --set train.steps=0: train.steps: must",
        ),
        (["train", "--recipe", "gaussians", "--set", "discriminator.name=x"], 3, "error: --set discriminator.name=x: "),
        (["convert", "a", "b"], 4, "error: a: no such file"),
        (["convert", "a", "b", "--format", "mmdiffusion-sd"], 2, "error: --format mmdiffusion-sd: unknown (did you"),
        (["recipes", "cat", "gone"], 2, "error: no recipe 'gone'"),
    ],
)
def test_errors_are_one_line_with_their_code(capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert app.run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


NO_OPTION = "error: No such option: "
EXTRA = "error: Got unexpected extra argument(s) "
EMPTY = "error: Invalid value for '{}': empty, as is a variable of the shell that is not set; the current folder is ."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes"], "error: Missing command (known: ls, cat, copy, keys)"),
        (["recipes", "show"], "error: No such command 'show' (known: ls, cat, copy, keys)"),
        (["sample", "bounce"], f"{EXTRA}(bounce) (a recipe is given as --recipe bounce)"),
        (["eval", "4", "bounce.yaml"], f"{EXTRA}(4 bounce.yaml) (a recipe is given as --recipe bounce.yaml)"),
        (["train", "bounce"], "error: Missing option '--recipe' (as --recipe bounce; `mmdisco recipes ls` lists them)"),
        (["sample", "sunset"], f"{EXTRA}(sunset)"),
        (["info", "bounce"], f"{EXTRA}(bounce)"),
        (["eval", "--n", "4"], f"{NO_OPTION}--n (a key of the recipe: --set eval.n=VALUE)"),
        (
            ["train", "--batch-size", "4"],
            f"{NO_OPTION}--batch-size (a key of the recipe: --set train.batch_size=VALUE)",
        ),
        (["sample", "--warmup", "4"], f"{NO_OPTION}--warmup (a key of the recipe: --set train.warmup=VALUE)"),
        (["info", "--warmup", "4"], f"{NO_OPTION}--warmup"),
        (["train", "--zzz", "4"], f"{NO_OPTION}--zzz"),
        (["sample", "--out", "", "--recipe", "gaussians"], EMPTY.format("--out' / '-o")),
        (["sample", "--prompts", "", "--recipe", "gaussians"], EMPTY.format("--prompts")),
        (["train", "--bank=", "--recipe", "gaussians"], EMPTY.format("--bank")),
        (["eval", "--samples="], EMPTY.format("--samples")),
        (["convert", "weights.pt", ""], EMPTY.format("DESTINATION")),
        (["recipes", "copy", "bounce", ""], EMPTY.format("[DESTINATION]")),
    ],
)
def test_what_newcomers_type_is_answered_with_what_to_type(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert app.run(arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_no_file_may_be_on_the_hub_or_a_recipe(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, hint in (
        ("me/you", " (on the hub: --checkpoint hf:me/you)"),
        ("bounce", " (a recipe of that name: --recipe bounce)"),
        ("me/you.safetensors", ""),
        ("/me/you", ""),
        ("nothing", ""),
    ):
        assert app.run(["sample", "--checkpoint", name]) == 4
        assert capsys.readouterr().err == f"error: {name}: no such file{hint}\n"


def test_recipes_are_listed_by_name(capsys):
    assert app.run(["recipes", "ls"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names.index("bounce") < names.index("bounce-audio") < names.index("bounce-text") < names.index("digits")


def test_two_mistakes_are_two_lines(capsys):
    assert app.run(["train", "--recipe", "gaussians", "--set", "trian.steps=1", "--set", "train.stpes=1"]) == 2
    assert [line[:13] for line in capsys.readouterr().err.splitlines()] == ["error: --set "] * 2


def test_no_command_shows_help_as_an_error(capsys):
    assert app.run([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: mmdisco" in captured.err


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (PluginError("x"), 3),
        (DataError("x"), 4),
        (OSError(errno.ENOSPC, "No space left on device", "a.mp4"), 4),
        (PermissionError(errno.EACCES, "Permission denied", "a.mp4"), 4),
        (DeviceError("x"), 5),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), 5),
        (MemoryError(), 5),
        (AssertionError("Torch not compiled with CUDA enabled"), 5),
        (Stopped("x"), 75),
        (KeyboardInterrupt(), 130),
        (Unread("x"), 141),
        (FileExistsError(errno.EEXIST, "File exists", "out"), 4),
        (ValueError("x\ny"), 1),
        (RuntimeError("shape mismatch"), 1),
        (ConnectionResetError(errno.ECONNRESET, "reset"), 1),
    ],
)
def test_every_error_has_its_code_and_a_line(error, code):
    assert exit_code_of(error) == code
    assert describe(error)
    assert "\n" not in describe(error)


@pytest.mark.parametrize("debug", [False, True])
def test_a_traceback_only_when_asked(capsys, monkeypatch, debug):
    def fail(*_):
        raise RuntimeError("something broke")

    monkeypatch.setattr("mmdisco_cli.recipes.recipe.load", fail)
    assert app.run([*(["--debug"] if debug else []), "train", "--recipe", "gaussians"]) == 1
    shown = capsys.readouterr().err
    assert shown.endswith("error: RuntimeError: something broke\n")
    assert ("Traceback" in shown) == debug


def test_ctrl_c(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmdisco_cli.recipes.recipe.load", interrupt)
    assert app.run(["train", "--recipe", "gaussians"]) == 130
    assert capsys.readouterr().err == "error: interrupted; the same command resumes from what it has saved\n"


def test_results_that_nobody_reads_end_quietly(tmp_path):
    # Opened and closed before anything is printed, as by `| true`.
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "mmdisco_cli", "recipes", "ls"]
    source = str(Path(app.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def spoken(redirected, *arguments, tmp_path):
    """Run a command with streams redirected by the shell; return its code and what came out of those left open."""
    words = " ".join([sys.executable, "-m", "mmdisco_cli", *arguments])
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parent.parent)}
    done = subprocess.run(
        f"exec {words} {redirected}", shell=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "2>&- <&-"])
def test_that_nobody_reads_the_notes_changes_neither_results_nor_codes(redirected, tmp_path):
    code, out, _ = spoken(redirected, "recipes", "cat", "gone", tmp_path=tmp_path)
    assert out == ""
    assert code == 2
    code, out, _ = spoken(redirected, "plugins", tmp_path=tmp_path)
    assert code == 0
    assert out.startswith("mmdisco-cli ")


def test_a_file_takes_the_place_of_no_closed_stream(tmp_path):
    code, out, err = spoken(">&- 2>&-", "recipes", "copy", "gaussians", "mine.yaml", tmp_path=tmp_path)
    assert (code, out, err) == (0, "", "")
    source = Path(find("gaussians"))
    assert (tmp_path / "mine.yaml").read_text() == renamed(source.read_text(), "gaussians", Path("mine.yaml"))


def test_progress_that_nobody_reads_stops_no_work(tmp_path):
    code = (
        "from mmdisco_cli.run.progress import progress\n"
        "with progress('work', 2) as advance:\n    advance(1, {}); advance(2, {})\nprint('done')"
    )
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write, env=environment)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, b"done\n")


def test_a_line_break_in_a_name_makes_no_second_error():
    assert describe(FileNotFoundError(errno.ENOENT, "No such file", "a\nb")) == "a\\nb: No such file"


def test_results_have_no_numbers_that_json_lacks(capsys):
    console.record({"a": [math.nan, 1.0], "b": {"c": math.inf, "d": True}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.0], "b": {"c": None, "d": True}}


BESIDE_A_BAR = """
from mmdisco_cli.run import console
from mmdisco_cli.run.progress import progress
with progress("work", 2) as advance:
    console.result("x" * 200)
    advance(1, {})
"""


def test_results_go_to_their_file_while_a_terminal_shows_a_bar():
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parent.parent), "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", BESIDE_A_BAR], stdout=subprocess.PIPE, stderr=follower, text=True, env=environment
    )
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.returncode == 0
    assert done.stdout == "x" * 200 + "\n"
    assert "work" in shown
    assert "xxx" not in shown


def test_recipes(cli, tmp_path):
    listed = [json.loads(line) for line in cli("recipes", "ls", "--json").stdout.splitlines()]
    assert "gaussians" in {entry["name"] for entry in listed}
    assert all(entry["summary"] for entry in listed)
    shown = cli("recipes", "cat", "gaussians").stdout
    copied = cli("recipes", "copy", "gaussians", "[mine].yaml")
    assert copied.stdout == "[mine].yaml\n"
    assert (tmp_path / "[mine].yaml").read_text() == renamed(shown, "gaussians", Path("[mine].yaml"))
    again = cli("recipes", "copy", "gaussians", "[mine].yaml")
    assert (again.returncode, again.stdout) == (2, "")
    assert cli("recipes", "copy", "gaussians", "[mine].yaml", "--overwrite").returncode == 0


def test_info_is_one_object(cli):
    done = cli("info", "--json")
    found = json.loads(done.stdout)
    assert {"versions", "devices", "plugins", "paths", "platform", "commit"} <= set(found)
    assert found["versions"]["torch"] != "not installed"
    assert found["devices"]
    assert "mmdisco-cli" in cli("info").stdout


def test_version(cli):
    from mmdisco_cli import __version__

    assert cli("--version").stdout == f"mmdisco {__version__}\n"


def test_plain_progress_speaks_at_first_every_half_minute_and_at_last(capsys):
    now = iter([0.0, *(float(second) for second in range(1, 101))])
    advance = progress.lines("train", 100, clock=lambda: next(now))
    for step in range(1, 101):
        advance(step, {"loss": 0.5})
    shown = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in shown] == ["1/100", "31/100", "61/100", "91/100", "100/100"]
    assert shown[1] == "train 31/100 (31%)  loss 0.5  1/s  ETA 1:09"


def test_progress_of_a_resumed_job_counts_its_own_steps(capsys):
    now = iter([0.0, 10.0])
    progress.lines("train", 100, 90, clock=lambda: next(now))(95, {})
    assert capsys.readouterr().err == "train 95/100 (95%)  2 s each  ETA 0:10\n"


def ended(total, first, steps, seconds, figures=lambda step: {}):
    """Return the lines of a job whose steps are `steps`, reported at these seconds after its beginning."""
    now, stream = iter([0.0, *seconds]), io.StringIO()
    advance = progress.lines("train", total, first, stream, lambda: next(now))
    for step in steps:
        advance(step, figures(step))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("total", "first", "steps", "seconds", "last"),
    [
        (100, 0, [100], [50.0], "train 100/100 (100%)  2/s  took 0:50"),
        (2, 0, [1, 2], [3.0, 6.0], "train 2/2 (100%)  3 s each  took 0:06"),
        (800, 800, [800], [0.0], "train 800/800 (100%)"),  # resumed when all was done
        (800, 800, [800], [9.0], "train 800/800 (100%)"),
        (800, 799, [800], [4.0], "train 800/800 (100%)  4 s each  took 0:04"),
        (0, 0, [0], [1.0], "train 0/0 (100%)"),
        (10, 0, [12], [6.0], "train 12/10 (100%)  2/s  took 0:06"),  # more steps than were thought of
        (10, 5, [3], [6.0], "train 3/10 (30%)"),  # a count that falls back has no rate
        (10, 0, [0], [6.0], "train 0/10 (0%)"),
        (10, 0, [5], [0.0], "train 5/10 (50%)"),  # in no time at all
        (200, 0, [1], [3600.0], "train 1/200 (0%)  3.6e+03 s each  ETA 8d 07:00:00"),
        (25, 0, [1], [3600.0], "train 1/25 (4%)  3.6e+03 s each  ETA 1d 00:00:00"),
        (24, 0, [1], [3600.0], "train 1/24 (4%)  3.6e+03 s each  ETA 23:00:00"),
    ],
)
def test_progress_says_what_its_own_steps_have_shown(total, first, steps, seconds, last):
    assert ended(total, first, steps, seconds)[-1] == last


def test_progress_ends_once_with_figures_in_full():
    found = ended(12345, 0, [12345, 12345], [2.0, 90.0], lambda step: {"samples": step, "loss": 0.123456})
    assert found == ["train 12345/12345 (100%)  samples 12345  loss 0.1235  6.17e+03/s  took 0:02"]


@pytest.mark.parametrize(("seconds", "shown"), [(math.inf, "unknown"), (math.nan, "unknown"), (-5.0, "0:00")])
def test_no_time_is_infinite_or_below_0(seconds, shown):
    assert progress.duration(seconds) == shown


A_BAR = """
from mmdisco_cli.run.progress import progress
with progress("watching [a] [/b]", 2) as advance:
    advance(1, {"samples": 0})
    advance(2, {"samples": 12345})
"""


def test_a_bar_ends_with_what_is_done_and_how_long_it_took():
    leader, follower = pty.openpty()
    source = str(Path(app.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": source, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", A_BAR], stderr=follower, env=environment)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.returncode == 0
    last = shown[shown.rindex("watching [a] [/b]") :]
    assert "2/2" in last
    assert "samples 12345" in last
    assert "took " in last
    assert "ETA" not in last


def test_other_ranks_are_silent(capsys):
    with progress.progress("train", 2, enabled=False) as advance:
        advance(1, {})
    assert capsys.readouterr() == ("", "")
