"""Compiled blocks take the same steps, under the same names, and are the same checkpoint."""

import copy
import shutil
from functools import partialmethod

import pytest
import torch
from torch import nn

from tests.paradigms.test_activation_checkpointing import CASES
from tests.paradigms.test_ranks import Found, recipes, train
from tests.paradigms.tiny import build, recipe

# Dynamo looks at every tensor's gradient.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as ever, but run by PyTorch's own kernels: no C++ compiler."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))


def worst(found: Found, expected: Found) -> float:
    """Largest difference, as a share of each tensor's largest entry."""
    assert found.keys() == expected.keys()
    return max(
        float((found[key] - value).abs().max() / (value.abs().max() + 1e-6))
        for key, value in expected.items()
    )


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("name", ["clip", "batch norm", "davit", "dropped paths"])
@pytest.mark.usefixtures("traced")
def test_traced_blocks_take_the_same_steps(name: str, anew: bool) -> None:
    torch.manual_seed(3)
    expected = train(CASES[name], 0, 1)
    torch.manual_seed(3)
    found = train(CASES[name], 0, 1, compile_blocks=True, activation_checkpointing=anew)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2
    assert not torch._dynamo.utils.counters["graph_break"]
    assert worst(found, expected) < 1e-4


@pytest.mark.usefixtures("traced")
def test_many_blocks_with_rates_of_their_own_are_all_compiled() -> None:
    depth = 12
    settings = CASES["clip"].encoder_settings
    made = recipe(
        "clip", encoder_settings=dict(settings) | {"depth": depth, "drop_path_rate": 0.3}
    )  # fmt: skip
    train(made, 0, 1, compile_blocks=True)
    # And the text tower's one.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == depth + 1


@pytest.mark.parametrize("name", ["clip", "centering"])
def test_names_and_weights_are_as_they_were(name: str) -> None:
    paradigm = build(recipes()[name])
    before = copy.deepcopy(paradigm.state_dict())
    for tower in paradigm.towers():
        tower.compile_blocks()
    after = copy.deepcopy(paradigm).state_dict()
    assert list(after) == list(paradigm.state_dict()) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="Inductor needs a C++ compiler on a CPU")
@pytest.mark.parametrize("name", ["clip", "dropped paths"])
def test_compiled_kernels_take_nearly_the_same_steps(name: str) -> None:
    expected = train(CASES[name], 0, 1)
    found = train(CASES[name], 0, 1, compile_blocks=True)
    assert worst(found, expected) < 1e-3
    assert worst(found, expected) > 0
