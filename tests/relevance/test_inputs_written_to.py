"""A model that writes to its inputs in place: each run has copies, so the map is that of the inputs as given, and they stay so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heedmap
from heedmap.attention.forward import output_of
from heedmap.methods import METHODS

INPUTS = {
    "input_ids": torch.tensor([[3, 7, 9, 11, 7], [1, 2, 3, 4, 5]]),
    "attention_mask": torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.0]]),
    "inputs_embeds": torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)),
}
"""Whole numbers, a mask that it makes additive, and numbers that are explained."""
NOT_OF_THESE = {"tam", "dex_ar"}
"""Methods of what a model says of a picture among words."""


class Writes(nn.Module):
    """Two layers of attention, which write to all inputs, or to copies of them."""

    def __init__(self, copies: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.copies = copies
        self.words, self.head = nn.Embedding(50, 16), nn.Linear(16, 3)
        self.layers = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        if self.copies:
            input_ids, attention_mask, inputs_embeds = (
                None if t is None else t.clone() for t in (input_ids, attention_mask, inputs_embeds)
            )
        assert attention_mask is not None
        hidden = self.words(input_ids.add_(1)) if input_ids is not None else inputs_embeds.mul_(1.5)  # type: ignore[union-attr]
        bias = attention_mask.sub_(1).mul_(50)
        for layer in self.layers:
            q, k, v = (part[:, None] for part in layer(hidden).chunk(3, -1))
            hidden = hidden + F.scaled_dot_product_attention(q, k, v, bias[:, None, None])[:, 0]
        return self.head(hidden[:, 0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", sorted(METHODS.keys() - NOT_OF_THESE))
@pytest.mark.parametrize("name", ["input_ids", "inputs_embeds"])
def test_the_map_is_of_the_inputs_as_given_and_they_stay_so(method: str, name: str) -> None:
    asked = {key: INPUTS[key] for key in (name, "attention_mask")}
    given = {key: value.clone() for key, value in asked.items()}
    found, expected = (
        heedmap.explain(Writes(copies).eval(), given, target=2, method=method) for copies in (False, True)
    )
    assert all(torch.equal(given[key], asked[key]) for key in given)
    assert torch.equal(found.scores, expected.scores)
    for key, segment in expected.segments.items():
        assert segment.relevance.abs().max() > 0
        assert torch.allclose(found[key], segment.relevance, rtol=1e-5, atol=1e-7)


def test_what_it_answers_is_of_the_inputs_as_given_and_they_stay_so() -> None:
    given = {key: INPUTS[key].clone() for key in ("input_ids", "attention_mask")}
    first, again = (output_of(Writes(copies=False), given) for _ in range(2))
    assert torch.equal(first, again)
    assert all(torch.equal(given[key], INPUTS[key]) for key in given)
