"""Tuples of captioned clips: texts stay with their clips, and re-pairing stays within what the text says."""

from collections.abc import Sequence

import pytest
import torch
from test_batch import bases
from toy_backbones import Toy

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.coupling import INDEX
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.batch import Batch
from mmdisco_cli.training.caption_rules import differing_labels
from mmdisco_cli.training.captioned import CaptionedClips, CaptionedFakes
from mmdisco_cli.training.data import latents_in, training_captions
from mmdisco_cli.training.fresh import EndlessClips, FreshClips
from mmdisco_cli.training.pairing import Captions, Partners, captions_at, captions_of

CPU = torch.device("cpu")
EXACT = 3 << 20
"""Numbers below this are exact in float32; of the same class in three whatever is left out."""


class Clips:
    """Clips whose every value is their number, each with a caption by modality, in three classes."""

    def __init__(self, length: int | None = 30, labelled: bool = True) -> None:
        self.length, self.fingerprint = length, "numbers"
        if labelled:
            self.labels = lambda indices: [f"class {i % 3}" for i in indices]

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, torch.Tensor]:
        values = torch.tensor([i % EXACT for i in indices], dtype=torch.float32)
        return {m: values[:, None].expand(-1, 6) for m in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        return {m: [f"{m} {i}" for i in indices] for m in modalities}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair() -> Assembly:
    toys = {m: as_joint(Toy(m)) for m in ("audio", "video")}
    return Assembly({m: Base(toy, toy.plan(Request())) for m, toy in toys.items()}, INDEX, CPU)


def clips(count: int = 30, *, labelled: bool = True, **settings: object) -> CaptionedClips:
    captions = captions_of(Clips(labelled=labelled), range(count), ("audio", "video"))
    assert captions is not None
    rows = torch.arange(count)[:, None]
    return CaptionedClips(captions, latents_in({"audio": rows, "video": rows}), **settings)  # type: ignore[arg-type]


def numbers(batch: Batch, modality: str = "audio") -> list[int]:
    return [int(x) for x in batch.latents[modality][:, 0]]


@pytest.mark.parametrize("fresh", [False, True])
def test_texts_are_those_of_the_clips(fresh: bool) -> None:
    source = clips()
    if fresh:
        source = CaptionedClips(source.captions, FreshClips(pair(), Clips(), TrainConfig()).latents)  # type: ignore[arg-type]
    batch = source(200, generator())
    assert len(batch) == 200
    for m in ("audio", "video"):
        assert batch.texts[m] == [f"{m} {i}" for i in numbers(batch, m)]
    assert batch.labels == [f"class {i % 3}" for i in numbers(batch)]
    assert len(set(numbers(batch))) > 20


def test_the_parts_of_a_batch_travel_together() -> None:
    source = clips(sets=2)
    first, second = source(8, generator(0)), source(4, generator(1))
    joined = first.followed_by(second).to(CPU)
    assert numbers(joined) == numbers(first) + numbers(second)
    assert joined.texts["video"] == [*first.texts["video"], *second.texts["video"]]
    assert joined.labels == [*first.labels, *second.labels]
    assert joined.rows is not None
    assert joined.rows.tolist() == numbers(joined)
    assert joined.comparable is not None
    assert joined.comparable.tolist() == [True] * 12


def test_a_set_is_of_one_label_and_of_different_clips() -> None:
    for seed in range(20):
        batch = clips(sets=2)(16, generator(seed))
        for first, second in zip(numbers(batch)[:8], numbers(batch)[8:], strict=True):
            assert first % 3 == second % 3
            assert first != second
        assert batch.comparable is not None
        assert batch.comparable.all()


def test_texts_that_nobody_shares_are_re_paired_only_where_they_are_dropped() -> None:
    dropped = 0
    for seed in range(30):
        batch = clips(labelled=False, sets=2, dropout=0.3)(16, generator(seed))
        empty = [not text for text in batch.texts["audio"]]
        assert batch.comparable is not None
        assert batch.comparable.tolist() == empty
        assert empty[:8] == empty[8:]
        assert any(empty)
        assert batch.texts["video"] == ["" if e else f"video {i}" for e, i in zip(empty, numbers(batch), strict=True)]
        dropped += sum(empty[:8])
    assert 0.2 < dropped / 240 < 0.4


def test_one_tuple_is_comparable_wherever_any_could_be() -> None:
    captions = Captions({"x": (*map(str, range(98)), "same", "same")})
    source = CaptionedClips(captions, latents_in({"x": torch.arange(100)[:, None]}), sets=2)
    for seed in range(20):
        batch = source(4, generator(seed))
        assert batch.comparable is not None
        assert bool(batch.comparable.any())
        assert all(batch.texts["x"])


@pytest.mark.parametrize("others", [1, 2, 3])
def test_partners_are_different_clips_of_one_key(others: int) -> None:
    keys = [k % 4 for k in range(20)] + ["alone", "two", "two"]
    rows, free = torch.arange(23), torch.zeros(23, dtype=torch.bool)
    seen: set[tuple[int, int]] = set()
    for seed in range(60):
        partners, found = Partners(keys).draw(rows, free, others, generator(seed))
        assert found.tolist() == [True] * 20 + [False] + [others < 2] * 2
        for row, *theirs in torch.stack([rows, *partners]).T.tolist():
            assert len({row, *theirs}) == others + 1
            if found[row]:
                assert {keys[k] for k in theirs} == {keys[row]}
                seen |= {(row, other) for other in theirs}
    assert {other for row, other in seen if row == 0} == {4, 8, 12, 16}


def test_partners_of_a_free_row_are_any() -> None:
    rows = torch.zeros(4000, dtype=torch.long)
    partners, found = Partners("abcde").draw(rows, rows == 0, 2, generator())
    assert found.all()
    counts = torch.stack([torch.bincount(p, minlength=5) for p in partners]) / 4000
    torch.testing.assert_close(counts, torch.tensor([[0, 0.25, 0.25, 0.25, 0.25]] * 2), atol=0.03, rtol=0)


@pytest.mark.parametrize("others", [1, 2])
def test_partners_are_never_cut_from_the_same_recording(others: int) -> None:
    """Windows of one clip share more than its text: the place, the speaker."""
    keys = ["a"] * 9 + ["b"] * 4 + ["c"] * 3
    sources = [*"112233455", *"6666", *"789"]  # three windows of one clip, and clips of one window
    rows, free = torch.arange(16), torch.zeros(16, dtype=torch.bool)
    seen: set[tuple[int, int]] = set()
    for seed in range(80):
        partners, found = Partners(keys, sources).draw(rows, free, others, generator(seed))
        assert found.tolist() == [True] * 9 + [False] * 4 + [others < 3] * 3
        for row, *theirs in torch.stack([rows, *partners]).T.tolist():
            assert len(set(theirs)) == others
            if found[row]:
                assert all(keys[k] == keys[row] and sources[k] != sources[row] for k in theirs)
                seen |= {(row, other) for other in theirs}
    assert {other for row, other in seen if row == 3} == {0, 1, 4, 5, 6, 7, 8}


def test_partners_without_shared_recordings_are_drawn_as_without_any() -> None:
    keys, rows = [k % 3 for k in range(30)], torch.arange(30)
    free = rows % 5 == 0
    plain = Partners(keys).draw(rows, free, 2, generator())[0]
    assert torch.equal(plain, Partners(keys, [f"clip {k}" for k in range(30)]).draw(rows, free, 2, generator())[0])


def test_windows_of_one_clip_alone_cannot_be_re_paired() -> None:
    texts = {"x": ("a dog", "a dog", "a cat", "a cat")}
    assert Partners(Captions(texts).keys).sizes.tolist() == [2] * 4
    assert Partners(Captions(texts).keys, ("1", "1", "2", "2")).sizes.tolist() == [1] * 4


def test_shuffling_never_leaves_its_label_and_leaves_the_texts() -> None:
    for seed in range(20):
        batch = clips()(20, generator(seed))
        wrong = batch.shuffled(generator(seed))
        assert wrong.texts == batch.texts
        assert numbers(wrong, "audio") == numbers(batch, "audio")
        assert wrong.comparable is not None
        for audio, video, found in zip(numbers(wrong), numbers(wrong, "video"), wrong.comparable.tolist(), strict=True):
            assert not found or audio % 3 == video % 3


def test_captions_are_of_use_only_to_models_that_take_prompts() -> None:
    gaussians = Assembly(dict(zip(("audio", "video"), bases(), strict=True)), INDEX, CPU)
    assert training_captions(gaussians, Clips(), 10) is None  # type: ignore[arg-type]
    found = training_captions(pair(), Clips(), 10)  # type: ignore[arg-type]
    assert found is not None
    assert (len(found), found.texts["video"][3], found.labels[4]) == (10, "video 3", "class 1")
    assert training_captions(pair(), Clips(), 0) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "texts", "expected"),
    [
        ((), ("a", "b", "c"), 0),
        (("k", "k", "l"), ("a", "b", "c"), 1),
        (("k", "k", "l"), ("a", "a", "c"), 0),
        (("k", "k", ""), ("a", "", "c"), 0),
        (("", "", "k"), ("a", "b", "c"), 0),
        (("k", "l", "k", "l"), ("a", "b", "c", "d"), 2),
    ],
)
def test_labels_of_different_texts_are_counted(labels: tuple[str, ...], texts: tuple[str, ...], expected: int) -> None:
    assert differing_labels(Captions({"x": texts}, labels)) == expected


