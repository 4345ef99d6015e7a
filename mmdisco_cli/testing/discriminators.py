"""Checks of a discriminator: a logit of each sample by itself, and the gradients that guidance and training need."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly.trial import NO_GRADIENT, expect_logit, gradients_by_weights, noisy
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.guidance import ALL_LEVELS, Separable, reads_x0
from mmdisco_cli.discriminators.interaction import ADDITIVE, interaction
from mmdisco_cli.testing.expecting import expect, expect_close, row, tensors_of, unchanged, undrawn

MANY = 32
"""Samples by which it is measured how much a logit depends on the pair."""
Make = Callable[[], nn.Module]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Question:
    """The inputs of a discriminator for one batch: states, log-SNR (B,), and optional ones."""

    x: State
    levels: State
    texts: State | None
    x0: State | None

    @property
    def batch(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.x.values())))

    def sample(self, i: int) -> "Question":
        """Return the inputs of one sample."""
        texts, x0 = (None if part is None else row(part, i) for part in (self.texts, self.x0))
        return Question(row(self.x, i), row(self.levels, i), texts, x0)

    def tensors(self) -> State:
        """Return all tensors by name."""
        tensors = self.x | tensors_of(self.levels, "log-SNR of") | tensors_of(self.texts, "condition of")
        return tensors | tensors_of(self.x0, "x_0 of")

    def ask(self, module: nn.Module) -> Tensor:
        """Return the logit (B,)."""
        known = () if self.x0 is None else (self.x0,)
        return expect_logit(expect, module(self.x, self.levels, self.texts, *known), self.batch)


def question_of(module: nn.Module, shapes: Shapes, pooled: Mapping[str, int], batch: int = 2) -> Question:
    """Return noise of these shapes, a different log-SNR for each sample, and conditions."""
    first = next(iter(module.parameters()), torch.empty(0))
    x, levels, texts = noisy(shapes, pooled, batch, first.device)
    states = {m: state.detach() for m, state in x.items()}
    return Question(states, levels, texts, _x0_of(states) if reads_x0(module) else None)


def fill_zeros(module: nn.Module) -> None:
    """Replace weights initialised to 0, such as those of a last layer, by random ones: they would hide errors."""
    draw = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        if not bool(weight.detach().any()):
            width = math.prod(weight.shape[1:]) if weight.ndim > 1 else 100
            weight.data.copy_(torch.randn(weight.shape, generator=draw) / math.sqrt(max(width, 1)))


def check_answers(module: nn.Module, question: Question, tolerance: float) -> None:
    """Expect one logit and gradient for each sample, the same in any batch, and inputs left unchanged."""
    with torch.no_grad():
        once = unchanged(lambda: {"logit": question.ask(module)}, question.tensors())
        again = undrawn(lambda: {"logit": question.ask(module)})
    expect_close(again, once, tolerance, "two answers to one question")
    for i in range(question.batch):
        with torch.no_grad():
            logit = question.sample(i).ask(module)
        expect_close({"logit": logit}, row(once, i), tolerance, f"sample {i} has another one alone")
    together = gradients_of(module, question)
    for name, gradient in together.items():
        expect(bool(gradient.any()), f"{name} is 0 everywhere: it does not depend on that modality")
    for i in range(question.batch):
        alone = gradients_of(module, question.sample(i))
        expect_close(alone, row(together, i), tolerance, f"sample {i} has another one alone")


def check_levels(module: nn.Module, question: Question) -> None:
    """Expect finite results at both ends of the noise levels at which guidance may act."""
    for level in ALL_LEVELS:
        levels = {m: torch.full_like(v, level) for m, v in question.levels.items()}
        for name, value in gradients_of(module, replace(question, levels=levels)).items():
            expect(bool(value.isfinite().all()), f"{name} is not finite at log-SNR {level:g}")


def check_training(module: nn.Module, question: Question) -> None:
    """Expect gradients by the weights of the logit, Eq. (4), and of its gradient by the states, Eq. (5)."""
    if not any(p.requires_grad for p in module.parameters()):
        return
    for name, gradient in gradients_of(module, question, twice=True).items():
        otherwise = f"{name}: the denoising loss, which takes its gradient, reaches no weight"
        expect(gradient.requires_grad, otherwise)
        try:
            reached = gradients_by_weights(gradient.square().sum(), module)
        except RuntimeError as error:
            raise AssertionError(f"{name}: the gradient of its gradient fails ({error})") from error
        expect(any(bool(g.any()) for g in reached), otherwise)
        expect(all(bool(g.isfinite().all()) for g in reached), f"{name}: the gradient of its gradient is not finite")


def check_frozen(module: nn.Module, question: Question, tolerance: float) -> None:
    """Expect the same results with frozen weights, as in sampling."""
    frozen = copy.deepcopy(module).requires_grad_(False)
    with torch.no_grad():
        before, after = ({"logit": question.ask(one)} for one in (module, frozen))
    before |= gradients_of(module, question)
    expect_close(after | gradients_of(frozen, question), before, tolerance, "another one with frozen weights")


def check_separable(module: nn.Module, question: Question, tolerance: float) -> None:
    """Expect features of a `Separable` one that do not depend on other modalities, and that give its own logit."""
    if not isinstance(module, Separable):
        return
    with torch.no_grad():
        logit = {"logit": question.ask(module)}
        together = module.read(question.x, question.levels, question.texts)
        alone = [module.read({m: x}, question.levels, question.texts)[m] for m, x in question.x.items()]
        apart = dict(zip(question.x, alone, strict=True))
    expect_close({"logit": module.compare(together)}, logit, tolerance, "compare(read(x)) is another one")
    expect_close(apart, {m: together[m] for m in apart}, tolerance, "its features change when it is read beside others")


def check_state(module: nn.Module, make: Make, question: Question, tolerance: float) -> None:
    """Expect another instance with the same state_dict to give the same results: a file holds nothing else."""
    other = make().to(next(iter(question.x.values())).device).eval()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        expected, found = ({"logit": question.ask(one)} for one in (module, other))
    expect_close(found, expected, tolerance, "it depends on more than parameters and buffers, which a file keeps")


def check_without_values(module: nn.Module, make: Make, question: Question) -> None:
    """Expect it to work on the device meta, as a dry run uses it to count memory; tensors on other devices show too."""
    known = () if question.x0 is None else ({m: s.to("meta") for m, s in question.x0.items()},)
    texts = None if question.texts is None else {m: s.to("meta") for m, s in question.texts.items()}
    parts = [{m: s.to("meta") for m, s in part.items()} for part in (question.x, question.levels)]
    try:
        with torch.device("meta"):
            make()
            copy.deepcopy(module).to("meta")(*parts, texts, *known)
    except Exception as error:
        raise AssertionError(
            f"it cannot be built and called on the device meta, as --dry-run does: a tensor of its own is not a "
            f"buffer, or it reads values of tensors ({' '.join(str(error).split())[:300]})"
        ) from error


def interaction_note(module: nn.Module, shapes: Shapes, pooled: Mapping[str, int]) -> str:
    """Return a remark where the logit does not depend on the pairing, else an empty string."""
    one = question_of(module, shapes, pooled, MANY)
    other = {m: x.flip(0).roll(1, -1) for m, x in one.x.items()}
    if len(shapes) < 2:
        return ""

    def logit(x: Mapping[str, Tensor]) -> Tensor:
        return replace(one, x=dict(x), x0=None if one.x0 is None else _x0_of(x)).ask(module)

    with torch.no_grad():
        share = interaction(logit, one.x, other)
    if share >= ADDITIVE:
        return ""
    return (
        f"its logit is a sum of functions of one modality each (interaction {share:.2g}): guided by it, modalities "
        "cannot meet one another"
    )


def gradients_of(module: nn.Module, question: Question, *, twice: bool = False) -> State:
    """Return the gradient of the logit by each state, and expect there to be one by each."""
    x = {m: state.clone().requires_grad_() for m, state in question.x.items()}
    with torch.enable_grad():
        logit = replace(question, x=x).ask(module)
        expect(logit.requires_grad, NO_GRADIENT)
        found = torch.autograd.grad(logit.float().sum(), list(x.values()), create_graph=twice, allow_unused=True)
    gradients = {}
    for m, gradient in zip(x, found, strict=True):
        if gradient is None:
            raise AssertionError(f"gradient by {m}: there is none, for the logit does not depend on that modality")
        gradients[f"gradient by {m}"] = gradient
    return gradients


def _x0_of(x: Mapping[str, Tensor]) -> State:
    """Return an x_0 that base models could predict from the states."""
    return {m: 0.5 * state for m, state in x.items()}
