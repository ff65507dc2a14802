"""Grad-ECLIP against the models' own q, k, v and gradients, key by key, in float64; and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import heedmap
from conformance.tiny_models import CASES, livened
from heedmap.attention.attention import Attention, Layout
from heedmap.errors import UnfollowedAttentionError
from heedmap.methods.layers import asked
from oracles.grad_eclip import grad_eclip

PARTS = {
    "bert": ("bert.encoder.layer.{}.attention", "self.query", "self.key", "self.value", "output.dense"),
    "vit": ("vit.layers.{}.attention", "q_proj", "k_proj", "v_proj", "o_proj"),
    "bart": ("model.decoder.layers.{}.encoder_attn", "q_proj", "k_proj", "v_proj", "out_proj"),
    "clip": ("vision_model.encoder.layers.{}.self_attn", "q_proj", "k_proj", "v_proj", "out_proj"),
}
"""Where attention number {} is, and in it the projections."""


def built(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(5)
    inputs = CASES[name].inputs()
    return livened(CASES[name].build()).double(), {
        k: v.double() if v.is_floating_point() else v for k, v in inputs.items()
    }


def score(output: Any) -> Tensor:
    if "logits_per_image" in output:
        return output.logits_per_image.diagonal()
    return output.logits[:, -1].amax(-1) if output.logits.dim() == 3 else output.logits.amax(-1)


def wanted(name: str, layer: int, row: int) -> np.ndarray:
    """The map of the first sample."""
    model, inputs = built(name)
    where, *parts = PARTS[name]
    attention, seen = model.get_submodule(where.format(layer)), dict[str, Tensor]()
    for part in parts[:3]:
        attention.get_submodule(part).register_forward_hook(
            lambda _, __, result, part=part: seen.update({part: result})
        )
    attention.get_submodule(parts[3]).register_forward_pre_hook(lambda _, args: seen.update(out=args[0]))
    (gradient,) = torch.autograd.grad(score(model(**inputs)).sum(), seen["out"])
    query, key, value = (seen[part][0].detach().numpy() for part in parts[:3])
    own = None if name == "bart" else row % len(key)
    return grad_eclip(gradient[0, row].numpy(), query[row], key, value, list(range(len(key))), own)


@pytest.mark.parametrize("layer", [-1, 0])
@pytest.mark.parametrize(
    ("name", "row", "segment"), [("bert", 0, "text"), ("vit", 0, "image"), ("bart", -1, "text"), ("clip", 0, "image")]
)
def test_the_map_is_that_of_the_last_layer_key_by_key(name: str, row: int, segment: str, layer: int) -> None:
    model, inputs = built(name)
    layers = 2 if name == "bart" else len(model.get_submodule(PARTS[name][0].split(".{}")[0]))
    expected = wanted(name, layer % layers, row)
    found = heedmap.explain(model, inputs, target=score, method="grad_eclip", layer=layer, memory_budget=4096)
    if name == "bert":
        expected[row] = 0
    expected = expected[1:] if segment == "image" else expected
    assert expected.max() > 1e-9
    np.testing.assert_allclose(found[segment][0], expected, rtol=1e-5, atol=1e-8 * expected.max())


def test_eager_attention_has_the_map_of_fused_attention() -> None:
    model, inputs = built("vit")
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    fused, inline = (heedmap.explain(m, inputs, method="grad_eclip") for m in (model, eager))
    assert {a.form for a in inline.flow.attentions} == {"softmax"} != {a.form for a in fused.flow.attentions}
    torch.testing.assert_close(inline["image"], fused["image"])


class Turned(nn.Module):
    """Attention by k qᵀ, which is turned after its softmax; or by q kᵀ."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.turned, self.embedding, self.head = turned, nn.Embedding(20, 8), nn.Linear(8, 3)
        self.projected = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        q, k, v = (p(x)[:, None] for p in self.projected)
        probs = (k @ q.transpose(-1, -2)).softmax(-2).transpose(-1, -2) if self.turned else (q @ k.mT).softmax(-1)
        return self.head((x + (probs @ v)[:, 0])[:, 0])


def test_a_transposed_product_has_the_same_queries() -> None:
    torch.manual_seed(0)
    plain, turned = Turned(False), Turned(True)
    turned.load_state_dict(plain.state_dict())
    words = torch.arange(10).reshape(2, 5)
    maps = [heedmap.explain(m, words, target=0, method="grad_eclip")["text"] for m in (plain, turned)]
    assert float(maps[0].max()) > 1e-6
    torch.testing.assert_close(maps[1], maps[0])


def test_where_q_and_k_are_not_known_there_is_no_map() -> None:
    probs = torch.full((1, 1, 2, 2), 0.5)
    attention = Attention(
        0, "softmax", torch.zeros(1, 1, 2, 3), Layout(None, 1), torch.zeros(1, 1, 2, 3), 2, probs=probs
    )
    with pytest.raises(UnfollowedAttentionError, match=r"compares q and k.*choose 'generic' or 'legrad'"):
        asked(attention)
