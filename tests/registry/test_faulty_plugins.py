"""Whatever fails in a plugin's code names the plugin and ends with 3; what it gives is tried where it is built."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from faulty_plugin import write_model

from mmdisco_cli import app
from mmdisco_cli.errors import UsageError
from mmdisco_cli.registry.blame import blamed

Run = Callable[..., tuple[int, str]]
WHO = "plugin mmdisco-faulty 1.5"
TRAIN = ("train", "--recipe", "faulty.yaml", "--out", "out")
SAMPLE = ("sample", "--recipe", "faulty.yaml", "--n", "2", "--out", "samples")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "judge.safetensors"


@pytest.fixture
def run(make_plugin, tmp_path, monkeypatch, capsys) -> Run:  # type: ignore[no-untyped-def]
    """Run a command in an empty folder, with the plugin spoilt in a place; return the code and all messages."""
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-faulty")
    monkeypatch.chdir(tmp_path)

    def call(arguments: tuple[str, ...], place: str = "", fault: str = "") -> tuple[int, str]:
        monkeypatch.delitem(sys.modules, "faulty_model", raising=False)
        make_plugin("mmdisco-faulty", write_model(tmp_path, place, fault), version="1.5")
        code = app.run(arguments)
        return code, capsys.readouterr().err

    return call


@pytest.fixture
def weights(run: Run, trained: Path, tmp_path: Path) -> None:
    """Leave a trained discriminator of the plugin's where the recipe looks for it."""
    if not trained.exists():
        code, messages = run(TRAIN)
        assert code == 0, messages
        shutil.move("out/discriminator.safetensors", trained)
        for left in (*tmp_path.glob("*.dist-info"), tmp_path / "out"):
            shutil.rmtree(left)
        for module in ("mmdisco_faulty", "faulty_model"):
            sys.modules.pop(module, None)
    shutil.copy(trained, tmp_path / "judge.safetensors")


