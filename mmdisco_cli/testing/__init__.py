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

What is checked twice, as by two processes, is built twice: hence the functions. Some return remarks on what breaks no
promise and may still not be meant.
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
    """Check every promise of the contract on one sample for each prompt, with the network out of reach.

    They are: shapes, layouts and float32; levels that only ever get cleaner, by one schedule in grid and training;
    predictions that depend on a sample's own x, t and prompt alone, under CFG or guidance of the model's own too;
    samples fixed by their seed, and untouched by a guidance of weight 0; media and latents made of one another, the
    same each time and in any batch; strings of media of kind text, and media of these strings; draws of the model's own
    that follow a sample's key; nothing of the caller's written to, nor torch's global generator, nor its defaults;
    nothing fetched, nor any other process started.

    "The same" is to within `tolerance` times the largest value, or times 1 if that is larger, and ten times that where
    CFG or a run of `steps` steps multiplies what was rounded. Equal bits are never required of a model, not even of one
    call made twice: which kernel sums a batch, and in what order, is up to processor and threads. What does have to
    be equal in its bits is what is no sum: tensors of the caller's, and the state of torch's global generator.

    Raises:
        AssertionError: naming the first promise that is broken.
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
    """Check every promise of a discriminator for latents of these shapes and conditions of these sizes.

    They are: a logit (B,) of finite floats that depends on every modality, of each sample alone, and the same each
    time; gradients by the states, of each sample alone, at any noise level and with frozen weights too; gradients of
    these by the weights, as the denoising loss takes; a state_dict that holds all that it depends on; nothing of the
    caller's written to; and that it can be built and called on the device meta, as a dry run does. Weights that begin
    at 0 are drawn first, for they would hide the rest. `make` builds one, and is called several times.

    Returns a remark on a logit that is a sum of functions of one modality each. "The same" is as for `check_backbone`.

    Raises:
        AssertionError: naming the first promise that is broken.
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
    """Check every promise of a data set on the first few `clips` of each part, whose media have these shapes.

    They are: the same clip by the same index, each time, alone or beside others, in all modalities or in one, and where
    the data set is built again; float32 in [-1, 1]; parts that share no clip; fingerprints that stay and that differ
    by part; a KeyError, or nothing, for a modality that there is not; and, where it has captions or labels, one text
    for each clip. `make` builds one, and is called twice.

    Returns a remark where there are too few clips to hold some out.

    Raises:
        AssertionError: naming the first promise that is broken.
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
    """Check every promise of an extractor on two clips of noise: as short as it takes, and `seconds` longer.

    They are: finite vectors (K, D) and numbers (K,) under the very keys that it describes, of one width for all clips;
    the same for one clip, whatever was embedded before, and where the extractor is built again; a name that stays;
    nothing of the caller's written to; nothing fetched. `make` builds one, and is called twice.

    Raises:
        AssertionError: naming the first promise that is broken.
    """
    with _alone():
        extractor, again = make(), make()
        extractors.check_description(extractor, again)
        extractors.check_embedding(extractor, again, extractors.clips_for(extractor, seconds), tolerance)


def check_protocol(make: Callable[[], Protocol], recipe: Recipe, out: Path, *, tolerance: float = 1e-4) -> Report:
    """Check every promise of a protocol on a recipe that it can measure, with few `eval.n`, and return its report.

    They are: all metrics that it lists and no others, or the one that is wanted, with the same value; metrics and
    protocol that JSON can hold, the latter with the seed; a table of lines, files that are there; nothing printed; no
    report of a rank but the first; UsageError, if anything, for a recipe without data; nothing fetched, and nothing of
    the process changed. It is called four times, and writes into `out` and to where the recipe's samples go. Where
    processes wait for one another, only the first is checked.

    Raises:
        AssertionError: naming the first promise that is broken.
    """
    options = EvalOptions(seed=recipe.eval.seed, out=out, cache=out / "cache")
    out.mkdir(parents=True, exist_ok=True)
    with _alone():
        return protocols.check_whole(make(), recipe, options, tolerance)


def check_kind(make: Callable[[], Kind], suffix: str, media: Media, plan: ModalityPlan) -> None:
    """Check every promise of a kind on the media of one sample, (*plan.media_shape) or of kind text a string.

    They are: a file of the same bytes each time; what was written in it, to within what the format loses, in the plan's
    shape; HTML that shows it, in which what comes from the file is escaped; nothing of the caller's written to; nothing
    fetched. `make` builds one, `suffix` is that of its files.

    Raises:
        AssertionError: naming the first promise that is broken.
    """
    with _alone():
        check_files(make(), suffix, media, plan)


@contextmanager
def _alone() -> Iterator[None]:
    """Let a check run with the network out of reach, and expect it to leave the process as it was."""
    changed: list[Any] = []
    with no_network(), undisturbed(changed.extend, draws=True):
        yield
    expect(not changed, f"it changes {' and '.join(changed)}, which other recipes share")
