"""From clips to a trained discriminator by way of a cache: made by many, killed on the way, and without media."""

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from cached_toys import load, main
from layouts import put
from safetensors.torch import load_file
from tiny_runs import start

from mmdisco_cli.assembly import assemble
from mmdisco_cli.cache import layout
from mmdisco_cli.cache.reading import open_cache
from mmdisco_cli.cache.workers import reading
from mmdisco_cli.conversion.caching import convert_clips
from mmdisco_cli.data.clips import ClipsDataset, build
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.diffusion.backbone import Request, unwrap
from mmdisco_cli.errors import DataError, Stopped, UsageError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.options import ConvertOptions, TrainOptions
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.training import fresh
from mmdisco_cli.training.caching import release_encoders
from mmdisco_cli.training.fresh import FreshClips
from mmdisco_cli.training.run import train

CPU = torch.device("cpu")
HERE = Path(__file__).parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A table of ten captioned clips, of which two are held out."""
    rows = ["file_name,text,label,split"]
    rows += [
        f"{i}.mp4,{'thing' if i < 8 else 'other'} {i},kind {i % 2},{'test' if i > 7 else 'train'}" for i in range(10)
    ]
    files = {f"{i}.mp4": i % 5 for i in range(10)} | {"metadata.csv": "\n".join(rows)}
    folder = put(tmp_path / "data", files)
    for i in range(10):  # no two are the same
        with (folder / f"{i}.mp4").open("ab") as file:
            file.write(b"\0\0\0\x0cfree%04d" % i)
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_ROWS", 2)


def opened_clips(data: Path) -> ClipsDataset:
    options = ClipsOptions(path=str(data), windows=1, check=0)
    return build(options, Request(frames=8, fps=10, height=16, width=24))


def convert(recipe: Recipe, data: Path, cache: Path, shard: tuple[int, int] | None = None) -> None:
    convert_clips(recipe, ConvertOptions(data, cache, shard=shard))


def trained(recipe: Recipe, out: Path) -> dict[str, torch.Tensor]:
    train(recipe, TrainOptions(out=out))
    content: dict[str, Any] = torch.load(out / "discriminator/state.pt", weights_only=True)
    tensors: dict[str, torch.Tensor] = content["average"]
    return tensors


def assert_same_files(one: Path, other: Path) -> None:
    names = [sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) for root in (one, other)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("fakes", ["shuffled", "generated"])
def test_training_from_a_cache_is_training_from_the_clips(tmp_path: Path, data: Path, fakes: str) -> None:
    recipe = load(tmp_path, f"data.path={data}", f"train.fakes={fakes}")
    convert(recipe, data, tmp_path / "cache")
    direct = trained(recipe, tmp_path / "direct")
    shutil.rmtree(data)
    cached = trained(load(tmp_path, f"data.path={tmp_path / 'cache'}", f"train.fakes={fakes}"), tmp_path / "cached")
    torch.testing.assert_close(cached, direct, rtol=0, atol=0)
    one, other = (load_file(tmp_path / name / "discriminator.safetensors") for name in ("direct", "cached"))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_what_a_cache_holds_is_what_the_models_make(tmp_path: Path, data: Path) -> None:
    recipe = load(tmp_path, f"data.path={data}")
    convert(recipe, data, tmp_path / "cache")
    from mmdisco_cli.assembly import request_of
    from mmdisco_cli.data.opening import open_dataset

    assembly = assemble(recipe, CPU, with_discriminator=False)
    clips = open_dataset(recipe, request_of(recipe), assembly.modalities, kinds=assembly.kinds)
    cache, texts = open_cache(tmp_path / "cache"), open_cache(tmp_path / "cache").encoded_texts(CPU)
    for part, count in (("train", 8), ("heldout", 2)):
        own = clips.split(part)
        wanted = assembly.encode(own.media(range(count), ("audio", "video")))
        for m, bank in cache.rows(part).latents.items():
            assert torch.equal(bank[torch.arange(count)], wanted[m].half())
        assert cache.texts_of(part) == own.captions(range(count), ("audio", "video"))  # type: ignore[attr-defined]
        assert cache.holding(part).labels == own.labels(range(count))  # type: ignore[attr-defined]
    assert texts is not None
    assert texts.even
    condition = assembly.conditioned(["thing 3"]).bases[0].conditions["audio"]
    assert torch.equal(texts.of("audio", "thing 3")["audio"].pooled, condition.pooled)  # type: ignore[arg-type]


def test_a_job_array_makes_the_same_cache_and_the_last_job_completes_it(tmp_path: Path, data: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    recipe = load(tmp_path, f"data.path={data}")
    convert(recipe, data, tmp_path / "alone")
    for number in (2, 0, 1):
        assert not (tmp_path / "jobs/cache.json").exists()
        capsys.readouterr()
        convert(recipe, data, tmp_path / "jobs", (number, 3))
        said = capsys.readouterr().err
        assert ("the last job to finish completes the cache" in said) == (number != 1)
    assert "8 train and 2 heldout clips, 11 texts" in said
    assert_same_files(tmp_path / "alone", tmp_path / "jobs")
    (tmp_path / "jobs/cache.json").unlink()
    with pytest.raises(DataError, match="half made"):
        train(load(tmp_path, f"data.path={tmp_path / 'jobs'}"), TrainOptions(out=tmp_path / "out"))
    convert(recipe, data, tmp_path / "jobs")
    assert_same_files(tmp_path / "alone", tmp_path / "jobs")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("backbones.audio.weights=second",), 'other models (models.audio is "first", not "second")'),
        (
            ("backbones.video.pooled=false",),
            'texts encoded otherwise (prompts.video is ["video", 3], not ["video", 0])',
        ),
        (("request.frames=7",), "other windows"),
        (("data.windows=2",), "other windows or columns (data.windows is 1, not 2)"),
        (("data.caption=label",), 'other windows or columns (data.caption is null, not "label")'),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_a_stale_cache_is_refused(tmp_path: Path, data: Path, settings: tuple[str, ...], said: str, dry: bool) -> None:
    convert(load(tmp_path, f"data.path={data}"), data, tmp_path / "cache")
    with pytest.raises(DataError) as caught:
        train(load(tmp_path, f"data.path={tmp_path / 'cache'}", *settings), TrainOptions(tmp_path / "out", dry_run=dry))
    assert str(caught.value).startswith(f"{tmp_path / 'cache'}: a cache of {said}")
    assert "make one for this recipe with `mmdisco convert DATA CACHE --recipe RECIPE`" in str(caught.value)


def test_changed_captions_are_another_cache(tmp_path: Path, data: Path) -> None:
    recipe = load(tmp_path, f"data.path={data}")
    convert(recipe, data, tmp_path / "cache")
    table = data / "metadata.csv"
    table.write_text(table.read_text().replace("thing 3", "a thing"))
    with pytest.raises(DataError, match=r"a cache of other captions \(captions\.train is .*choose another folder"):
        convert(recipe, data, tmp_path / "cache")


def spoil(path: Path) -> None:
    """Overwrite what a file holds, and leave it its index."""
    broken = bytearray(path.read_bytes())
    begin = broken.index(b"mdat") + 4
    broken[begin : begin + 20000] = random.Random(0).randbytes(20000)
    path.write_bytes(broken)


def test_a_clip_that_breaks_later_costs_its_own_row(tmp_path: Path, data: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    recipe = load(tmp_path, f"data.path={data}", "data.max_bad=0.2")
    spoil(data / "3.mp4")
    convert(recipe, data, tmp_path / "cache")
    assert "3.mp4" in next(line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped"))
    cache = open_cache(tmp_path / "cache")
    assert len(cache.rows("train").clips) == 7
    direct = trained(recipe, tmp_path / "direct")
    cached = trained(load(tmp_path, f"data.path={tmp_path / 'cache'}"), tmp_path / "cached")
    torch.testing.assert_close(cached, direct, rtol=0, atol=0)


def test_a_signal_stops_it_and_the_same_command_goes_on(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(tmp_path, f"data.path={data}")
    with monkeypatch.context() as patched:
        received = property(lambda self: len(list((tmp_path / "cache").rglob("train/*.safetensors"))) >= 2)
        patched.setattr(SignalFlag, "received", received)
        with pytest.raises(Stopped, match=r"with 15 of 21 clips and texts encoded, state saved"):
            convert(recipe, data, tmp_path / "cache")
    assert len(list((tmp_path / "cache/train").iterdir())) == 2
    convert(recipe, data, tmp_path / "cache")
    convert(recipe, data, tmp_path / "whole")
    assert_same_files(tmp_path / "cache", tmp_path / "whole")


def test_what_is_no_data_is_refused(tmp_path: Path, data: Path) -> None:
    recipe = load(tmp_path, f"data.path={data}")
    (tmp_path / "x.pt").touch()
    with pytest.raises(UsageError, match="a checkpoint, which is converted without --recipe"):
        convert(recipe, tmp_path / "x.pt", tmp_path / "cache")
    convert(recipe, data, tmp_path / "cache")
    with pytest.raises(UsageError, match="is a cache already"):
        convert(recipe, tmp_path / "cache", tmp_path / "again")


def test_encoders_leave_when_training_begins(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = []
    monkeypatch.setattr(
        "mmdisco_cli.training.discriminator.release_encoders",
        lambda assembly, *texts: (release_encoders(assembly, *texts), released.extend(assembly.bases)),
    )
    trained(load(tmp_path, f"data.path={data}"), tmp_path / "out")
    assert [unwrap(base.backbone).released for base in released] == [["codec", "text"]] * 2


@pytest.mark.parametrize("captioned", [True, False])
@pytest.mark.parametrize("ahead", [True, False])
def test_fresh_clips_are_those_that_the_steps_draw(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, captioned: bool, ahead: bool
) -> None:
    """Bank 0, in this process or through the stream that workers fill, from the beginning and gone on."""
    if not captioned:
        (data / "metadata.csv").unlink()  # then no discriminator may be shown prompts either
    read: list[list[int]] = []

    def here(reader, chunks, workers):  # type: ignore[no-untyped-def]
        return reading(reader, (read.append(list(rows)) or (part, rows) for part, rows in chunks), 0)

    shown = [f"backbones.{m}.pooled={str(captioned).lower()}" for m in ("audio", "video")]
    settings = ("train.bank=0", "train.steps=6", f"data.path={data}", *shown)
    whole = trained(load(tmp_path, *settings), tmp_path / "whole")
    if ahead:
        monkeypatch.setattr(fresh, "worth_starting", lambda *_: 2)
        monkeypatch.setattr(fresh, "reading", here)
    trained(load(tmp_path, *settings), tmp_path / "again")
    assert bool(read) == ahead
    stopped = tmp_path / "stopped"
    calls = iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr("mmdisco_cli.training.loop.Context.must_stop", lambda self: next(calls) == 3)
        with pytest.raises(Stopped):
            trained(load(tmp_path, *settings), stopped)
    for found in (torch.load(tmp_path / "again/discriminator/state.pt", weights_only=True)["average"],
                  trained(load(tmp_path, *settings), stopped)):  # fmt: skip
        torch.testing.assert_close(found, whole, rtol=0, atol=0)


@pytest.mark.parametrize("captioned", [True, False])
def test_fresh_clips_go_on_without_one_that_cannot_be_read(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], captioned: bool
) -> None:
    """In this process, through the stream that workers fill, and gone on: the same clips, and not the broken one."""
    if not captioned:
        (data / "metadata.csv").unlink()
    windows = opened_clips(data).split("train").windows
    spoil(data / windows[3].name)
    shown = [f"backbones.{m}.pooled={str(captioned).lower()}" for m in ("audio", "video")]
    settings = ("train.bank=0", "train.steps=6", f"data.path={data}", *shown)
    used: list[list[int]] = []
    encode = FreshClips.latents
    monkeypatch.setattr(
        FreshClips, "latents", lambda self, rows, m: used.append(rows.tolist()) or encode(self, rows, m)
    )
    whole = trained(load(tmp_path, *settings), tmp_path / "whole")
    assert {len(rows) for rows in used} == {4}
    assert 3 not in {row for rows in used for row in rows}
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped")]
    assert len(said) == 1
    assert f"{windows[3].name}: " in said[0]
    calls = iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr("mmdisco_cli.training.loop.Context.must_stop", lambda self: next(calls) == 3)
        with pytest.raises(Stopped):
            trained(load(tmp_path, *settings), tmp_path / "stopped")
    torch.testing.assert_close(trained(load(tmp_path, *settings), tmp_path / "stopped"), whole, rtol=0, atol=0)
    monkeypatch.setattr(fresh, "worth_starting", lambda *_: 2)
    monkeypatch.setattr(fresh, "reading", lambda reader, chunks, workers: reading(reader, chunks, 0))
    torch.testing.assert_close(trained(load(tmp_path, *settings), tmp_path / "ahead"), whole, rtol=0, atol=0)
    few = load(tmp_path, *settings, "data.max_bad=0.05")
    with pytest.raises(
        DataError, match=r"^1 of \d+ clips cannot be read, more than data.max_bad=0.05 allows .*\.mp4: "
    ):
        trained(few, tmp_path / "few")


@pytest.mark.slow
def test_kill_9_in_the_middle(tmp_path: Path, data: Path) -> None:
    command = ("cached_toys", "convert", str(data), str(tmp_path / "killed"))
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), *map(str, (HERE, HERE.parents[1]))])
    with start(*command, cwd=tmp_path, DIES_AFTER="4", PYTHONPATH=path) as process:
        _, messages = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, messages
    assert len(list((tmp_path / "killed").rglob("*.safetensors"))) == 3
    recipe = load(tmp_path, f"data.path={data}")
    convert(recipe, data, tmp_path / "killed")
    convert(recipe, data, tmp_path / "whole")
    assert_same_files(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_two_ranks_make_one_cache(tmp_path: Path, data: Path) -> None:
    script = ("cached_toys", "train", str(data), str(tmp_path / "two"), "train.batch_size=8")
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), *map(str, (HERE, HERE.parents[1]))])
    with start(
        "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", *script,
        cwd=tmp_path, PYTHONPATH=path,
    ) as process:  # fmt: skip
        _, messages = process.communicate(timeout=600)
    assert process.returncode == 0, messages
    assert main("train", str(data), str(tmp_path / "one"), "train.batch_size=8") == 0
    assert_same_files(tmp_path / "two/bank", tmp_path / "one/bank")
