"""The conformance kit passes an honest backbone and names the first broken promise of any other."""

import contextlib
import itertools
import socket
import subprocess
from dataclasses import dataclass, replace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from mmdisco_cli.diffusion.backbone import BackboneInfo, Condition, ModalityInfo, ModalityPlan, Plan, Request
from mmdisco_cli.diffusion.schedules import Levels, cosine
from mmdisco_cli.testing import check_backbone

INFO = ModalityInfo("audio", "epsilon", 2, 10.0, pooled_dim=3)


@dataclass(frozen=True)
class Tone:
    """The ideal denoiser of standard normal data: epsilon is sigma times x."""

    info: ModalityInfo = INFO
    fingerprint: str = "tone"

    def plan(self, request):
        return ModalityPlan((2, 5), (1, 10), 10.0, 1.0)

    def grid(self, steps, plan):
        return cosine().grid(steps)

    def levels_at(self, u, plan):
        return cosine().levels_at(u)

    def encode_prompt(self, prompts, negatives, plan):
        lengths = torch.tensor([[float(len(prompt))] for prompt in prompts])
        return Condition(positive=lengths, negative=0 * lengths, pooled=lengths.expand(-1, 3))

    def predict(self, x, t, condition, plan):
        return cosine().levels_at(t).sigma[:, None, None] * x + (
            0 if condition is None else 0.1 * condition[:, :, None]
        )

    def encode(self, media, plan):
        return media.unflatten(2, (5, 2)).mean(3).expand(-1, 2, -1)

    def decode(self, latent, plan):
        return latent.mean(1, keepdim=True).repeat_interleave(2, 2)


def swapped(levels: Levels) -> Levels:
    return Levels(levels.t, levels.sigma, levels.alpha)


def louder(levels: Levels) -> Levels:
    """Raise alpha faster than sigma, so that only sigma is wrong."""
    grown = (levels.t.max() - levels.t) / levels.t.max()
    return Levels(levels.t, levels.alpha + 10 * grown, 1 + grown)


DRAWS = itertools.count()


def drawn(x):
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(next(DRAWS)))


def of_the_batch(u):
    return cosine().levels_at(u * u.mean() / u.mean().clamp(min=1e-9) * (0.5 if len(u) == 1 else 1))


def ask_the_network(x):
    with contextlib.suppress(OSError):
        socket.getaddrinfo("example.invalid", 80)
    return x


def start_a_process(x):
    with contextlib.suppress(OSError):
        subprocess.run(["true"], check=False)
    return x


def no_negatives(tone, prompts, negatives):
    if negatives is not None:
        raise NotImplementedError("negative prompts")
    return Tone.encode_prompt(tone, prompts, None, None)


def beside(tone, prompts):
    condition = Tone.encode_prompt(tone, prompts, None, None)
    return replace(condition, positive=condition.positive + len(prompts))


def pooled_beside(tone, prompts):
    condition = Tone.encode_prompt(tone, prompts, None, None)
    return replace(condition, pooled=condition.pooled + len(prompts))


def flow_levels(levels):
    """Return other levels under the same times."""
    return levels._replace(alpha=1 - levels.t / levels.t.max(), sigma=levels.t / levels.t.max())


def longer_negative(tone, prompts):
    condition = Tone.encode_prompt(tone, prompts, None, None)
    return replace(condition, negative=torch.zeros(len(prompts), 2))


def without_gradients(tone, media, plan):
    torch.set_grad_enabled(False)  # for good, where a context manager was meant
    return Tone.encode(tone, media, plan)


def test_an_honest_backbone_passes():
    check_backbone(Tone(), Request(seconds=2.0))


