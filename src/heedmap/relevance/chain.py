"""Matrices that are never whole: products with rows and columns, block by block, and chains of them.

For a run of self-attentions w R = w (I + Ā_L) … (I + Ā_1): rows go down the chain, columns go up, O(N²) a layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
        else:
            yield from self._made()

    def _made(self) -> Iterator[tuple[slice, Dense]]:
        for start in range(0, self.rows, self.step):
            rows = slice(start, min(start + self.step, self.rows))
            yield rows, self.block(rows)

    def dense(self) -> Dense:
        """The whole matrix."""
        if self._whole is not None:
            return self._whole
        whole = torch.cat([block for _, block in self._made()], 1)
        self._whole = whole if self.keep else None
        return whole

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


@dataclass(eq=False)
class Places(ABC):
    """A matrix over the tokens of two streams, most of whose entries are zero.

    Attributes:
        sizes: batch size, tokens that ask, tokens that are asked.
        rows, columns: sample · tokens + token that what is not zero is in; -1: in none.
    """

    sizes: tuple[int, int, int]
    rows: Tensor
    columns: Tensor
    keep = False

    @property
    @abstractmethod
    def like(self) -> Tensor:
        """Of the dtype and device of its entries."""

    @abstractmethod
    def left(self, rows: Rows, *, few: bool = False) -> Float[Tensor, "batch k q"]:
        """rows @ M."""

    @abstractmethod
    def right(self, columns: Columns) -> Float[Tensor, "batch s k"]:
        """M @ columns."""

    def dense(self) -> Dense:
        """The whole matrix."""
        eye = torch.eye(self.sizes[1], dtype=self.like.dtype, device=self.like.device)
        return self.left(eye.expand(self.sizes[0], -1, -1))

    def blocks(self) -> Iterator[tuple[slice, Dense]]:
        """The whole as one block."""
        yield slice(0, self.sizes[1]), self.dense()

    def block(self, rows: slice) -> Dense:
        """Some rows of the whole."""
        return self.dense()[:, rows]


@dataclass(eq=False)
class Scattered(Places):
    """A matrix over the tokens of two streams, of which only blocks are not zero (windows).

    Attributes:
        local: (blocks, rows, columns); ``rows`` and ``columns`` are (blocks, rows) and (blocks, columns).
    """

    local: Matrix

    @property
    def like(self) -> Tensor:
        """See :class:`Places`."""
        return next(self.local.blocks())[1]

    def left(self, rows: Rows, *, few: bool = False) -> Float[Tensor, "batch k q"]:
        """rows @ M."""
        batch, _, asked = self.sizes
        block_rows = self.local.left(_gathered(rows.transpose(-1, -2), self.rows).transpose(-1, -2))
        return _scattered(block_rows.transpose(-1, -2), self.columns, batch, asked).transpose(-1, -2)

    def right(self, columns: Columns) -> Float[Tensor, "batch s k"]:
        """M @ columns."""
        batch, asks, _ = self.sizes
        return _scattered(self.local.right(_gathered(columns, self.columns)), self.rows, batch, asks)


@dataclass(eq=False)
class Sparse(Places):
    """A matrix over the tokens of two streams by its entries.

    Attributes:
        values: of the entries, whose ``rows`` and ``columns`` are given one by one.
    """

    values: Tensor

    @property
    def like(self) -> Tensor:
        """See :class:`Places`."""
        return self.values

    def left(self, rows: Rows, *, few: bool = False) -> Float[Tensor, "batch k q"]:
        """rows @ M."""
        batch, _, asked = self.sizes
        picked = rows.transpose(0, 1).flatten(1)[:, self.rows] * self.values
        product = picked.new_zeros(len(picked), batch * asked).index_add_(1, self.columns, picked)
        return product.unflatten(1, (batch, asked)).transpose(0, 1)

    def right(self, columns: Columns) -> Float[Tensor, "batch s k"]:
        """M @ columns."""
        batch, asks, asked = self.sizes
        return (
            Sparse((batch, asked, asks), self.columns, self.rows, self.values)
            .left(columns.transpose(-1, -2))
            .transpose(-1, -2)
        )

    def normalized(self) -> Sparse:
        """Each row divided by its sum; one that is zero has equal entries."""
        batch, asks, _ = self.sizes

        def sums(values: Tensor) -> Tensor:
            return values.new_zeros(batch * asks).index_add_(0, self.rows, values)

        total, count = sums(self.values)[self.rows], sums(torch.ones_like(self.values))[self.rows]
        values = torch.where(total > 0, self.values / torch.where(total > 0, total, torch.ones_like(total)), 1 / count)
        return Sparse(self.sizes, self.rows, self.columns, values)


AnyMatrix = Matrix | Scattered | Sparse


@dataclass(eq=False)
class Normalised:
    """A matrix, each of whose rows is divided by its sum; one that is zero has equal entries wherever there may be any.

    Attributes:
        matrix: with entries that are not negative.
        reach: 1 wherever there may be an entry, else 0.
        like: (batch, columns, 1), of the matrix's dtype and device.
    """

    matrix: AnyMatrix
    reach: AnyMatrix
    like: Tensor

    def left(self, rows: Rows) -> Float[Tensor, "batch k q"]:
        """rows @ M."""
        sums, counts = self._sums
        own = torch.where(sums > 0, rows / torch.where(sums > 0, sums, 1.0), 0.0)
        return self.matrix.left(own) + self.reach.left(torch.where(sums > 0, 0.0, rows / counts))

    def right(self, columns: Columns) -> Float[Tensor, "batch s k"]:
        """M @ columns."""
        sums, counts = (found.mT for found in self._sums)
        even = self.reach.right(columns) / counts
        return torch.where(sums > 0, self.matrix.right(columns) / torch.where(sums > 0, sums, 1.0), even)

    @property
    def _sums(self) -> tuple[Tensor, Tensor]:
        """Of the matrix, and of what may have an entry, (batch, 1, s)."""
        ones = torch.ones_like(self.like)
        sums, counts = self.matrix.right(ones).mT, self.reach.right(ones).mT
        return sums, counts.clamp(min=1)


def _gathered(rows: Float[Tensor, "batch tokens k"], where: Tensor) -> Float[Tensor, "blocks rows k"]:
    """The rows of blocks; zero where there is no token."""
    return rows.flatten(0, 1)[where.clamp(min=0)].masked_fill_((where < 0)[..., None], 0.0)


def _scattered(
    rows: Float[Tensor, "blocks rows k"], where: Tensor, batch: int, tokens: int
) -> Float[Tensor, "batch tokens k"]:
    """Rows of blocks added to those of their tokens."""
    total = rows.new_zeros(batch * tokens + 1, rows.shape[-1])
    index = torch.where(where < 0, batch * tokens, where).flatten()
    return total.index_add_(0, index, rows.flatten(0, 1))[:-1].unflatten(0, (batch, tokens))
