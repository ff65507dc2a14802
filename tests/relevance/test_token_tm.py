"""TokenTM against whole matrices of the models' own states and eager attention, in float64; and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.errors import OptionError, UnfollowedAttentionError
from oracles.token_tm import Layer, token_tm

PARTS: dict[str, dict[str, str]] = {
    "bert": {
        "blocks": "bert.encoder.layer",
        "value": "attention.self.value",
        "projection": "attention.output.dense",
        "fed": "output.dense",
        "middle": "attention.output.LayerNorm",
    },
    "vit": {
        "blocks": "vit.layers",
        "value": "attention.v_proj",
        "projection": "attention.o_proj",
        "fed": "mlp",
        "middle": "layernorm_after",
    },
    "llama": {
        "blocks": "model.layers",
        "value": "self_attn.v_proj",
        "projection": "self_attn.o_proj",
        "fed": "mlp",
        "middle": "post_attention_layernorm",
    },
}
"""Where a block has its parts; ``middle``: the norm of which the result (post-norm: bert) or the input is what the feed-forward's
connection passes by."""


@cache
def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(5)
    inputs = CASES[name].inputs()
    return livened(CASES[name].build()).double(), {
        k: v.double() if v.is_floating_point() else v for k, v in inputs.items()
    }


@cache
def layers(name: str) -> list[Layer]:
    """Each block of the model's own eager run, of the first sample."""
    model, inputs = built(name)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    parts, seen = PARTS[name], dict[str, list[tuple[Tensor, Tensor]]]()

    def keeping(part: str) -> Callable[..., None]:
        def keep(_: nn.Module, args: Any, kwargs: dict[str, Any], result: Any) -> None:
            given = args[0] if args else kwargs["hidden_states"]
            seen.setdefault(part, []).append((given, result[0] if isinstance(result, tuple) else result))

        return keep

    blocks = list(eager.get_submodule(parts["blocks"]))
    for block in blocks:
        block.register_forward_hook(keeping("blocks"), with_kwargs=True)
        for part in ("value", "projection", "fed", "middle"):
            block.get_submodule(parts[part]).register_forward_hook(keeping(part), with_kwargs=True)
    found = eager(**inputs, output_attentions=True)
    logits = found.logits[:, -1] if found.logits.dim() == 3 else found.logits
    gradients = torch.autograd.grad(logits.amax(-1).sum(), found.attentions)
    made = []
    for number, block in enumerate(blocks):
        value, weight = seen["value"][number][1][0], block.get_submodule(parts["projection"]).weight
        heads = found.attentions[number].shape[1]
        width = weight.shape[1] // heads
        groups = heads // (value.shape[-1] // width)
        per_head = [
            value[:, (h // groups) * width : (h // groups + 1) * width] @ weight[:, h * width : (h + 1) * width].T
            for h in range(heads)
        ]
        middle = seen["middle"][number][1 if name == "bert" else 0][0]
        tensors = (
            found.attentions[number][0],
            gradients[number][0],
            seen["blocks"][number][0][0],
            seen["projection"][number][1][0],
            torch.stack(per_head),
            middle,
            seen["fed"][number][1][0],
        )
        made.append(Layer(*(t.detach().numpy() for t in tensors)))
    return made


@pytest.mark.parametrize("reading", ["heads", "stream"])
@pytest.mark.parametrize(("name", "row"), [("bert", 0), ("vit", 0), ("llama", -1)])
def test_the_map_is_that_of_whole_matrices(name: str, row: int, reading: str) -> None:
    model, inputs = built(name)
    wanted = token_tm(layers(name), of_heads=reading == "heads")[row].copy()
    found = heedmap.explain(model, inputs, method="token_tm", reading=reading, memory_budget=4096)
    (segment,) = found.segments.values()
    wanted[row] = 0
    wanted = wanted[1:] if name == "vit" else wanted
    assert wanted.max() > 1e-6
    np.testing.assert_allclose(segment.relevance[0], wanted, rtol=1e-5, atol=1e-8)


def test_the_two_readings_are_not_the_same_map() -> None:
    model, inputs = built("vit")
    heads, stream = (heedmap.explain(model, inputs, method="token_tm", reading=r)["image"] for r in ("heads", "stream"))
    assert not torch.allclose(heads / heads.sum(), stream / stream.sum(), rtol=1e-3)


@pytest.mark.parametrize("start", [1, 2])
def test_it_can_begin_above_the_first_layer(start: int) -> None:
    model, inputs = built("bert")
    wanted = token_tm(layers("bert")[start:], of_heads=True)[0].copy()
    wanted[0] = 0
    found = heedmap.explain(model, inputs, method="token_tm", start_layer=start)
    np.testing.assert_allclose(found["text"][0], wanted, rtol=1e-5, atol=1e-8)


class Parallel(nn.Module):
    """A block whose feed-forward network stands beside its attention; the order of its sum is given."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order, self.embedding = order, nn.Embedding(20, 8)
        self.attention, self.fed = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for _ in range(2):
            attended, fed = self.attention(x, x, x)[0], self.fed(x).relu()
            x = attended + fed + x if self.order == "branches first" else x + attended + fed
        return self.head(x[:, 0])


@pytest.mark.parametrize("order", ["branches first", "one by one"])
def test_parallel_branches_are_refused(order: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(UnfollowedAttentionError, match=r"not one residual connection.*choose 'generic'"):
        heedmap.explain(Parallel(order), torch.arange(6).reshape(2, 3), method="token_tm")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bart", "cross-attention"),
        ("lxmert", "cross-attention"),
        ("llava", "takes in the tokens of another"),
        ("squeezebert", r"shape \(2, 32, 7\)"),
    ],
)
def test_flows_without_a_definition_are_refused(name: str, why: str) -> None:
    torch.manual_seed(5)
    with pytest.raises(UnfollowedAttentionError, match=f"{why}.*choose 'generic'"):
        heedmap.explain(CASES[name].build(), CASES[name].inputs(), method="token_tm")


def test_an_unknown_reading_is_refused() -> None:
    model, inputs = built("bert")
    with pytest.raises(OptionError, match="expected one of 'heads', 'stream'"):
        heedmap.explain(model, inputs, method="token_tm", reading="both")
