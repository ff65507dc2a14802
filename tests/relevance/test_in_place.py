"""Models that write in place: every method's map is that of the same model written without."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heedmap
from conformance.tiny_models import AMONG_WORDS, livened

DIM, TOKENS = 16, 5
IDS = torch.arange(3, 3 + 2 * TOKENS).reshape(2, TOKENS)
OPTIONS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 2},
    "gradient_shap": {"samples": 2},
}


class Net(nn.Module):
    """A small encoder whose embedding is followed, or whose layers are written, in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.embedding = nn.Embedding(20, DIM)
        self.positions = nn.Parameter(torch.randn(1, TOKENS, DIM))
        self.attentions = nn.ModuleList(nn.MultiheadAttention(DIM, 2, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(2))
        self.wide, self.head = nn.Linear(DIM, DIM), nn.Linear(DIM, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.begun(self.embedding(tokens))
        for attention, norm in zip(self.attentions, self.norms, strict=True):
            out = attention(x, x, x)[0]
            if "residual" in self.way:
                x += out
            else:
                x = x + out
            x = norm(x)
        return self.head(x[:, 0])

    def begun(self, x: Tensor) -> Tensor:
        if self.way == "x[:] = x + pos":
            x[:, :] = x + self.positions
        elif self.way == "copy_":
            x.copy_(x + self.positions)
        elif self.way == "+= on a view":
            rows = x.view(-1, DIM)
            rows += self.positions.expand(len(x), -1, -1).reshape(-1, DIM)
            x = rows.view(len(x), -1, DIM)
        elif self.way == "+= on the base of a view":
            rows = x.view(-1, DIM)
            x += self.positions
            x = rows.view(len(x), -1, DIM)
        elif self.way in ("read, then +=", "read, then + (plain)"):
            gate = self.wide(x) + x
            if "plain" in self.way:
                x = x + self.positions
            else:
                x += self.positions
            x = x + gate
        elif self.way in ("bias after the layer", "bias after the layer (plain)"):
            out = F.linear(x, self.wide.weight)
            if "plain" in self.way:
                x = (out + self.wide.bias).relu()
            else:
                out += self.wide.bias
                x = out.relu_()
        elif "plain" in self.way:
            x = x + self.positions
        else:
            x += self.positions
        return x


def net(way: str) -> Net:
    torch.manual_seed(0)
    return livened(Net(way))


def map_of(model: nn.Module, method: str, inputs: Any = IDS) -> Tensor:
    found = heedmap.explain(model, inputs, target=1, method=method, **OPTIONS.get(method, {}))
    return found["text"]


@cache
def plain_map(way: str, method: str) -> Tensor:
    """Of a model that writes nothing in place, with which those are compared that do."""
    return map_of(net(way), method)


WAYS = {
    "x += pos": "plain",
    "x[:] = x + pos": "plain",
    "copy_": "plain",
    "+= on a view": "plain",
    "+= on the base of a view": "plain",
    "residual +=": "plain",
    "read, then +=": "read, then + (plain)",
    "bias after the layer": "bias after the layer (plain)",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", [name for name in heedmap.METHODS if name not in AMONG_WORDS])
def test_the_map_is_as_without(way: str, method: str) -> None:
    model = net(way)
    before = model(IDS)
    found, wanted = map_of(model, method), plain_map(WAYS[way], method)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
    assert torch.equal(model(IDS), before)
