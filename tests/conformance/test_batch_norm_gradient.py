"""A batch norm over a map that becomes tokens: one sample's gradient through it is that of a scale and a shift."""

from __future__ import annotations

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
    """Patches, attention, a norm of the map, its tokens, their mean class."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.norm: nn.Module = nn.BatchNorm2d(8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 5))
        nn.init.normal_(self.norm.weight)
        self.norm.running_mean, self.norm.running_var = torch.randn(8), torch.rand(8) + 0.5

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patches(pixel_values)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])[:, 0]
        tokens = self.norm(tokens.transpose(1, 2).reshape(x.shape).contiguous()).flatten(2).transpose(1, 2)
        return self.head(torch.cat([tokens, tokens.sin()], 1)).mean(1)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("method", ["generic", "input_x_gradient"])
def test_one_sample(method: str, batch: int) -> None:
    torch.manual_seed(0)
    model = Net().double().eval()
    plain = Net().double().eval()
    plain.load_state_dict(model.state_dict())
    plain.norm = Affine(model.norm)
    x = torch.randn(batch, 3, 16, 16).double()
    found, expected = (heedmap.explain(m, x, target=1, method=method)["image"] for m in (model, plain))
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected)
