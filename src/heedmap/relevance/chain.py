"""Matrices that are never whole: products with rows and columns, block by block, and chains of them.

For a run of self-attentions w R = w (I + Ā_L) … (I + Ā_1): rows go down the chain, columns go up, O(N²) a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "batch k s"]
Columns = Float[Tensor, "batch q k"]
Dense = Float[Tensor, "batch s q"]


@dataclass(eq=False)
class Matrix:
    """A (batch, s, q) matrix, given as a function that computes any block of its rows.

    Attributes:
        block: slice of rows → (batch, rows, q).
        rows: s.
        step: how many rows fit the memory budget at once.
        keep: whether the whole may be kept for the next product.
    """

    block: Callable[[slice], Dense]
    rows: int
    step: int
    keep: bool = False
    _whole: Tensor | None = None

    def blocks(self) -> Iterator[tuple[slice, Dense]]:
        """The rows, a block at a time."""
        if self.keep:
            yield slice(0, self.rows), self.dense()
            return
        for start in range(0, self.rows, self.step):
            rows = slice(start, min(start + self.step, self.rows))
            yield rows, self.block(rows)

    def dense(self) -> Dense:
        """The whole matrix."""
        if self._whole is None:
            steps = range(0, self.rows, self.step)
            whole = torch.cat([self.block(slice(i, min(i + self.step, self.rows))) for i in steps], 1)
            if not self.keep:
                return whole
            self._whole = whole
        return self._whole

    def left(self, rows: Rows, *, few: bool = False) -> Float[Tensor, "batch k q"]:
        """rows @ M; with ``few``, only the rows of M are computed that ``rows`` asks for (one look at their values)."""
        if few and self._whole is None:
            asked = (rows != 0).any(1).any(0).nonzero()[:, 0].tolist()
            if asked and asked[-1] - asked[0] < self.step:
                where = slice(asked[0], asked[-1] + 1)
                return rows[..., where] @ self.block(where)
        parts = (rows[..., where] @ block for where, block in self.blocks())
        total = next(parts)
        for part in parts:
            total = total + part
        return total

    def right(self, columns: Columns) -> Float[Tensor, "batch s k"]:
        """M @ columns."""
        return torch.cat([block @ columns for _, block in self.blocks()], 1)
