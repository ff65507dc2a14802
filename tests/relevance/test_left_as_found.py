"""Layers that handle their own weights as they run: their maps, and what they answer afterwards, to the last bit.

What else is left as it was found, and after which calls: tests/test_left_as_found.py.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import heedmap

WORDS = torch.randint(5, 45, (2, 7), generator=torch.Generator().manual_seed(0))
METHODS = ("generic", "rollout", "attn_lrp", "input_x_gradient")


class Lazy(nn.Linear):
    """Handles its weight as it runs."""

    how = "plain"

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "cast by .data":
            self.weight.data = self.weight.data.to(torch.bfloat16).to(torch.float32)
        if self.how == "another parameter":
            self._parameters["weight"] = type(self.weight)(self.weight.to(x.device) + 0, self.weight.requires_grad)
        if self.how == "freed and loaded":
            kept = self.weight.data
            self.weight.data = torch.empty(0)
            self.weight.data = kept
        if self.how == "packed at its first run" and not hasattr(self, "packed"):
            self.packed = True
            self.weight.data = self.weight.data.T.contiguous()
        if self.how == "packed at its first run":
            return nn.functional.linear(x, self.weight.T, self.bias)
        return super().forward(x)


class Net(nn.Module):
    def __init__(self, how: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(50, 32), nn.Linear(32, 5)
        self.layers = nn.ModuleList(nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(2))
        self.lazy = nn.ModuleList(Lazy(32, 32) for _ in range(2))
        self.norm = nn.LayerNorm(32)
        for lazy in self.lazy:
            lazy.how = how

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for layer, lazy in zip(self.layers, self.lazy, strict=True):
            x = self.norm(x + layer(x, x, x)[0])
            x = x + lazy(x).relu()
        return self.head(x[:, 0])


def explained(model: nn.Module, inputs: Any = WORDS, **options: Any) -> Tensor:
    return heedmap.explain(model, inputs, target=1, **options)["text"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["another parameter", "freed and loaded", "packed at its first run", "cast by .data"])
def test_layers_that_handle_their_weights(how: str, method: str) -> None:
    model = Net(how).eval()
    owners = copy.deepcopy(model)
    with torch.no_grad():
        wanted = owners(WORDS)
    first, second = explained(model, method=method), explained(model, method=method)
    torch.testing.assert_close(first, explained(owners, method=method))
    torch.testing.assert_close(first, second)
    with torch.no_grad():
        assert torch.equal(model(WORDS), wanted)
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())


def test_a_graph_of_the_owners_goes_on() -> None:
    model, alone = Net().eval(), Net().eval()
    loss = model(WORDS).sum()
    explained(model)
    loss.backward()
    alone(WORDS).sum().backward()
    for a, b in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_offloaded_models(where: str, tmp_path: Path) -> None:
    """accelerate loads the weights of each layer when it runs, and frees them again."""
    import accelerate
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=50, pad_token_id=0)).eval()
    inputs = {"input_ids": WORDS, "attention_mask": torch.ones_like(WORDS)}
    wanted = {method: explained(model, inputs, method=method) for method in METHODS}
    with torch.no_grad():
        before = model(**inputs).logits
    if where == "cpu":
        accelerate.cpu_offload(model, execution_device="cpu")
    else:
        accelerate.disk_offload(model, str(tmp_path), execution_device="cpu")
    for method, found in wanted.items():
        torch.testing.assert_close(explained(model, inputs, method=method), found)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, before)
    assert {p.device.type for p in model.parameters()} == {"meta"}
