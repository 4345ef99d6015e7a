"""The joint network of the time-aligned discriminators: one token for each time step, of all modalities."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdisco_cli.blocks import (
    LevelEmbedding,
    TransformerBlock,
    convolve_as_batch,
    convolve_tokens,
    map_rows,
    modulated_norm,
    zero,
)
from mmdisco_cli.discriminators.time_axis import common_steps, step_width, to_steps


class AlignedTrunk(nn.Module):
    """Map latents, each (B, *shape), to joint features (B, steps, width).

    A step's token is the sum of an embedding of each modality around that step, so the first block already has the
    pair. Before each block a depthwise convolution mixes neighbouring steps, because what relates two modalities is
    mostly local in time (the sound of an impact coincides with its frame); attention relates distant steps.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        pooled: Mapping[str, int],
        width: int,
        depth: int,
        heads: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.steps = common_steps(shapes, steps)
        self.embed = nn.ModuleDict(
            {m: nn.Conv1d(step_width(shape, self.steps), width, 3, padding=1) for m, shape in shapes.items()}
        )
        self.level = nn.ModuleDict({m: LevelEmbedding(width) for m in shapes})
        self.prompt = nn.ModuleDict({m: nn.Linear(size, width) for m, size in pooled.items() if size})
        self.position = nn.Parameter(torch.randn(self.steps, width) * 0.02)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.nearby = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2, groups=width) for _ in range(depth))
        self.modulate_out = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        # Beginning at zero, prompts change nothing of a discriminator that goes on from one without them.
        zero(self.modulate, self.modulate_out, *self.prompt.values())

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Return the features (B, steps, width) and the embedding of levels and prompts (B, width)."""
        level = embedded_conditions(self.level, self.prompt, {m: log_snr[m] for m in x}, pooled)
        steps = {m: to_steps(x[m], self.steps).transpose(1, 2) for m in x}
        views = [convolve_as_batch(self.embed[m], steps[m]).transpose(1, 2) for m in x]
        tokens = torch.stack(views).sum(0) + self.position
        modulation = map_rows(self.modulate, level).unflatten(1, (6, -1))
        for nearby, block in zip(self.nearby, self.blocks, strict=True):
            tokens = block(tokens + convolve_tokens(nearby, tokens), modulation)
        shift, scale = map_rows(self.modulate_out, level)[:, None].chunk(2, dim=-1)
        return modulated_norm(tokens, shift, scale), level


def embedded_conditions(
    levels: nn.ModuleDict, prompts: nn.ModuleDict, log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None
) -> Tensor:
    """Return the sum (B, width) of the embeddings of each modality's noise level (B,), and of the prompts there are."""
    found = torch.stack([levels[m](snr) for m, snr in log_snr.items()]).sum(0)
    for m, layer in prompts.items():
        if pooled and m in pooled:
            found = found + map_rows([layer], pooled[m])
    return found
