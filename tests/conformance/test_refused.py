"""Models that the rules do not fit are refused, with an error that says where and why; none is mapped wrongly."""

from __future__ import annotations

import pytest
import torch
from refused import CASES
from test_conformance import state

import heedmap


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(CASES))
def test_refused(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model, inputs = case.build().eval(), case.inputs()
    before = state(model)
    with pytest.raises(case.error) as error:
        heedmap.explain(model, inputs)
    after = state(model)
    own = {"versions", "hooks"}  # ConViT fills a buffer of its own, transformers installs hooks of its own
    assert {k: v for k, v in after.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    assert len(str(error.value)) > 60