@pytest.mark.parametrize(
    ("member", "broken", "message"),
    [
        ("fingerprint", "", "the fingerprint is empty"),
        ("info", replace(INFO, latent_channels=3), "latents do not have info's channels first"),
        ("info", replace(INFO, pooled_dim=4), r"pooled is \(2, 3\), not \(B, pooled_dim\)"),
        ("plan", lambda self, request: ModalityPlan((2, 0), (1, 10), 10.0, 1.0), "the plan has an empty axis"),
        ("plan", lambda self, request: ModalityPlan((2, 5), (1, 10), 10.0, torch.rand(()).item()), "two answers"),
        ("info", replace(INFO, kind="video"), r"media of shape \(1, 10\) are not laid out as video"),
        ("plan", lambda self, r: ModalityPlan((2, 5, 1, 1), (1, 10), 10.0, 1.0), "are not laid out as audio"),
        ("plan", lambda self, r: ModalityPlan((2, 5), (1, 10), 10.0, 3.0), "10 steps at 10 Hz are not 3 s"),
        ("grid", lambda self, steps, plan: cosine().grid(steps + 1), r"grid: t is \(6,\), not \(5,\)"),
        ("grid", lambda self, steps, plan: swapped(cosine().grid(steps)), "grid: alpha falls"),
        ("grid", lambda self, steps, plan: louder(cosine().grid(steps)), "grid: sigma rises"),
        ("grid", lambda self, steps, plan: Levels(*(v / 0 for v in cosine().grid(steps))), "grid: t is not finite"),
        ("levels_at", lambda self, u, plan: louder(cosine().levels_at(u)), "levels_at: sigma rises"),
        ("levels_at", lambda self, u, plan: swapped(cosine().levels_at(u)), "levels_at: alpha falls"),
        ("levels_at", lambda self, u, plan: of_the_batch(u), "t: audio's levels_at depends on the rest of the batch"),
        ("predict", lambda self, x, t, c, plan: x.mul_(2), "the caller's audio were written to"),
        ("predict", lambda self, x, t, c, plan: x * t.mul_(2)[:, None, None], "the caller's audio times were written"),
        ("predict", lambda self, x, t, c, plan: x[:, :1], r"predict gives \(2, 1, 5\), not \(2, 2, 5\)"),
        ("predict", lambda self, x, t, c, plan: x / 0, "values that are not finite"),
        ("predict", lambda self, x, t, c, plan: drawn(x), "two answers to one question"),
        ("predict", lambda self, x, t, c, plan: x + torch.randn_like(x), "global generator was drawn from"),
        ("predict", lambda self, x, t, c, plan: torch.manual_seed(0) and x, "global generator was drawn from, or seed"),
        ("predict", lambda self, x, t, c, plan: x.bfloat16(), r"predict gives torch\.bfloat16, not torch\.float32"),
        ("predict", lambda self, x, t, c, plan: start_a_process(x), r"started: subprocess\.Popen"),
        ("predict", lambda self, x, t, c, plan: x * t[0], "sample 1 is predicted otherwise alone"),
        ("predict", lambda self, x, t, c, plan: x * torch.ones((), requires_grad=True), "builds a graph"),
        ("predict", lambda self, x, t, c, plan: x + c.zero_()[:, :, None], "the caller's audio condition were written"),
        ("predict", lambda self, x, t, c, plan: x + c[:, :, None], "predict fails without a condition"),
        (
            "predict",
            lambda self, x, t, c, plan: x * (1 + (len(x) > 2)),
            "classifier-free guidance are predicted otherwise",
        ),
        ("predict", lambda self, x, t, c, plan: ask_the_network(x), "started: .*example.invalid"),
        ("encode_prompt", lambda self, p, n, plan: no_negatives(self, p, n), "fails where negative prompts are given"),
        ("encode_prompt", lambda self, p, n, plan: beside(self, p), "prompt 0 steers otherwise alone"),
        ("encode_prompt", lambda self, p, n, plan: pooled_beside(self, p), "prompt 0 is pooled otherwise alone"),
        ("levels_at", lambda self, u, plan: cosine().levels_at(u)._replace(t=0 * u), "levels_at: t names two levels"),
        ("grid", lambda self, n, plan: flow_levels(cosine().grid(n)), "grid and levels_at differ in alpha"),
        ("decode", lambda self, latent, plan: 255 * Tone.decode(self, latent, plan), r"far outside of \[-1, 1\]"),
        ("decode", lambda self, latent, plan: Tone.decode(self, latent / latent.abs().max(), plan), "decoded other"),
        ("encode", lambda self, media, plan: Tone.encode(self, media + media.mean(), plan), "encoded otherwise alone"),
        ("encode", lambda self, media, plan: Tone.encode(self, media, plan).double(), "encode gives torch.float64"),
        ("encode_prompt", lambda self, p, n, plan: longer_negative(self, p), "negative condition cannot be stacked"),
        ("decode", lambda self, latent, plan: latent, r"decode gives \(2, 2, 5\), not \(2, 1, 10\)"),
        (
            "decode",
            lambda self, latent, plan: Tone.decode(self, latent.mul_(2), plan),
            "the caller's audio were written to",
        ),
        (
            "decode",
            lambda self, latent, plan: drawn(Tone.decode(self, latent, plan)),
            "decode gives two answers to one",
        ),
        (
            "decode",
            lambda self, latent, plan: Tone.decode(self, latent, plan) / 0,
            "decode gives values that are not finite",
        ),
        ("encode", lambda self, media, plan: media, r"encode gives \(2, 1, 10\), not \(2, 2, 5\)"),
        ("encode", lambda self, media, plan: drawn(Tone.encode(self, media, plan)), "encode gives two answers to one"),
        ("encode", lambda self, media, plan: media.clamp_(0), "the caller's audio were written to"),
        ("encode", lambda self, media, plan: without_gradients(self, media, plan), "it changes torch's grad mode"),
    ],
)
def test_a_broken_promise_is_named(member, broken, message):
    dishonest = type("Dishonest", (Tone,), {member: broken})
    backbone = dishonest() if callable(broken) else Tone(**{member: broken})
    with pytest.raises(AssertionError, match=message):
        check_backbone(backbone)


