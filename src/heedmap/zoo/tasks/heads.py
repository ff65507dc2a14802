"""Heads that read a state in training, and do not learn: what they are to read, the model must put there."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@cache
def fixed_head(width: int, amount: int) -> Float[Tensor, "width amount"]:
    """A random matrix, always the same: a state of ``width`` numbers, times it, gives ``amount`` numbers."""
    return torch.randn(width, amount, generator=torch.Generator().manual_seed(0)) / width**0.5
