"""Options of the discriminators in a recipe; torch-free, because listing plugins imports them."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class EnergyOptions:
    """The inner product of every modality with a small joint network."""

    width: int = option(128, "features of a token", minimum=1)
    depth: int = option(4, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    steps: int = option(64, "maximum number of tokens along the common time axis", minimum=1)
    reads_x0: bool = option(
        False, "also read the base models' x_0; inputs are then detached, so no second derivative is needed"
    )


@dataclass(frozen=True)
class PatchesOptions:
    """The inner product of every modality with a joint transformer over patches of each; no time axis is needed."""

    width: int = option(128, "features of a token", minimum=1)
    depth: int = option(4, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    tokens: int = option(32, "maximum number of patches of a modality", minimum=1)


@dataclass(frozen=True)
class FactorsOptions:
    """The log ratio of modalities that share a hidden factor; each is read alone, which makes re-pairing cheap."""

    factors: int = option(32, "values of the hidden factor, at least as many as the shared variable has", minimum=2)
    width: int = option(96, "features of a token", minimum=1)
    depth: int = option(3, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    tokens: int = option(32, "maximum number of patches of a modality", minimum=1)


@dataclass(frozen=True)
class AlignedOptions:
    """Features on one time axis, mixed before the pooled head."""

    width: int = option(128, "features of a token", minimum=1)
    depth: int = option(4, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    steps: int = option(64, "maximum number of tokens along the common time axis", minimum=1)


@dataclass(frozen=True)
class AdditiveOptions:
    """Features pooled separately and added: the control that cannot align anything."""

    width: int = option(128, "features of a token", minimum=1)
    depth: int = option(4, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    steps: int = option(64, "maximum number of tokens along the common time axis", minimum=1)


@dataclass(frozen=True)
class MLPOptions:
    """A plain network for vector modalities."""

    width: int = option(128, "units of every layer", minimum=1)
    depth: int = option(3, "hidden layers", minimum=1)
    frequencies: int = option(8, "Fourier features a coordinate, as sine and cosine; 0 for none", minimum=0)
