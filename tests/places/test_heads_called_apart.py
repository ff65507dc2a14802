"""Heads of attention in windows that a model computes by calls of their own: how they are written changes no map."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import heedmap

WINDOWS, SIZE, WIDTH, HEADS = 3, 4, 16, 4
TOKENS = WINDOWS * SIZE
ROWS = torch.arange(TOKENS).reshape(WINDOWS, SIZE)
"""The tokens of each window; those of each stripe are its columns."""


class Called(nn.Module):
    """Two layers of attention, of which ``attend`` makes the output of (batch, heads, tokens, features).

    ``maps`` has what was called, in the order of the calls: the layer, the heads, the tokens of each block, (blocks, rows), and A of all
    its values, (batch, blocks, heads, rows, rows).
    """

    def __init__(self, attend: Callable[[Called, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.attend = attend
        self.embed, self.head = nn.Embedding(20, WIDTH), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList(nn.ModuleDict({n: nn.Linear(WIDTH, WIDTH) for n in "qkvo"}) for _ in range(2))
        self.maps: list[tuple[int, slice, Tensor, Tensor]] = []
        self.double().eval()

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        self.maps.clear()
        for number, layer in enumerate(self.layers):
            self.layer = number
            q, k, v = (3 * layer[n](x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for n in "qkv")
            x = x + layer["o"](self.attend(self, q, k, v).transpose(1, 2).flatten(2))
        return self.head(x[:, -1])

    def weights(self, q: Tensor, k: Tensor, heads: slice, rows: Tensor) -> Tensor:
        """A of some heads, in blocks of these tokens, (batch · blocks, heads, rows, rows)."""
        A = (in_blocks(q[:, heads], rows) @ in_blocks(k[:, heads], rows).mT / 2).softmax(-1)
        self.maps.append((self.layer, heads, rows, A))
        return A


def in_blocks(t: Tensor, rows: Tensor) -> Tensor:
    """(batch, heads, tokens, features) as (batch · blocks, heads, rows, features)."""
    return t[:, :, rows].transpose(1, 2).flatten(0, 1)


def of_blocks(t: Tensor, rows: Tensor) -> Tensor:
    """The other way round."""
    apart = t.unflatten(0, (-1, len(rows))).transpose(1, 2)
    return apart.flatten(2, 3)[:, :, rows.flatten().argsort()]


def together(model: Called, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return of_blocks(model.weights(q, k, slice(None), ROWS) @ in_blocks(v, ROWS), ROWS)


def each_by_itself(model: Called, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = [slice(h, h + 1) for h in range(HEADS)]
    return torch.cat([of_blocks(model.weights(q, k, h, ROWS) @ in_blocks(v[:, h], ROWS), ROWS) for h in heads], 1)


def two_values(model: Called, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    A = model.weights(q, k, slice(None), ROWS)
    return of_blocks(A @ in_blocks(v, ROWS), ROWS) + of_blocks(A @ in_blocks(v.relu(), ROWS), ROWS)


def windows_and_stripes(model: Called, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head in windows, three in stripes (CSWin has both)."""
    kinds = [(slice(0, 1), ROWS), (slice(1, None), ROWS.T)]
    made = [of_blocks(model.weights(q, k, h, rows) @ in_blocks(v[:, h], rows), rows) for h, rows in kinds]
    return torch.cat(made, 1)


WAYS = [together, each_by_itself, two_values, windows_and_stripes]


def expected(model: Called, ids: Tensor) -> Tensor:
    """Relevance of the last token's first class: at each layer the mean over all heads of (A ⊙ ∂y/∂A)⁺."""
    score = model(ids)[0, 1]
    gradients = torch.autograd.grad(score, [A for *_, A in model.maps])
    R = torch.eye(TOKENS, dtype=torch.float64)
    for number in range(len(model.layers)):
        step = torch.zeros(TOKENS, TOKENS, dtype=torch.float64)
        for (layer, _, rows, A), gradient in zip(model.maps, gradients, strict=True):
            for block, tokens in enumerate(rows if layer == number else []):
                step[tokens[:, None], tokens] += (A * gradient).clamp(min=0)[block].sum(0).detach() / HEADS
        R = R + step @ R
    R[-1, -1] = 0
    return R[-1]


def each_fused(model: Called, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    parts = [[in_blocks(t[:, h : h + 1], ROWS) for t in (q, k, v)] for h in range(HEADS)]
    return torch.cat([of_blocks(F.scaled_dot_product_attention(*part, scale=0.5), ROWS) for part in parts], 1)


def test_fused_heads_are_those_that_are_written_out() -> None:
    ids = {"input_ids": torch.randint(0, 20, (2, TOKENS))}
    fused, written = (heedmap.explain(Called(way), ids, target=1)["text"] for way in (each_fused, each_by_itself))
    torch.testing.assert_close(fused, written, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("attend", WAYS, ids=lambda way: way.__name__)
def test_ways_to_call_heads(attend: Callable[..., Tensor]) -> None:
    model = Called(attend)
    ids = torch.randint(0, 20, (2, TOKENS))
    found = heedmap.explain(model, {"input_ids": ids}, target=1)["text"].double()
    for sample in range(2):
        wanted = expected(model, ids[sample : sample + 1])
        assert float((found[sample] - wanted).abs().max() / wanted.max()) < 1e-6
