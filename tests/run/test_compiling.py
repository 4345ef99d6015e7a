"""What only predicts is compiled in its place; where no compiler works, training goes on without one."""

import shutil

import pytest
import torch
from torch import Tensor, nn

from mmdisco_cli.tensors.compiling import Compiling


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x).tanh()
        return out


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Inner(), Inner()])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


def _work(networks: list[nn.Module]):  # type: ignore[no-untyped-def]
    @torch.no_grad()
    def work(x: Tensor) -> Tensor:
        return sum((network(x) for network in networks), torch.zeros(()))

    return work


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU: no g++ here")
def test_the_outermost_networks_are_compiled_and_predict_the_same() -> None:
    networks: list[nn.Module] = [Outer(), Inner()]
    said: list[str] = []
    plain, compiled = _work(networks), Compiling(said.append)(_work(networks))
    for rows in (3, 3, 5):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)
    assert said == []
    assert all(network._compiled_call_impl is not None for network in networks)
    assert all(part._compiled_call_impl is None for part in networks[0].parts)  # type: ignore[union-attr]
    assert next(name for name, _ in networks[0].named_parameters()) == "parts.0.linear.weight"


def test_without_a_compiler_it_says_so_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: nn.Module) -> None:
        def fail(*arguments: object) -> None:
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nmore lines")

        network._compiled_call_impl = fail

    monkeypatch.setattr(nn.Module, "compile", broken)
    network, said = Inner(), list[str]()
    work = Compiling(said.append)(_work([network]))
    x = torch.randn(2, 4)
    expected = network(x).detach()
    for _ in range(3):
        torch.testing.assert_close(work(x), expected)
    assert said == [
        "note: train.compile: base models run uncompiled: RuntimeError: InvalidCxxCompiler: no working C++ compiler "
        "found"
    ]


def test_an_error_of_the_networks_own_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda network: None)
    said: list[str] = []
    work = Compiling(said.append)(_work([Inner()]))
    work(torch.randn(2, 4))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        work(torch.randn(2, 5))


def test_second_derivatives_are_why_a_discriminator_is_not_compiled() -> None:
    """When torch can do it, it may be: this test then fails."""
    network = torch.compile(nn.Linear(2, 1), backend="aot_eager")
    x = torch.randn(3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.square().sum().backward()
