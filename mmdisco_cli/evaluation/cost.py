"""What guidance costs: weights of the discriminator beside the backbones', and seconds of sampling beside none."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import count_parameters
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.sampling.draw import draw

ROUNDS = 3
MOST = 8


def parameters(assembly: Assembly) -> Mapping[str, Any]:
    """Return how many weights the backbones and the discriminator have, and the ratio; None where unknown."""
    counted = [count_parameters(base.backbone) for base in assembly.bases]
    bases = None if any(count is None for count in counted) else sum(count or 0 for count in counted)
    loaded = assembly.discriminator
    own = sum(p.numel() for p in loaded.module.parameters()) if loaded else None
    return {"bases": bases, "discriminator": own, "ratio": own / bases if own is not None and bases else None}


def sampling_cost(assembly: Assembly, config: SampleConfig, seed: int) -> Mapping[str, Any]:
    """Return seconds that a batch takes guided and independent, taken in turns, and the median of the ratios.

    Only denoising counts: decoding and writing are the same for both and would hide the difference.
    """
    batch = range(min(config.batch_size, MOST))

    def seconds(independent: bool) -> float:
        start = time.perf_counter()
        drawn = draw(assembly, config, seed, batch, independent=independent)
        float(next(iter(drawn.latents.values())).sum())  # waits for a device that runs by itself
        return time.perf_counter() - start

    seconds(True)
    pairs = [(seconds(False), seconds(True)) for _ in range(ROUNDS)]
    guided, independent = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(g / i for g, i in pairs)
    return {"guided_seconds": guided, "independent_seconds": independent, "ratio": ratio, "batch_size": len(batch)}
