"""Prompts are encoded once each, one at a time, so that a sample does not depend on its batch."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmdisco_cli.diffusion.backbone import Payload
from mmdisco_diffusers.stage import Stage

Row = dict[str, Tensor]
"""The condition of one prompt, without batch; in a batch, sequences are padded with zeros."""
Encode = Callable[[str, str | None, torch.device], tuple[Row, Row]]
"""(prompt, negative or None for the pipeline's default, device) -> the conditions of both."""

KEPT = 64
"""Encoded prompts that are kept, at least; one of T5's takes megabytes."""


class Prompts:
    """The encoded prompts of a model, cached in main memory."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._rows: dict[tuple[str, str | None, float], tuple[Row, Row]] = {}

    def encoded(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, seconds: float, encode: Encode
    ) -> tuple[Row, Row]:
        """Return the batches (B, ...) of prompts and of their negatives, for a sample of this length in seconds."""
        rows = self._rows_of(prompts, negatives, seconds, encode)
        both = _stacked([row for row, _ in rows] + [row for _, row in rows], self.stage.device)
        positive_rows, negative_rows = (
            {key: value[part] for key, value in both.items()} for part in (slice(len(rows)), slice(len(rows), None))
        )
        return positive_rows, negative_rows

    def pooled(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, seconds: float, encode: Encode, entry: str
    ) -> tuple[Tensor, Tensor]:
        """Return one vector for each prompt and each negative (B, D): the mean over its own tokens, without padding."""
        rows = self._rows_of(prompts, negatives, seconds, encode)
        positive_rows, negative_rows = (torch.stack([_mean(pair[i][entry]) for pair in rows]) for i in (0, 1))
        return positive_rows.to(self.stage.device), negative_rows.to(self.stage.device)

    def release(self, parts: Sequence[str]) -> None:
        """Free `codec`, `text` or both until they are needed again, and forget all prompts but the empty one.

        That one stands for any condition that is not given.
        """
        self.stage.release(parts)
        if "text" in parts:
            self._rows = {key: row for key, row in self._rows.items() if not key[0]}

    def _rows_of(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, seconds: float, encode: Encode
    ) -> list[tuple[Row, Row]]:
        others: Sequence[str | None] = negatives or [None] * len(prompts)
        pairs = [(p, n, seconds) for p, n in zip(prompts, others, strict=True)]
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._rows]
        if missing:
            with self.stage.text():
                for prompt, negative, _ in missing:
                    made = encode(prompt, negative, self.stage.at("text"))
                    self._rows[prompt, negative, seconds] = _on_cpu(made[0]), _on_cpu(made[1])
        found = [self._rows[pair] for pair in pairs]
        while len(self._rows) > max(KEPT, len(set(pairs))):  # the oldest: of many captions none comes again soon
            del self._rows[next(iter(self._rows))]
        return found


def repeated(payload: Payload, count: int) -> Row:
    """Return the condition of one sample for `count` of them."""
    rows = payload if isinstance(payload, Mapping) else {}
    return {key: value.expand(count, *value.shape[1:]) for key, value in rows.items()}


def pooled(value: Tensor) -> Tensor:
    """Return a sequence's mean over its tokens, a vector as it is."""
    return value.float() if value.ndim == 2 else value.float().mean(1)


def cast(rows: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> Row:
    """Return a condition on the denoiser's device; floats, but not masks, in its dtype."""
    return {
        key: value.to(device, dtype) if value.is_floating_point() else value.to(device) for key, value in rows.items()
    }


def _mean(value: Tensor) -> Tensor:
    return value.float() if value.ndim == 1 else value.float().mean(0)


def _stacked(rows: Sequence[Row], device: torch.device) -> Row:
    return {key: pad_sequence([row[key] for row in rows], batch_first=True).to(device) for key in rows[0]}


def _on_cpu(row: Row) -> Row:
    return {key: value.cpu() for key, value in row.items()}