def endless(*, labelled: bool, dropout: float, sets: int = 2) -> EndlessClips:
    data = Clips(length=None, labelled=labelled)
    fresh = FreshClips(pair(), data, TrainConfig())  # type: ignore[arg-type]
    return EndlessClips(fresh, lambda rows: captions_at(data, rows, ("audio", "video")), dropout, sets)


@pytest.mark.parametrize("labelled", [True, False])
def test_of_clips_that_never_end_those_of_a_step_are_re_paired(labelled: bool) -> None:
    found = []
    for seed in range(20):
        batch = endless(labelled=labelled, dropout=0.3)(24, generator(seed))
        own = numbers(batch)
        assert len(batch) == 24
        assert numbers(batch, "video") == own
        assert max(own) - min(own) < 24
        assert batch.comparable is not None
        for one, other, texts, ok in zip(
            own[:12], own[12:], batch.texts["audio"], batch.comparable.tolist(), strict=False
        ):
            assert not texts or int(texts.split()[1]) % EXACT == one
            assert one != other
            found.append(ok)
            assert not ok or not texts or (labelled and one % 3 == other % 3)
    # Without labels no two clips share a condition but the empty one.
    assert sum(found) / len(found) > 0.95 if labelled else 0.2 < sum(found) / len(found) < 0.45


