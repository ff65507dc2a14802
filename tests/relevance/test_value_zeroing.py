"""Value zeroing against the models' own layers, run again for every token with its values set to zero, in float64."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.errors import AttentionError, UnfollowedAttentionError
from oracles.value_zeroing import value_zeroing

PARTS = {
    "bert": ("bert.encoder.layer", "attention.self.value", 0),
    "vit": ("vit.layers", "attention.v_proj", 0),
    "llama": ("model.layers", "self_attn.v_proj", -1),
}
"""Where the layers are, where in a layer v is made, and the row that is read."""


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(5)
    inputs = CASES[name].inputs()
    return livened(CASES[name].build()).double(), {
        k: v.double() if v.is_floating_point() else v for k, v in inputs.items()
    }


@pytest.mark.parametrize("budget", [4096, 2**28])
@pytest.mark.parametrize("sample", [0, 1])
@pytest.mark.parametrize("name", PARTS)
def test_the_map_is_that_of_the_layers_run_again(name: str, sample: int, budget: int) -> None:
    model, inputs = built(name)
    blocks, value, row = PARTS[name]
    given = (
        {**inputs, "use_cache": False} if name == "llama" else inputs
    )  # a layer is run again without its earlier keys
    wanted = value_zeroing(model, given, blocks, value, sample)[row].copy()
    found = heedmap.explain(model, inputs, method="value_zeroing", memory_budget=budget, drop_self=False)
    (segment,) = found.segments.values()
    wanted = wanted[1:] if name == "vit" else wanted
    assert wanted.min() < 0.8 * wanted.max()
    np.testing.assert_allclose(segment.relevance[sample], wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("start", [1, 2])
def test_it_can_begin_above_the_first_layer(start: int) -> None:
    model, inputs = built("bert")
    whole = heedmap.explain(model, inputs, method="value_zeroing", full=True).maps[("text", "text")]
    above = heedmap.explain(model, inputs, method="value_zeroing", full=True, start_layer=start).maps[("text", "text")]
    assert whole.shape == above.shape
    assert not torch.allclose(whole, above)
    torch.testing.assert_close(above.sum(-1), torch.ones_like(above[..., 0]))


def test_the_row_that_is_read_is_a_row_of_the_whole_map() -> None:
    model, inputs = built("bert")
    found = heedmap.explain(model, inputs, method="value_zeroing", full=True, drop_self=False)
    torch.testing.assert_close(found["text"], found.maps[("text", "text")][:, 0])


def test_padding_gets_nothing_and_changes_nothing() -> None:
    model, inputs = built("bert")
    alone = heedmap.explain(model, inputs, method="value_zeroing")["text"]
    padded = {
        "input_ids": torch.cat([inputs["input_ids"], torch.zeros(2, 3, dtype=torch.long)], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.zeros(2, 3, dtype=torch.long)], 1),
    }
    found = heedmap.explain(model, padded, method="value_zeroing")["text"]
    torch.testing.assert_close(found[:, :-3], alone)
    assert not found[:, -3:].any()


class Written(nn.Module):
    """Layers that write their residual connections in place, sequence first within, without a norm after them."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place, self.embedding = in_place, nn.Embedding(20, 8)
        self.attentions = nn.ModuleList(nn.MultiheadAttention(8, 2) for _ in range(3))
        self.fed, self.head = nn.ModuleList(nn.Linear(8, 8) for _ in range(3)), nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(0, 1).clone()
        for attention, fed in zip(self.attentions, self.fed, strict=True):
            heard = attention(x, x, x)[0]
            if self.in_place:
                x += heard
                x += fed(x).relu()
            else:
                x = x + heard
                x = x + fed(x).relu()
        return self.head(x[0])


def test_sums_in_place_are_the_same() -> None:
    tokens = torch.randint(0, 20, (2, 5))
    maps = []
    for in_place in (False, True):
        torch.manual_seed(1)
        model = Written(in_place).double().eval()
        maps.append(heedmap.explain(model, tokens, method="value_zeroing")["text"])
    assert maps[0].max() > 1e-3
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize(
    ("name", "why"),
    [("bart", "cross-attention"), ("llava", "takes in the tokens of another"), ("squeezebert", r"shape \(2, 32, 7\)")],
)
def test_flows_in_which_values_cannot_be_zeroed_are_refused(name: str, why: str) -> None:
    torch.manual_seed(5)
    with pytest.raises(UnfollowedAttentionError, match=f"value_zeroing.*({why}).*choose 'generic'"):
        heedmap.explain(CASES[name].build(), CASES[name].inputs(), method="value_zeroing")


class Whimsical(nn.Module):
    """Leaves its last layer out from the fourth pass on."""

    def __init__(self) -> None:
        super().__init__()
        self.passes, self.embedding = 0, nn.Embedding(20, 8)
        self.attentions = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))

    def forward(self, tokens: Tensor) -> Tensor:
        self.passes += 1
        x = self.embedding(tokens)
        for attention in list(self.attentions)[: 1 if self.passes > 3 else 2]:
            x = x + attention(x, x, x)[0]
        return x[:, 0]


def test_a_model_that_does_something_else_in_a_further_pass_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(AttentionError, match="not like the recorded one"):
        heedmap.explain(Whimsical(), torch.arange(8).reshape(2, 4), method="value_zeroing")