@dataclass(frozen=True)
class Rescaled(Tone):
    """A tone with guidance of its own: twice what CFG alone would make."""

    def guided(self, x, t, positive, negative, scale, plan):
        one, other = (self.predict(x, t, seen, plan) for seen in (positive, negative))
        return 2 * (other + scale * (one - other))


def test_an_honest_backbone_with_guidance_of_its_own_passes():
    check_backbone(Rescaled())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda self, x, t, p, n, scale, plan: x + p.zero_()[:, :, None], "caller's audio condition were written"),
        (lambda self, x, t, p, n, scale, plan: x + n.add_(1)[:, :, None], "audio negative condition were written"),
        (lambda self, x, t, p, n, scale, plan: x[:, :1], r"guided gives \(2, 1, 5\), not \(2, 2, 5\)"),
        (lambda self, x, t, p, n, scale, plan: drawn(x), "guided gives two answers"),
        (lambda self, x, t, p, n, scale, plan: x / x.std(), "sample 0 is guided otherwise alone"),
    ],
)
def test_a_promise_that_its_own_guidance_breaks_is_named(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_backbone(type("Dishonest", (Rescaled,), {"guided": broken})())


@dataclass(frozen=True)
class Chord:
    """Two tones from one model, as a `JointBackbone`."""

    @property
    def info(self):
        return BackboneInfo((INFO, replace(INFO, modality="other")), "chord")

    def plan(self, request):
        one = Tone().plan(request)
        return Plan({"audio": one, "other": one})

    def grid(self, steps, plan):
        return dict.fromkeys(("audio", "other"), cosine().grid(steps))

    def levels_at(self, u, plan):
        return dict.fromkeys(("audio", "other"), cosine().levels_at(u))

    def encode_prompt(self, prompts, negatives, plan):
        return dict.fromkeys(("audio", "other"), Tone().encode_prompt(prompts, negatives, plan))

    def predict(self, x, t, condition, plan):
        return {m: Tone().predict(v, t[m], condition.get(m), plan) for m, v in x.items()}

    def encode(self, media, plan):
        return {m: Tone().encode(v, plan) for m, v in media.items()}

    def decode(self, latent, plan):
        return {m: Tone().decode(v, plan) for m, v in latent.items()}


def test_an_honest_model_of_two_modalities_passes():
    check_backbone(Chord(), Request(seconds=2.0))


@pytest.mark.parametrize(
    ("member", "broken", "message"),
    [
        ("plan", lambda self, r: Plan({"audio": Tone().plan(r)}), "plan and info name different modalities"),
        (
            "predict",
            lambda self, x, t, c, plan: {"audio": x["audio"]},
            r"predict gives \['audio'\], not \['audio', 'other'\]",
        ),
        (
            "predict",
            lambda self, x, t, c, plan: {m: v * t["audio"].mean() for m, v in x.items()},
            "sample 0 is predicted otherwise alone",
        ),
        ("decode", lambda self, latent, plan: {}, r"decode gives \[\], not \['audio', 'other'\]"),
    ],
)
def test_a_promise_that_a_joint_model_breaks_is_named(member, broken, message):
    with pytest.raises(AssertionError, match=message):
        check_backbone(type("Dishonest", (Chord,), {member: broken})())


@dataclass(frozen=True)
class Drawing(Tone):
    """A tone that draws by itself, by the keys of its samples."""

    keys: torch.Tensor | None = None

    def keyed(self, keys):
        return replace(self, keys=keys)

    def own(self, count):
        keys = [0] if self.keys is None else self.keys.tolist()
        draws = [torch.randn(1, 1, generator=torch.Generator().manual_seed(key)) for key in keys]
        return torch.stack(draws * (count // len(draws)))

    def predict(self, x, t, condition, plan):
        return Tone.predict(self, x, t, condition, plan) + 0.1 * self.own(len(x))

    def decode(self, latent, plan):
        return Tone.decode(self, latent, plan) + self.own(len(latent))


def test_a_model_may_draw_by_its_samples_keys():
    check_backbone(Drawing())


@pytest.mark.parametrize(("member", "how"), [("predict", "draws otherwise alone"), ("decode", "is decoded otherwise")])
def test_draws_that_follow_the_batch_are_noticed(member, how):
    class Sharing(Drawing):
        def keyed(self, keys):
            # All samples draw by the last one's key, in one of its members.
            return Sharing(keys=keys)

    def shared(self, *arguments):
        own = self if self.keys is None else replace(self, keys=self.keys[-1:].expand(len(self.keys)))
        return getattr(Drawing, member)(own, *arguments)

    setattr(Sharing, member, shared)
    with pytest.raises(AssertionError, match=f"sample 0 {how}"):
        check_backbone(Sharing())


def test_a_memory_that_outlives_a_run_is_noticed():
    steps = []

    class Remembering(Tone):
        def predict(self, x, t, condition, plan):
            if t[0] == t[-1] and len(t) > 1:  # all samples at one level: a sampler's step
                steps.append(t)
            return Tone.predict(self, x, t, condition, plan) + (len(steps) if t[0] == t[-1] and len(t) > 1 else 0)

    with pytest.raises(AssertionError, match="one seed gives two sets of samples"):
        check_backbone(Remembering())


def test_a_model_without_noise_is_noticed():
    class Constant(Tone):
        def predict(self, x, t, condition, plan):
            return torch.zeros_like(x)

    with pytest.raises(AssertionError, match="two seeds give one set of samples"):
        check_backbone(Constant(info=replace(INFO, prediction="sample")))


def test_a_model_that_changes_beside_a_discriminator_is_noticed():
    others = []

    class Jealous(Tone):
        def predict(self, x, t, condition, plan):
            return Tone.predict(self, x, t, condition, plan) + len(others)

    hook = register_module_forward_pre_hook(lambda module, inputs: others.append(module))
    try:
        with pytest.raises(AssertionError, match="weight 0 changes the samples of the model alone"):
            check_backbone(Jealous())
    finally:
        hook.remove()
