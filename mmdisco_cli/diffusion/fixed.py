"""Guidance beside modalities that do not change from step to step: what a discriminator reads of them is kept."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mmdisco_cli.diffusion.contract import State
from mmdisco_cli.diffusion.guidance import Discriminator, Separable


@dataclass
class ReadsFixedOnce:
    """A separable discriminator of states some of which, the `fixed` ones, are the same in every call.

    Their conditions too, for a batch of one size: what is read of a batch that CFG doubles is kept apart.
    """

    discriminator: Separable
    fixed: frozenset[str]
    kept: dict[int, State] = field(default_factory=dict)

    def __call__(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None, /
    ) -> Tensor:
        """Return the logit (B,) of states x (B, ...); no gradient reaches the fixed ones."""
        batch = len(next(iter(x.values())))
        if batch not in self.kept:
            constant = {m: s.detach() for m, s in x.items() if m in self.fixed}
            self.kept[batch] = {m: r.detach() for m, r in self.discriminator.read(constant, log_snr, pooled).items()}
        free = {m: s for m, s in x.items() if m not in self.fixed}
        read = self.discriminator.read(free, log_snr, pooled)
        # Copied, for a tensor that was made in inference mode cannot take part in a later backward pass.
        read = {**read, **{m: r.clone() for m, r in self.kept[batch].items()}}
        return self.discriminator.compare({m: read[m] for m in x})


def beside_fixed(discriminator: Discriminator, fixed: Collection[str]) -> Discriminator:
    """Return the discriminator, reading the fixed modalities once where it reads each alone."""
    return (
        ReadsFixedOnce(discriminator, frozenset(fixed))
        if fixed and isinstance(discriminator, Separable)
        else discriminator
    )