def test_a_bank_of_an_endless_data_set_has_captions() -> None:
    assert len(training_captions(pair(), Clips(length=None), 5)) == 5  # type: ignore[arg-type]
    assert training_captions(pair(), Clips(length=None), 0) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "sets"), [(64, 2), (7, 2), (9, 1), (3, 2)])
def test_sets_with_a_clip_that_cannot_be_read_are_drawn_again(count: int, sets: int) -> None:
    broken = {1, 5, 6, 14, 22}
    readable = lambda rows: torch.tensor([int(row) not in broken for row in rows])  # noqa: E731
    source, whole = clips(sets=sets, readable=readable), clips(sets=sets)
    drawn, known = [], []
    for seed in range(30):
        batch, without = source(count, generator(seed)), whole(count, generator(seed))
        assert len(batch) == count
        drawn += numbers(batch)
        # Sets without a broken clip are those that are drawn where nothing is broken.
        each = -(-count // sets)
        for place in range(each):
            mine = numbers(without)[place::each]
            if not broken & {*mine}:
                known.append(numbers(batch)[place::each] == mine)
        assert batch.texts["audio"] == [f"audio {i}" for i in numbers(batch)]
        if batch.comparable is not None and len(batch) == each * sets:
            for place in batch.comparable[:each].nonzero()[:, 0].tolist():
                assert len({batch.labels[place], batch.labels[place + each]}) == 1
                assert numbers(batch)[place] != numbers(batch)[place + each]
    assert all(known)
    assert not broken & {*drawn}


def test_no_fake_is_re_paired_with_a_clip_that_cannot_be_read() -> None:
    broken = {1, 5, 6, 14, 22}
    source = clips(readable=lambda rows: torch.tensor([int(row) not in broken for row in rows]))
    made = lambda rows, names: dict.fromkeys(names, -1.0 - rows[:, None])  # noqa: E731
    fakes = CaptionedFakes(source, made, (("audio",), ("video",)), mixed=True)
    re_paired = 0
    for seed in range(30):
        real = source(8, generator(seed))
        fake = fakes(real, generator(100 + seed))
        sound, sight = numbers(fake), numbers(fake, "video")
        assert all(value < 0 for value in sight[4:])
        assert not broken & {value for value in sight if value >= 0}
        re_paired += sum(a >= 0 and a != b for a, b in zip(sound[:4], sight[:4], strict=True))
    assert re_paired > 20
