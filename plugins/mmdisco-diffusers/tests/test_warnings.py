"""A network that warns of how it is called fails the test where our code calls it, and not where a pipeline does."""

import warnings

import pytest
import torch

DECORATORS = """
import warnings

def renamed(function):
    def wrapper(*args, **kwargs):
        if "old" in kwargs:
            warnings.warn("`old` is deprecated", FutureWarning, stacklevel=2)
        return function(*args, **kwargs)
    return wrapper

def said_twice(function):
    def wrapper(self, *args, **kwargs):
        return function(self, *args, **kwargs)
    return wrapper

def pipeline(network):
    return network(0, old=1)
"""
"""What libraries do to the calls of their networks."""
FOREIGN = {"__name__": "transformers.utils.generic"}
exec(DECORATORS, FOREIGN)


class Once(torch.nn.Module):
    @FOREIGN["renamed"]
    def forward(self, x, old=None):
        return x


class Twice(torch.nn.Module):
    @FOREIGN["said_twice"]
    @FOREIGN["renamed"]
    def forward(self, x, old=None):
        return x


class Around(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, old=None):
        return self.inner(x, old=old)


@pytest.mark.parametrize("network", [Once(), Twice()])
@pytest.mark.parametrize("module", ["mmdisco_diffusers.audioldm2", "mmdisco_cli.diffusion.denoise", "tiny", "oracles"])
def test_our_call_of_a_network_fails(module, network):
    with pytest.raises(FutureWarning, match="`old` is deprecated"):
        exec("network(0, old=1)", {"__name__": module, "network": network})


@pytest.mark.parametrize("network", [Once(), Twice(), Around(Once()), Around(Twice())])
def test_a_tests_call_fails_and_so_does_that_of_a_network_of_ours(network):
    with pytest.raises(FutureWarning, match="`old` is deprecated"):
        network(0, old=1)


@pytest.mark.parametrize("network", [Once(), Twice()])
def test_a_pipelines_own_call_only_warns(network):
    with warnings.catch_warnings(record=True) as caught:
        FOREIGN["pipeline"](network)
    assert [str(warning.message) for warning in caught] == ["`old` is deprecated"]
