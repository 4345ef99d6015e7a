import torch
from toy_backbones import Toy, ToyPair

from mmdisco_cli.diffusion.backbone import BackboneInfo, Request, as_joint


def test_one_modality_becomes_the_one_entry_case() -> None:
    toy = Toy()
    joint = as_joint(toy)
    assert joint.info == BackboneInfo((toy.info,), "toy")
    plan = joint.plan(Request(seconds=2.0))
    inner = plan.modalities["audio"]
    assert inner == toy.plan(Request(seconds=2.0))
    assert plan.notes == inner.notes == ("seconds snapped",)
    u = torch.rand(4)
    assert torch.equal(joint.grid(5, plan)["audio"].t, toy.grid(5, inner).t)
    assert torch.equal(joint.levels_at(u, plan)["audio"].sigma, toy.levels_at(u, inner).sigma)
    condition = joint.encode_prompt(["ab", "c"], ["", ""], plan)["audio"]
    assert isinstance(condition.positive, torch.Tensor)
    assert condition.positive.tolist() == [[2.0], [1.0]]
    x = torch.randn(4, 3)
    with torch.no_grad():
        expected = toy.predict(x, u, None, inner)
        assert torch.equal(joint.predict({"audio": x}, {"audio": u}, {}, plan)["audio"], expected)
    media = joint.decode({"audio": x}, plan)
    assert media["audio"].shape == (4, *inner.media_shape)
    assert torch.equal(joint.encode(media, plan)["audio"], x)


def test_wrapping_is_idempotent() -> None:
    wrapped, pair = as_joint(Toy()), ToyPair()
    assert as_joint(wrapped) is wrapped
    assert as_joint(pair) is pair


def test_a_model_of_one_modality_may_say_what_else_its_samples_depend_on() -> None:
    class Varied(Toy):
        variant = "two decoders"

    assert as_joint(Varied()).info.variant == "two decoders"
