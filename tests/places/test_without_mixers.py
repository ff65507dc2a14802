"""``mixers=False``: what is no softmax attention is refused, with where it is and what works; all else stays to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from placed_models import MIXERS, PLAIN, WINDOWS, Case
from test_scans import CASES, ids, target
from torch import Tensor, nn

import heedmap
from heedmap.errors import AttentionError, OptionError

pytestmark = pytest.mark.filterwarnings("ignore")

REFUSED = r"is no softmax attention.*mixers=False turns off: leave it out.*method='integrated_gradients', 'occlusion'"


def placed(case: Case) -> tuple[nn.Module, dict[str, Tensor], Callable[[Any], Tensor]]:
    return case.model(), case.given(1), case.target


def scanning(name: str) -> tuple[nn.Module, dict[str, Tensor], Callable[[Any], Tensor]]:
    return CASES[name].model(), ids(1), target


MIXING = {
    "convbert": lambda: placed(MIXERS["convbert"]),
    "fnet": lambda: placed(MIXERS["fnet"]),
    "swin": lambda: placed(WINDOWS["swin, classes"]),
    "mamba": lambda: scanning("mamba"),
    "bamba": lambda: scanning("bamba"),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_is_refused_whatever_was_proved_before(name: str) -> None:
    model, inputs, score = MIXING[name]()
    before = heedmap.explain(model, inputs, target=score)
    assert [note for note in before.flow.notes if "extension of the paper" in note]
    with pytest.raises(AttentionError, match=REFUSED):
        heedmap.explain(model, inputs, target=score, mixers=False)
    with pytest.raises(AttentionError, match="is no softmax attention"):
        heedmap.inspect(model, inputs, target=score, mixers=False)
    again = heedmap.explain(model, inputs, target=score, mixers=True)
    for segment in before.segments:
        assert torch.equal(before[segment], again[segment])


def test_the_refusal_has_the_cause_of_the_first_recorder() -> None:
    model, inputs, score = MIXING["convbert"]()
    with pytest.raises(AttentionError, match=r"by a convolution or pooling beside .*modeling_convbert\.py:\d+"):
        heedmap.explain(model, inputs, target=score, mixers=False)


def test_what_needs_no_attention_works_as_ever() -> None:
    model, inputs, score = MIXING["convbert"]()
    on, off = (
        heedmap.explain(model, inputs, target=score, method="input_x_gradient", mixers=m)["text"] for m in (True, False)
    )
    assert torch.equal(on, off)
    found = heedmap.explain(model, inputs, target=score, method="auto", mixers=False)
    assert found.method == "integrated_gradients"
    assert heedmap.explain(model, inputs, target=score, method="auto").method == "heedmap"


@pytest.mark.parametrize("name", ["bert", "vit", "timesformer"])
def test_models_of_attention_alone_are_the_same(name: str) -> None:
    """Plain ones, and attention in rows of space and of time, which the second recorder follows."""
    case = {**PLAIN, **WINDOWS}[name]
    model, inputs, score = placed(case)
    on, off = (heedmap.explain(model, inputs, target=score, mixers=m) for m in (True, False))
    for segment in on.segments:
        assert torch.equal(on[segment], off[segment])
    assert on.flow == off.flow
    assert not [note for note in on.flow.notes if "extension" in note]


def test_attention_without_softmax_is_a_mixer() -> None:
    name = next(n for n in MIXERS if "linear" in n)
    model, inputs, score = placed(MIXERS[name])
    with pytest.raises(AttentionError, match="is no softmax attention"):
        heedmap.explain(model, inputs, target=score, mixers=False)


def test_it_is_true_or_false() -> None:
    model, inputs, score = placed(PLAIN["bert"])
    with pytest.raises(OptionError, match="mixers is 'no'; expected True or False"):
        heedmap.explain(model, inputs, target=score, mixers="no")
