"""heedmap against dense oracles, in float64: windows, merges, and mixers that are no attention."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from placed_models import CHANNEL, MERGES, MIXERS, PLAIN, SCALE, WINDOWS, Case, apart, label
from torch import Tensor, nn

import heedmap

CLOSE = 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", PLAIN.values(), ids=PLAIN)
def test_plain_models(case: Case, batch: int) -> None:
    assert_agrees(case, batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", WINDOWS.values(), ids=WINDOWS)
def test_windows(case: Case, batch: int) -> None:
    assert_agrees(case, batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", MERGES.values(), ids=MERGES)
def test_merges(case: Case, batch: int) -> None:
    assert_agrees(case, batch)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("case", MIXERS.values(), ids=MIXERS)
def test_mixers(case: Case, batch: int) -> None:
    assert_agrees(case, batch)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["swin, classes", "swin, three stages", "segformer", "pvt"])
def test_merged_rows_are_told_without_what_they_are_made_of(name: str, full: bool) -> None:
    case = {**WINDOWS, **MERGES}[name]
    model, inputs = case.model(), case.given(2)
    found, expected = case.found(model, inputs, drop_self=True, full=full), case.added(model, inputs)
    assert apart(found, expected) <= CLOSE


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", ["bert", "vit", "convbert", "swin, classes"])
def test_the_identity_is_dropped_everywhere(name: str, full: bool) -> None:
    case = replace({**PLAIN, **MIXERS, **WINDOWS}[name], row=None, target=mean)
    model, inputs = case.model(), case.given(2)
    found, expected = case.found(model, inputs, drop_identity=True, full=full), case.added(model, inputs)
    assert apart(found, expected) <= CLOSE


class UpTo(nn.Module):
    """The states of a ConvBERT after some of its layers; the others run, and nothing comes of them."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.model(input_ids, output_hidden_states=True).hidden_states[self.layers]


@pytest.mark.parametrize("options", [{}, {"aggregate": False}, {"aggregate": False, "full": True}], ids=str)
def test_a_layer_that_the_target_does_not_read_changes_nothing(options: dict[str, bool]) -> None:
    case = MIXERS["convbert"]
    two, inputs = case.model(), case.given(2)
    three = deepcopy(two)
    three.encoder.layer.append(deepcopy(two.encoder.layer[1]))
    found, expected = (
        heedmap.explain(UpTo(model, 2), inputs, target=lambda states: SCALE * states[:, -1, CHANNEL], **options)["text"]
        for model in (three, two)
    )
    assert apart(found, expected) <= CLOSE


def mean(output: Any) -> Tensor:
    """A feature's mean over the rows; where there are classes, one of them."""
    return label(output) if "logits" in output else SCALE * output.last_hidden_state[..., CHANNEL].mean(1)


def assert_agrees(case: Case, batch: int) -> None:
    """Without its own entry only where the row that is read is a token that began."""
    model, inputs = case.model(), case.given(batch)
    for drop_self in (False,) if case.own is None else (False, True):
        found = case.found(model, inputs, drop_self=drop_self)
        assert apart(found, case.expected(model, inputs, drop_self=drop_self)) <= CLOSE
