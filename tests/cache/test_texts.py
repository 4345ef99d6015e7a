"""Encoded texts: what comes back is what the model gave, to the bit and in its dtype, of whatever form."""

from pathlib import Path

import pytest
import torch

from mmdisco_cli.cache.layout import Texts, text_shards
from mmdisco_cli.cache.mapped import read_shard
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


def test_a_shard_is_named_by_its_texts(tmp_path: Path) -> None:
    paths = {Texts(texts).path(tmp_path) for texts in (("a", "b"), ("b", "a"), ("a",), ("ab",))}
    assert len(paths) == 4
    assert [len(shard.texts) for shard in text_shards([str(i) for i in range(130)])] == [64, 64, 2]
