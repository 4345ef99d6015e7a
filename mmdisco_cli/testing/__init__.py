"""Conformance of a backbone with the contract, for plugin authors.

from mmdisco_cli.testing import check_backbone

def test_tone():
    check_backbone(build("audio", ToneOptions(), Request()), Request(seconds=1.0))
"""

from collections.abc import Sequence

from mmdisco_cli.diffusion.backbone import Backbone, Base, JointBackbone, Request, as_joint
from mmdisco_cli.registry.process_state import undisturbed
from mmdisco_cli.testing.contract import (
    check_description,
    check_keys,
    check_levels,
    check_media,
    check_own_guidance,
    check_predictions,
    check_prompts,
)
from mmdisco_cli.testing.expecting import expect
from mmdisco_cli.testing.network import no_network, no_other_process
from mmdisco_cli.testing.sampling import check_cfg, check_sampling

__all__ = ["check_backbone", "no_network"]

_ANY_REQUEST = Request()


def check_backbone(
    backbone: Backbone | JointBackbone,
    request: Request = _ANY_REQUEST,
    prompts: Sequence[str] = ("first", "second"),
    *,
    steps: int = 4,
    tolerance: float = 1e-4,
) -> None:
    """Check every promise of the contract on one sample for each prompt, with the network out of reach.

    They are: shapes, layouts and float32; levels that only ever get cleaner, by one law in grid and training;
    predictions that depend on a sample's own x, t and prompt alone, under CFG or guidance of the model's own too;
    samples fixed by their seed, and untouched by a guidance of weight 0; media and latents made of one another, the
    same each time and in any batch; draws of the model's own that follow a sample's key; nothing of the caller's
    written to, nor torch's global generator, nor its defaults; nothing fetched, nor any other process started.

    "The same" is to within `tolerance` times the largest value, or times 1 if that is larger, and ten times that where
    CFG or a run of `steps` steps multiplies what was rounded. Equal bits are never asked of a model, not even of one
    call made twice: which kernel sums a batch, and in what order, is up to processor and threads. What does have to
    be equal in its bits is what is no sum: tensors of the caller's, and the state of torch's global generator.

    Raises:
        AssertionError: naming the first promise that is broken.
    """
    joint = as_joint(backbone)
    changed: list[str] = []
    with no_network(), no_other_process(), undisturbed(changed.extend, draws=True):
        base = Base(joint, joint.plan(request), joint.encode_prompt(prompts, None, joint.plan(request)))
        check_description(base, request, len(prompts))
        check_levels(base, steps, tolerance)
        check_predictions(base, len(prompts), tolerance)
        check_prompts(base, prompts, tolerance)
        check_cfg(base, len(prompts), tolerance)
        check_own_guidance(base, len(prompts), tolerance)
        check_sampling(base, len(prompts), steps, tolerance)
        check_media(base, len(prompts), tolerance)
        check_keys(base, len(prompts), tolerance)
    expect(not changed, f"it changes {' and '.join(changed)}, which other recipes share")
