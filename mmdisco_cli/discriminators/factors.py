"""A discriminator of what modalities share: each is read alone, as a distribution over a hidden factor.

The noise of modalities is independent, so if what they share is a factor k, their noisy states are independent given
it, and the log ratio that Eq. (4) of MMDisCo (arXiv 2405.17842) is minimal at has a closed form in the posteriors:

    log p(x^1, ..., x^M) / (p(x^1) ... p(x^M)) = log sum_k pi_k prod_m p(k | x^m) / pi_k
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.blocks import LevelEmbedding, TransformerBlock, map_rows, modulated_norm, patchify, zero
from mmdisco_cli.discriminators.options import FactorsOptions
from mmdisco_cli.discriminators.patches import patch_of, token_count
from mmdisco_cli.discriminators.trunk import embedded_conditions


class SharedFactor(nn.Module):
    """A logit (B,) from latents (B, *shape), one a modality, already divided by sqrt(alpha^2 + sigma^2).

    It is `Separable`: what is read of one modality depends on that one, so that a batch of B tuples, read once, can be
    compared in all its re-pairings. With texts c, prior and posteriors are under c.
    """

    def __init__(
        self, options: FactorsOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        texts = {m: size for m, size in pooled.items() if size}
        self.readers = nn.ModuleDict({m: _Reader(options, shape, texts) for m, shape in shapes.items()})
        self.prior = nn.Parameter(torch.zeros(options.factors))
        self.prompt = nn.ModuleDict({m: nn.Linear(size, options.factors) for m, size in texts.items()})
        # Beginning at zero, prompts change nothing of a discriminator that goes on from one without them.
        zero(*self.prompt.values())

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        return self.compare(self.read(x, log_snr, pooled))

    def read(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return log p(k | x^m) / pi_k + (log pi_k) / M, (B, K) of each modality in x, at least float32."""
        prior = self._prior(pooled)
        found = {}
        for m, state in x.items():
            posterior = F.log_softmax(prior + self.readers[m](state, log_snr[m], pooled), -1)
            found[m] = posterior - prior + prior / len(self.readers)
        return found

    def compare(self, read: Mapping[str, Tensor]) -> Tensor:
        """Return the logit (...,) of tuples whose parts were read as (..., K) each."""
        return torch.stack(list(read.values())).sum(0).logsumexp(-1)

    def _prior(self, pooled: Mapping[str, Tensor] | None) -> Tensor:
        """Return log pi, (K,), or (B, K) under texts."""
        logits = self.prior.float()
        for m, layer in self.prompt.items():
            if pooled and m in pooled:
                logits = logits + map_rows([layer], pooled[m]).float()
        return F.log_softmax(logits, -1)


class _Reader(nn.Module):
    """Map one modality's state (B, *shape) to what it adds to the log prior, (B, K): a transformer over patches."""

    def __init__(self, options: FactorsOptions, shape: tuple[int, ...], texts: Mapping[str, int]) -> None:
        super().__init__()
        width = options.width
        self.shape = shape if len(shape) > 1 else (*shape, 1)
        self.patch = patch_of(self.shape[1:], options.tokens)
        count = token_count(self.shape[1:], self.patch)
        self.embed = nn.Linear(self.shape[0] * math.prod(self.patch), width)
        self.position = nn.Parameter(torch.randn(count, width) * 0.02)
        self.level = nn.ModuleDict({"own": LevelEmbedding(width)})
        self.prompt = nn.ModuleDict({m: nn.Linear(size, width) for m, size in texts.items()})
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(TransformerBlock(width, options.heads) for _ in range(options.depth))
        self.modulate_out = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, options.factors)
        zero(self.modulate, self.modulate_out, *self.prompt.values())

    def forward(self, x: Tensor, log_snr: Tensor, pooled: Mapping[str, Tensor] | None) -> Tensor:
        level = embedded_conditions(self.level, self.prompt, {"own": log_snr}, pooled)
        tokens = self.embed(patchify(x.reshape(-1, *self.shape), self.patch)) + self.position
        modulation = map_rows(self.modulate, level).unflatten(1, (6, -1))
        for block in self.blocks:
            tokens = block(tokens, modulation)
        shift, scale = map_rows(self.modulate_out, level)[:, None].chunk(2, dim=-1)
        found = map_rows([self.head], modulated_norm(tokens, shift, scale).mean(1))
        # In pure noise nothing is known: the share of signal takes the posterior to the prior there.
        return found.float() * torch.sigmoid(log_snr + math.log(4))[:, None]


def build(options: FactorsOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> SharedFactor:
    """Build the discriminator of a recipe."""
    return SharedFactor(options, shapes, pooled)
