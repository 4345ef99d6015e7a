"""Conformance with the contracts, for plugin authors: one call for each kind of entry.

from mmdisco_cli.testing import check_backbone, check_dataset  # and so on: one is named after each kind of entry

def test_tone():
    check_backbone(build("audio", ToneOptions(), Request()), Request(seconds=1.0))

def test_scorer():
    shapes = {"audio": (2, 5), "video": (3, 4, 8, 8)}  # of latents, without batch
    assert check_discriminator(lambda: build(ScorerOptions(), shapes, {}), shapes) == ()

def test_clips():
    shapes = {"audio": (1, 16000), "video": (3, 10, 64, 64)}  # of media, without batch
    assert check_dataset(lambda: build(ClipsOptions(), Request(seconds=1.0)), shapes) == ()

def test_network():
    check_extractor(lambda: build(ExtractorOptions()))

def test_protocol(tmp_path):
    check_protocol(build, load("recipe.yaml", ["eval.n=8"]), tmp_path)  # load: of mmdisco_cli.recipes.recipe

def test_notes():
    check_kind(build, ".notes.json", torch.tensor([[1.0, -1.0]]), ModalityPlan((1, 2), (1, 2), 10.0, 0.2))

Some checks take a function because they build the object twice, as two processes would. Some return remarks on
behaviour that conforms to the contract and may still be unintended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.diffusion.backbone import Backbone, Base, JointBackbone, ModalityPlan, Request, as_joint
from mmdisco_cli.evaluation.protocol import EvalOptions, Protocol, Recipe, Report
from mmdisco_cli.extractors.contract import Extractor
from mmdisco_cli.kinds.contract import Kind, Media
from mmdisco_cli.registry.process_state import undisturbed
from mmdisco_cli.testing import datasets, discriminators, extractors, protocols
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
from mmdisco_cli.testing.kinds import check_files
from mmdisco_cli.testing.network import no_network, no_other_process
from mmdisco_cli.testing.sampling import check_cfg, check_sampling
from mmdisco_cli.testing.texts import check_text

__all__ = [
    "check_backbone",
    "check_dataset",
    "check_discriminator",
    "check_extractor",
    "check_kind",
    "check_protocol",
    "no_network",
]

_ANY_REQUEST = Request()


def check_backbone(
    backbone: Backbone | JointBackbone,
    request: Request = _ANY_REQUEST,
    prompts: Sequence[str] = ("first", "second"),
    *,
    steps: int = 4,
    tolerance: float = 1e-4,
) -> None:
    """Check a backbone against every point of the contract, on one sample for each prompt, without network access.

    The points are:

    - shapes, layouts and float32;
    - noise levels that fall monotonically, with the same schedule in sampling grids and in training;
    - predictions that depend on the sample's own x, t and prompt only, also with CFG or the model's own guidance;
    - samples that are determined by their seed, and unchanged by guidance of weight 0;
    - encoding and decoding that give the same result every time and in any batch;
    - for media of kind text, strings from media and media from these strings;
    - random numbers of the model itself that depend on the sample's key only;
    - no change to tensors of the caller, torch's global generator or torch's defaults;
    - no network access, and no other process started.

    Results count as the same within `tolerance` times the largest value (or times 1, if that is larger), and within
    ten times that where CFG or a run of `steps` steps amplifies rounding errors. Bit equality is never required of a
    model, because the order of sums depends on processor and threads. It is required of the caller's tensors and of
    the state of torch's global generator.

    Raises:
        AssertionError: naming the first point that fails.
    """
    joint = as_joint(backbone)
    with _alone(), no_other_process():
        base = Base(joint, joint.plan(request), joint.encode_prompt(prompts, None, joint.plan(request)))
        check_description(base, request, len(prompts))
        check_levels(base, steps, tolerance)
        check_predictions(base, len(prompts), tolerance)
        check_prompts(base, prompts, tolerance)
        check_cfg(base, len(prompts), tolerance)
        check_own_guidance(base, len(prompts), tolerance)
        check_sampling(base, len(prompts), steps, tolerance)
        check_media(base, len(prompts), tolerance)
        check_text(base, len(prompts), tolerance)
        check_keys(base, len(prompts), tolerance)


def check_discriminator(
    make: Callable[[], nn.Module],
    shapes: Mapping[str, tuple[int, ...]],
    pooled: Mapping[str, int] | None = None,
    *,
    device: torch.device | str = "cpu",
    tolerance: float = 1e-4,
) -> tuple[str, ...]:
    """Check a discriminator for latents of these shapes (without batch) and pooled conditions of these sizes.

    The points are:

    - a logit (B,) of finite floats that depends on every modality, and on its own sample only, the same every time;
    - gradients by the states that depend on their own sample only, at any noise level, also with frozen weights;
    - gradients of these by the weights, which the denoising loss, Eq. (5) of arXiv 2405.17842, needs;
    - a state_dict that holds everything that the logit depends on;
    - of a `Separable` one, features that are the same for modalities read together or apart, and give its logit;
    - no change to tensors of the caller;
    - building and calling on the device meta, as a dry run does.

    Weights that are initialised to 0 are replaced by random ones first, because they would hide errors. `make` builds
    one, and is called several times. Results are compared as in `check_backbone`.

    Returns a remark where the logit is a sum of functions of one modality each, which cannot align modalities.

    Raises:
        AssertionError: naming the first point that fails.
    """
    with _alone():
        module = make()
        expect(isinstance(module, nn.Module), f"build gives {type(module).__name__}, not a torch.nn.Module")
        module = module.to(device).eval()
        discriminators.fill_zeros(module)
        question = discriminators.question_of(module, shapes, pooled or {})
        discriminators.check_answers(module, question, tolerance)
        discriminators.check_separable(module, question, tolerance)
        discriminators.check_levels(module, question)
        discriminators.check_training(module, question)
        discriminators.check_frozen(module, question, tolerance)
        discriminators.check_state(module, make, question, tolerance)
        discriminators.check_without_values(module, make, question)
        note = discriminators.interaction_note(module, shapes, pooled or {})
    return (note,) if note else ()


def check_dataset(
    make: Callable[[], SplitDataset],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    clips: int = 4,
    tolerance: float = 1e-5,
) -> tuple[str, ...]:
    """Check a data set on the first few `clips` of each part, whose media have these shapes (without batch).

    The points are:

    - an index names the same clip every time, alone or in a batch, in one modality or in all, and in another instance;
    - media are float32 in [-1, 1];
    - training and held-out parts share no clip;
    - fingerprints stay the same, and differ between parts;
    - a modality that does not exist is a KeyError, or is left out;
    - captions and labels, where there are any, are one text for each clip.

    `make` builds one, and is called twice.

    Returns a remark where there are too few clips to hold some out.

    Raises:
        AssertionError: naming the first point that fails.
    """
    with _alone():
        parts, notes = datasets.parts_of(make)
        again, _ = datasets.parts_of(make)
        numbers = {name: list(range(min(clips, part.length or clips))) for name, part in parts.items()}
        for name, part in parts.items():
            datasets.check_media(part, numbers[name], shapes, tolerance)
            datasets.check_unknown_modality(part)
            datasets.check_texts(part, numbers[name], shapes)
            datasets.check_same(part, again[name], numbers[name], shapes, tolerance)
        if len(parts) == 2:
            datasets.check_apart(parts["train"], parts["heldout"], numbers, shapes)
    return tuple(notes)


def check_extractor(make: Callable[[], Extractor], *, seconds: float = 1.0, tolerance: float = 1e-4) -> None:
    """Check an extractor on two clips of noise: the shortest that it takes, and one that is `seconds` longer.

    The points are:

    - finite vectors (K, D) and numbers (K,) under exactly the keys that it describes, with one D for all clips;
    - the same result for the same clip, whatever was embedded before, and from another instance;
    - a name that stays the same;
    - no change to tensors of the caller, and no network access.

    `make` builds one, and is called twice.

    Raises:
        AssertionError: naming the first point that fails.
    """
    with _alone():
        extractor, again = make(), make()
        extractors.check_description(extractor, again)
        extractors.check_embedding(extractor, again, extractors.clips_for(extractor, seconds), tolerance)


def check_protocol(make: Callable[[], Protocol], recipe: Recipe, out: Path, *, tolerance: float = 1e-4) -> Report:
    """Check a protocol on a recipe that it can measure, with a small `eval.n`, and return its report.

    The points are:

    - all metrics that it lists and no others, or the one that is requested, with the same value;
    - metrics and protocol that JSON can represent, and the seed in the protocol;
    - a table of lines, and files that exist;
    - nothing on stdout, and a report from the first rank only;
    - UsageError, if anything, for a recipe without data;
    - no network access, and no change to the state of the process.

    It is called four times, and writes into `out` and into the folder of the recipe's samples. Of a protocol whose
    ranks wait for each other only the first rank is checked.

    Raises:
        AssertionError: naming the first point that fails.
    """
    options = EvalOptions(seed=recipe.eval.seed, out=out, cache=out / "cache")
    out.mkdir(parents=True, exist_ok=True)
    with _alone():
        return protocols.check_whole(make(), recipe, options, tolerance)


def check_kind(make: Callable[[], Kind], suffix: str, media: Media, plan: ModalityPlan) -> None:
    """Check a kind on the media of one sample: a tensor (*plan.media_shape), or a string for the kind text.

    The points are:

    - the same bytes every time;
    - reading gives what was written, up to the loss of the format, in the shape of the plan;
    - HTML that shows it, with text from the file escaped;
    - no change to tensors of the caller, and no network access.

    `make` builds one; `suffix` is the suffix of its files, such as ".notes.json".

    Raises:
        AssertionError: naming the first point that fails.
    """
    with _alone():
        check_files(make(), suffix, media, plan)


@contextmanager
def _alone() -> Iterator[None]:
    """Run a check without network access, and expect it to leave the state of the process unchanged."""
    changed: list[Any] = []
    with no_network(), undisturbed(changed.extend, draws=True):
        yield
    expect(not changed, f"it changes {' and '.join(changed)}, which other recipes share")
