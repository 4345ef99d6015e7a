"""Encoded texts: what comes back is what the model gave, to the bit and in its dtype, of whatever form."""

from pathlib import Path

import pytest
import torch

from mmdisco_cli.cache.layout import Texts, text_shards
from mmdisco_cli.cache.mapped import read_shard
from mmdisco_cli.cache.packed import packed, unpacked
from mmdisco_cli.cache.texts import EncodedTexts, encoded
from mmdisco_cli.diffusion.backbone import Condition
from mmdisco_cli.weights_file import write_tensors

CPU = torch.device("cpu")
WORDS = ["", "a dog", "two dogs", "ein Hünd\n mit, Komma"]


def give(text: str, *, even: bool = True) -> dict[str, dict[str, Condition]]:
    """Two models: one of a mapping with a mask and bfloat16, one of two modalities of which one has no condition."""
    generator = torch.Generator().manual_seed(len(text))
    length = 5 if even else 1 + len(text)
    tokens = torch.randn(1, length, 3, generator=generator).bfloat16()
    mask = torch.arange(length)[None] < len(text)
    vector = torch.randn(1, 4, generator=generator)
    return {
        "speech": {"audio": Condition({"tokens": tokens, "mask": mask}, pooled=vector)},
        "both": {"video": Condition(vector.double()), "depth": Condition()},
    }


def stored(folder: Path, *, even: bool = True) -> EncodedTexts:
    shards = [Texts(tuple(WORDS[:3])), Texts(tuple(WORDS[3:]))]
    for shard in shards:
        write_tensors(shard.path(folder), encoded(shard.texts, lambda text: give(text, even=even)))
    return EncodedTexts([(shard.texts, read_shard(shard.path(folder))) for shard in shards], CPU)


@pytest.mark.parametrize("even", [True, False])
def test_conditions_come_back_to_the_bit(tmp_path: Path, even: bool) -> None:
    texts = stored(tmp_path, even=even)
    assert texts.even is even
    for word in WORDS:
        assert word in texts
        wanted, found = give(word, even=even)["speech"]["audio"], texts.of("speech", word)["audio"]
        assert isinstance(wanted.positive, dict)
        assert isinstance(found.positive, dict)
        for key, value in wanted.positive.items():
            assert found.positive[key].dtype == value.dtype
            assert torch.equal(found.positive[key], value)
        assert found.pooled is not None
        assert wanted.pooled is not None
        assert torch.equal(found.pooled, wanted.pooled)
        other = texts.of("both", word)
        assert isinstance(other["video"].positive, torch.Tensor)
        assert torch.equal(other["video"].positive, give(word, even=even)["both"]["video"].positive)  # type: ignore[arg-type]
        assert other["video"].pooled is None
        assert "depth" not in other
    assert "a cat" not in texts


def padded(text: str, length: int = 40) -> dict[str, dict[str, Condition]]:
    """Tokens of the text, zeros, and one token after them, beside a mask, and a model whose padding says something."""
    generator = torch.Generator().manual_seed(len(text))
    tokens, seen = torch.randn(1, length, 3, 2, generator=generator).half(), torch.arange(length)[None] < len(text)
    seen[:, -1] = bool(text)
    kept = tokens.masked_fill(~seen[..., None, None], 0)
    kept[:, 0, 0, 0] = -0.0 if len(text) == 5 else kept[:, 0, 0, 0]
    return {"wan": {"video": Condition({"tokens": kept, "mask": seen.long()})}, "cog": {"audio": Condition(tokens)}}


def bits(value: torch.Tensor) -> torch.Tensor:
    return value.contiguous().view(torch.uint8)


def test_zeros_that_pad_cost_nothing_and_come_back_to_the_bit(tmp_path: Path) -> None:
    long = "x" * 40  # without any padding: alone in its shard, it is not packed
    shards = [Texts(("", "a dog", "two dogs")), Texts((long,)), Texts(("",))]
    for shard in shards:
        write_tensors(shard.path(tmp_path), encoded(shard.texts, padded))
    texts = EncodedTexts([(shard.texts, read_shard(shard.path(tmp_path))) for shard in shards], CPU)
    assert texts.even
    for word in ("", "a dog", "two dogs", long):
        found, wanted = texts.of("wan", word)["video"].positive, padded(word)["wan"]["video"].positive
        assert isinstance(found, dict)
        assert isinstance(wanted, dict)
        for key, value in wanted.items():
            assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
            assert torch.equal(bits(found[key]), bits(value))
        whole = texts.of("cog", word)["audio"].positive
        assert isinstance(whole, torch.Tensor)
        assert torch.equal(bits(whole), bits(padded(word)["cog"]["audio"].positive))  # type: ignore[arg-type]
    about = read_shard(shards[0].path(tmp_path)).tensors
    assert about["wan/video/positive/tokens#rows"].shape == (0 + 6 + 9, 3, 2)
    assert about["cog/audio/positive"].shape == (3, 40, 3, 2)


def test_a_minus_zero_is_no_padding() -> None:
    values = torch.zeros(1, 4, 2)
    values[0, 1, 0] = -0.0
    found = packed(values)
    assert found is not None
    assert found.kept.tolist() == [[False, True, False, False]]
    assert torch.equal(bits(unpacked(found.rows, found.kept[0])), bits(values))


@pytest.mark.parametrize("shape", [(2, 3), (0, 3, 2), (2, 3, 0), (2, 3, 2)])
def test_what_has_no_zeros_to_leave_out_stays_as_it_is(shape: tuple[int, ...]) -> None:
    assert packed(torch.ones(shape)) is None


def test_a_shard_is_named_by_its_texts(tmp_path: Path) -> None:
    paths = {Texts(texts).path(tmp_path) for texts in (("a", "b"), ("b", "a"), ("a",), ("ab",))}
    assert len(paths) == 4
    assert [len(shard.texts) for shard in text_shards([str(i) for i in range(130)])] == [64, 64, 2]
