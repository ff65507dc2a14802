"""A half of the features convolved beside the other as it was: each place would be two tokens."""

from __future__ import annotations

import pytest
import torch
from tests.places.hand_mixers import WIDTH, Attention
from torch import Tensor, nn

import heedmap
from heedmap.errors import AttentionError


class Halves(nn.Module):
    """Patches, of which a part of the features is convolved, in windows of attention."""

    def __init__(self, convolves: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.mixed = nn.Conv2d(WIDTH // 2, WIDTH // 2, 3, padding=1)
        self.joined = nn.Linear(WIDTH, WIDTH)
        self.attention, self.again = Attention(), Attention()
        self.head = nn.Linear(WIDTH, 3)
        self.convolves = convolves

    def forward(self, x: Tensor) -> Tensor:
        half, other = self.patches(x).chunk(2, 1)
        rows = torch.cat([self.mixed(half) if self.convolves else half, other], 1)
        windows = self.joined(
            rows.unflatten(2, (2, 2)).unflatten(4, (2, 2)).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, WIDTH)
        )
        return self.head(self.again(self.attention(windows).reshape(len(x), -1, WIDTH)).mean(1))


def test_they_are_not_told_twice() -> None:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(1, 3, 16, 16)}
    assert len(heedmap.explain(Halves(False).eval(), inputs, target=0).segments) == 1
    with pytest.raises(AttentionError, match="would be told in two parts"):
        heedmap.explain(Halves(True).eval(), inputs, target=0)