@pytest.mark.parametrize(
    "place",
    [
        "module",
        "build",
        "plan",
        "levels_at",
        "predict",
        "encode",
        "discriminator",
        "forward",
        "dataset",
        "media",
        "split",
    ],
)
def test_training_names_the_plugin_whose_code_fails(run: Run, place: str) -> None:
    code, messages = run(TRAIN, place, "raise TypeError('not so')")
    assert code == 3, messages
    (line,) = [line for line in messages.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {WHO}: "), line
    assert "TypeError: not so" in line


@pytest.mark.parametrize("place", ["grid", "encode_prompt", "predict", "decode", "forward"])
def test_sampling_names_the_plugin_whose_code_fails(run: Run, weights: None, place: str) -> None:
    code, messages = run(SAMPLE, place, "raise RuntimeError('not so')")
    assert code == 3, messages
    (line,) = [line for line in messages.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: {WHO}: "), line
    assert "RuntimeError: not so" in line


def test_the_plugin_works_where_nothing_is_spoilt(run: Run, weights: None) -> None:
    code, messages = run(SAMPLE)
    assert code == 0, messages
    assert "warning" not in messages


@pytest.mark.parametrize("place", ["module", "build", "predict"])
def test_no_plugin_ends_the_process_as_a_success(run: Run, place: str) -> None:
    code, messages = run(TRAIN, place, "raise SystemExit(0)")
    assert code == 3
    assert f"{WHO}: " in messages
    assert "SystemExit: 0" in messages


@pytest.mark.parametrize(
    ("place", "fault", "code", "said"),
    [
        ("build", "raise ValueError('size is odd')", 2, "error: backbones.x: size is odd\n"),
        ("dataset", "raise ValueError('size is odd')", 2, "error: data: size is odd\n"),
        ("predict", "from mmdisco_cli.errors import DataError; raise DataError('so not')", 4, "error: so not\n"),
        ("build", "from mmdisco_cli.errors import UsageError; raise UsageError('so not')", 2, "error: so not\n"),
        ("encode", "open('gone.bin')", 4, "error: gone.bin: No such file or directory\n"),
        ("predict", "raise torch.OutOfMemoryError('too large')", 5, "error: OutOfMemoryError: too large\n"),
        ("build", "raise MemoryError", 5, "error: MemoryError\n"),
        ("media", "raise KeyError(modalities[0])", 2, "error: data: has no x"),
    ],
)  # fmt: skip
def test_what_a_plugin_may_say_passes_as_it_is(run: Run, place: str, fault: str, code: int, said: str) -> None:
    found, messages = run(TRAIN, place, fault)
    assert found == code, messages
    assert said in messages


@pytest.mark.parametrize(
    ("place", "fault", "said"),
    [
        ("discriminator", "return 3", "'judge': it returns int, not a torch.nn.Module"),
        ("discriminator", "return nn.Linear(2, 1)", "'judge': its forward fails: TypeError"),
        ("logit", "return logit[:, None]", "'judge': its logit of 2 samples has the shape (2, 1), not (B,)"),
        ("logit", "return logit.mean()", "'judge': its logit of 2 samples has the shape (), not (B,)"),
        ("logit", "return logit.mean()[None]", "'judge': its logit of 2 samples has the shape (1,), not (B,)"),
        ("logit", "return logit.tolist()", "'judge': its logit is list, not a tensor"),
        ("logit", "return (logit > 0)", "'judge': its logit is torch.bool, not of floats"),
        ("logit", "return logit.detach()", "'judge': its logit has no gradient by the states"),
        ("logit", "return logit / 0", "'judge': its logit is not finite"),
        ("forward", "x = {m: s.detach() for m, s in x.items()}", "'judge': its logit has no gradient by the states"),
        ("dataset", "return [1, 2]", "'pairs': list has no length, fingerprint, report, media, split"),
        ("split", "return object()", "'pairs': object has no length, fingerprint, report, media"),
        ("clips", "return list(clips.values())", "'pairs': media returns list, not a mapping"),
        ("clips", "return {m: c.tolist() for m, c in clips.items()}", "'pairs': media of x are list, not a tensor"),
        ("clips", "return {m: c.int() for m, c in clips.items()}", "'pairs': media of x are torch.int32, not floats"),
        (
            "clips",
            "return {m: c[:1] for m, c in clips.items()}",
            "'pairs': media of 2 clips of x have the shape (1, 1)",
        ),
        ("clips", "return {m: c / 0 for m, c in clips.items()}", "'pairs': media of x are not finite"),
        ("dataset", "Pairs.length = 0", "'pairs': length is 0, not a number of clips or None"),
        ("dataset", "Pairs.fingerprint = None", "'pairs': fingerprint is None, not text"),
        ("split", "if part != 'train': return 0", "'pairs': int has no length, fingerprint, report, media"),
        ("build", "return object()", "'dot': object has no info, plan, grid, levels_at, encode_prompt, predict"),
    ],
)
def test_what_has_the_wrong_form_is_caught_before_training(run: Run, place: str, fault: str, said: str) -> None:
    code, messages = run((*TRAIN, "--dry-run"), place, fault)
    assert code == 3, messages
    (line,) = messages.splitlines()
    assert line.startswith(f"error: {WHO}: {said}"), line


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("return x[:1].sum()", "the prediction of x is (), not"),
        ("return x[:, 0]", "the prediction of x is ("),
    ],
)
def test_a_prediction_of_the_wrong_form_ends_training_at_its_first_step(run: Run, fault: str, said: str) -> None:
    code, messages = run(TRAIN, "predict", fault)
    assert code == 3, messages
    (line,) = [line for line in messages.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {WHO}: {said}"), line


def test_a_trained_discriminator_of_the_wrong_form_is_caught_before_sampling(run: Run, weights: None) -> None:
    code, messages = run((*SAMPLE, "--dry-run"), "logit", "return logit[:, None]")
    assert code == 3
    assert messages == f"error: {WHO}: 'judge': its logit of 2 samples has the shape (2, 1), not (B,)\n"


def test_an_error_of_nobodys_plugin_stays_what_it_is() -> None:
    with pytest.raises(TypeError) as raised:
        raise TypeError("ours")
    assert blamed(raised.value) is None
    assert blamed(UsageError("typed")) is None
