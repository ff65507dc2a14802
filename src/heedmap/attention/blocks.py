"""An attention that is computed in blocks (windows, chunks, frames, choices): which tokens the rows of its blocks are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from heedmap.attention.attention import Attention, Block, HeadRows
from heedmap.attention.numbers import Ids, distinct

Rows = Int[Tensor, "blocks rows"]


class BlockLayout(NamedTuple):
    """How a tensor of the model becomes (blocks, heads, rows, features).

    Attributes:
        axes: permutation to (…, rows, features).
        order: (blocks, heads), which of the leading entries is which head of which block.
    """

    axes: tuple[int, ...]
    order: Int[Tensor, "blocks heads"]

    def apply(self, tensor: Tensor) -> HeadRows:
        """``tensor`` as (blocks, heads, rows, features)."""
        return laid(tensor.permute(self.axes), self.order)


def laid(tensor: Tensor, order: Int[Tensor, "blocks heads"]) -> HeadRows:
    """(…, rows, features) as (blocks, heads, rows, features); no copy where it is so ordered."""
    blocks, heads = order.shape
    if (
        torch.equal(order, torch.arange(order.numel()).reshape(order.shape))
        and tensor.shape[:-2].numel() == order.numel()
    ):
        return tensor.reshape(blocks, heads, *tensor.shape[-2:])
    return tensor.reshape(-1, *tensor.shape[-2:])[order.to(tensor.device)]


@dataclass(eq=False)
class BlockAttention(Attention):
    """An attention in blocks: all tensors are (blocks, heads, rows, …).

    Attributes:
        query_ids, key_ids: the tokens' numbers, (blocks, rows); -1: none.
        query_rows, key_rows: sample · tokens + row of the stream, (blocks, rows); -1: none. Known when the streams are.
        sizes: batch size, tokens of the stream that asks, and of the one that is asked.
        ids: companion of ``out``.
        beside: whether other keys of the same call are another attention, with the same output.
        call: how many attentions the model has called before.
        renews: whether its rows are new tokens where they are added to none: there is no residual connection around it.
        parted: whether its rows are tokens of their own in each block: copies that go separate ways.
        row_ids: of the rows of ``out``, (blocks, rows), where these are no queries that began: a mixer made them, or it renews or
            parts them.
        share: of all heads of a query those in a block: less than 1 where some heads hear other tokens than the
            others; (blocks, rows) where these have calls of their own.
    """

    query_ids: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    key_ids: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    query_rows: Rows = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    key_rows: Rows = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    sizes: tuple[int, int, int] = (0, 0, 0)
    ids: Ids = field(default_factory=lambda: torch.zeros(0))
    row_ids: Ids | None = None
    beside: bool = False
    call: int = 0
    renews: bool = False
    parted: bool = False
    share: float | Tensor = 1.0

    @property
    def columns(self) -> slice:
        """Every column; those that are no token have no row."""
        return slice(None)

    @property
    def block_queries(self) -> int:
        """Rows of a block."""
        return self._asks.shape[2]

    @property
    def queries(self) -> int:
        """Number of query tokens."""
        return self.sizes[1]

    @property
    def batch(self) -> int:
        """Batch size."""
        return self.sizes[0]

    @property
    def cells(self) -> int:
        """Numbers of one head of A, over all blocks."""
        return self.query_rows.numel() * self.key_rows.shape[1]

    def probabilities(self, rows: slice = slice(None)) -> Block:
        """See :meth:`Attention.probabilities`; of attention without softmax the products."""
        if self.form != "linear" or self.query is None or self.key is None:
            return super().probabilities(rows)
        query, key = (t.detach().to(self.dtype) for t in (self.query[:, :, rows], self.key))
        return query @ key.transpose(-1, -2)

    def touched(self, gradient: Tensor) -> Tensor:
        """See :meth:`Attention.touched`."""
        touched = torch.zeros(self.batch * self.queries + 1, dtype=torch.bool, device=gradient.device)
        touched[self.query_rows.to(gradient.device)[(self.layout.apply(gradient) != 0).any(-1).any(1)]] = True
        return touched[:-1].reshape(self.batch, self.queries)


def grouped(query_ids: Ids, key_ids: Ids) -> Int[Tensor, "blocks heads"] | None:
    """The heads of each block: leading entries with the same queries and the same keys; None where their numbers differ.

    Args:
        query_ids: (entries, queries).
        key_ids: (entries, keys).
    """
    real = ((query_ids >= 0).any(1) & (key_ids >= 0).any(1)).nonzero()[:, 0]
    if not len(real):
        return None
    pairs = torch.cat([query_ids, key_ids], 1)[real]
    block = distinct(pairs)[1]
    counts = block.bincount()
    heads = int(counts[0])
    if bool((counts != heads).any()):
        return None
    order = real[block.argsort(stable=True)].reshape(-1, heads)
    return order[order[:, 0].argsort()]


def share_of_heads(query_ids: Ids, order: Int[Tensor, "blocks heads"], lead: tuple[int, ...]) -> float:
    """Which part of the heads of a query a block has, by which the mean over its heads counts in the mean over all.

    Along the axes on which the heads of one block lie there are no others than heads. Where a block has one head, or heads lie on
    the axis of the samples, those entries are heads of the same query that have the same rows of queries.

    Args:
        query_ids: (entries, queries).
        order: of :func:`grouped`.
        lead: sizes of the leading axes, whose product is the number of entries.
    """
    heads = order.shape[1]
    places = torch.stack(torch.unravel_index(order, lead), -1)
    axes = (places != places[:, :1]).any(1).any(0).nonzero()[:, 0].tolist()
    if axes and 0 not in axes:
        return heads / math.prod(lead[axis] for axis in axes)
    same = (query_ids[order.flatten()] == query_ids[order[0, 0]]).all(1)
    return heads / int(same.sum())


def twice(ids: Ids) -> bool:
    """Whether a row has one number twice; (entries, rows)."""
    ordered = ids.sort(-1).values
    return bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any())
