"""Models that write to a mask, queries, keys, values or weights after attention read them: the map is of what it read."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import heedmap
from conformance.tiny_models import AMONG_WORDS, livened

HEADS, DEPTH, TOKENS, WINDOW = 2, 8, 8, 4
DIM = HEADS * DEPTH
IDS = torch.arange(3, 3 + 2 * TOKENS).reshape(2, TOKENS)
OPTIONS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 2},
    "gradient_shap": {"samples": 2},
}


class Net(nn.Module):
    """Attention under a causal mask, over all tokens or in windows; after the layer ``at`` something that it read is written."""

    def __init__(self, way: str, at: int, windows: bool = False) -> None:
        super().__init__()
        self.way, self.at, self.windows = way, at, windows
        self.embedding = nn.Embedding(20, DIM)
        self.sides = nn.ModuleList(nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(4)) for _ in range(3))
        self.head = nn.Linear(DIM, 3)
        self.register_buffer("seen", torch.ones(TOKENS, TOKENS, dtype=torch.bool))
        self.maps: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        x, mask = self.embedding(tokens), self.seen[:, :TOKENS]
        mask.copy_(torch.ones_like(mask).tril())
        if "additive" in self.way:
            mask = torch.zeros(TOKENS, TOKENS, dtype=x.dtype).masked_fill(~mask, -9.0)
        self.maps = []
        for number, (*sides, out) in enumerate(self.sides):
            rows = x.unflatten(1, (-1, WINDOW)).flatten(0, 1) if self.windows else x
            q, k, v = (side(rows).unflatten(-1, (HEADS, DEPTH)).transpose(1, 2) for side in sides)
            o, A = self.attended(q, k, v, mask[: q.shape[2], : q.shape[2]])
            if number == self.at:
                self.write(mask, {"q": q, "k": k, "v": v, "A": A})
            x = x + out(o.transpose(1, 2).reshape(len(x), TOKENS, DIM))
        return self.head(x[:, -1])

    def attended(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.way not in ("A", "never, inline"):
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask.clone() if "never" in self.way else mask
            ), None
        A = (q @ k.mT / DEPTH**0.5).masked_fill(~mask, -9.0).softmax(-1)
        self.maps.append(A)
        return A @ v, A

    def write(self, mask: Tensor, read: dict[str, Tensor]) -> None:
        if self.way in read:
            read[self.way].fill_(0.3)
        elif self.way == "mask, by a view":
            self.seen.logical_or_(torch.ones_like(self.seen))
        elif self.way == "mask, by its data":
            mask.data.fill_(True)
        else:  # also where the attention reads a copy
            mask.fill_(1)


def net(way: str, at: int, windows: bool) -> Net:
    torch.manual_seed(0)
    return livened(Net(way, at, windows)).double()


def map_of(model: nn.Module, method: str = "generic", **options: Any) -> Tensor:
    return heedmap.explain(model, IDS, target=1, method=method, **options, **OPTIONS.get(method, {}))["text"]


@cache
def plain_map(way: str, at: int, windows: bool) -> Tensor:
    """Of a model that writes to nothing that was read, with which those are compared that do."""
    return map_of(net(way, at, windows))


ALIKE = {
    "mask": "never",
    "mask, by a view": "never",
    "mask, by its data": "never",
    "additive mask": "never, additive",
    "q": "never, q",
    "k": "never, k",
    "v": "never, v",
    "A": "never, inline",
}


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("way", ALIKE)
def test_the_map_is_of_what_was_read(way: str, at: int, windows: bool) -> None:
    model, other = net(way, at, windows), (ALIKE[way], at if "mask" in way else 9, windows)
    before = model(IDS)
    assert torch.allclose(before, net(*other)(IDS))
    found, wanted = map_of(model), plain_map(*other)
    assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6 * float(wanted.abs().max()))
    assert torch.equal(model(IDS), before)


@pytest.mark.parametrize("at", [0, 1])
def test_weights_written_later_have_the_map_of_the_rules(at: int) -> None:
    model = net("A", at, windows=False)
    found = map_of(model, drop_self=False)
    plain = net("never, inline", 9, windows=False)
    gradients = torch.autograd.grad(plain(IDS)[:, 1].sum(), plain.maps)
    R = torch.eye(TOKENS, dtype=torch.float64).expand(len(IDS), -1, -1)
    for A, gradient in zip(plain.maps, gradients, strict=True):
        R = R + (A * gradient).clamp(min=0).mean(1) @ R
    wanted = R[:, -1]
    assert wanted.abs().max() > 0
    assert torch.allclose(found.double(), wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [method for method in heedmap.METHODS if method not in AMONG_WORDS])
@pytest.mark.parametrize("way", ["mask", "q", "A"])
def test_by_every_method(way: str, method: str) -> None:
    found, wanted = (
        map_of(net(each, at, False), method) for each, at in ((way, 1), (ALIKE[way], 1 if way == "mask" else 9))
    )
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
