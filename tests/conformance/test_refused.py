"""Models that the rules do not fit are refused, with an error that says where and why; none is mapped wrongly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from refused import CASES
from test_conformance import state
from torch import nn

import heedmap


def stirred(model: nn.Module) -> nn.Module:
    """A new model has weights that are zero (the last norm of a block, layer scale): they would hide what mixes tokens."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.std() < 1e-3:
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prepare", [nn.Module.eval, stirred])
@pytest.mark.parametrize("name", list(CASES))
def test_refused(name: str, prepare: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = prepare(case.build().eval()), case.inputs()
    before = state(model)
    with pytest.raises(case.error) as error:
        heedmap.explain(model, inputs)
    after = state(model)
    own = {"versions", "hooks"}  # ConViT fills a buffer of its own, transformers installs hooks of its own
    assert {k: v for k, v in after.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    assert len(str(error.value)) > 60
