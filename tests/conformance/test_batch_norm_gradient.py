"""A batch norm over a map that becomes tokens: one sample's gradient through it is that of a scale and a shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import heedmap


class Affine(nn.Module):
    """What a batch norm is in evaluation."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.scale = nn.Parameter((norm.weight / (norm.running_var + norm.eps).sqrt()).detach())
        self.shift = nn.Parameter((norm.bias - norm.running_mean * self.scale).detach())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale[:, None, None] + self.shift[:, None, None]


class Net(nn.Module):
    """Patches, attention, a norm of the map, its tokens, their mean class; ``rows``: whether the map is copied to lie in rows."""

    def __init__(self, rows: bool = True, bent: Callable[[Tensor], Tensor] = torch.sin) -> None:
        super().__init__()
        self.rows, self.bent = rows, bent
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norm: nn.Module = nn.BatchNorm2d(8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 5))
        nn.init.normal_(self.norm.weight)
        self.norm.running_mean, self.norm.running_var = torch.randn(8), torch.rand(8) + 0.5

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patches(pixel_values)
        tokens = x.flatten(2).transpose(1, 2)
        heard = scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])[:, 0]
        tokens = (tokens + heard).contiguous()
        seen = tokens.transpose(1, 2).unflatten(2, x.shape[2:])
        tokens = self.norm(seen.contiguous() if self.rows else seen).flatten(2).transpose(1, 2)
        return self.head(torch.cat([tokens, self.bent(tokens)], 1)).mean(1)


def both(**made: Any) -> tuple[Net, Net]:
    """The model, and the same with its norm as what it is."""
    torch.manual_seed(0)
    model, plain = (Net(**made).double().eval() for _ in range(2))
    plain.load_state_dict(model.state_dict())
    plain.norm = Affine(model.norm)
    return model, plain


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("method", ["generic", "input_x_gradient"])
def test_one_sample(method: str, batch: int, rows: bool) -> None:
    model, plain = both(rows=rows)
    x = torch.randn(batch, 3, 16, 16).double()
    found, expected = (heedmap.explain(m, x, target=1, method=method)["image"] for m in (model, plain))
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("method", ["attn_lrp", "full_lrp", "partial_lrp", "transformer_attribution"])
def test_relevance_propagation(method: str, batch: int, rows: bool) -> None:
    """The ε-rule of a norm is that of x · scale + shift: x · scale / z of the relevance; in the others it lets it pass."""
    model, plain = both(rows=rows, bent=torch.tanh)
    x = torch.randn(batch, 3, 16, 16).double()
    found, expected = (heedmap.explain(m, x, target=1, method=method)["image"] for m in (model, plain))
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected)
