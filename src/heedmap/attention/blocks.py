"""An attention that is computed in blocks (windows, chunks, frames, choices): which tokens the rows of its blocks are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from heedmap.attention.attention import Attention, Block, Heads
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

    def apply(self, tensor: Tensor) -> Heads:
        """``tensor`` as (blocks, heads, rows, features)."""
        flat = tensor.permute(self.axes).reshape(-1, *[tensor.shape[a] for a in self.axes[-2:]])
        return flat[self.order.to(tensor.device)]


@dataclass(eq=False)
class BlockAttention(Attention):
    """An attention in blocks: all tensors are (blocks, heads, rows, …).

    Attributes:
        query_ids, key_ids: the tokens' numbers, (blocks, rows); -1: none.
        query_rows, key_rows: sample · tokens + row of the stream, (blocks, rows); -1: none. Known when the streams are.
        sizes: batch size, tokens of the stream that asks, and of the one that is asked.
        ids: companion of ``out``.
        row_ids: of the rows of ``out``, (blocks, rows), where its queries are made by a mixer: then these are other tokens.
    """

    query_ids: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    key_ids: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    query_rows: Rows = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    key_rows: Rows = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    sizes: tuple[int, int, int] = (0, 0, 0)
    ids: Ids = field(default_factory=lambda: torch.zeros(0))
    row_ids: Ids | None = None

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
        found = torch.zeros(self.batch * self.queries + 1, dtype=torch.bool, device=gradient.device)
        found[self.query_rows.to(gradient.device)[(self.layout.apply(gradient) != 0).any(-1).any(1)]] = True
        return found[:-1].reshape(self.batch, self.queries)


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


def twice(ids: Ids) -> bool:
    """Whether a row has one number twice; (entries, rows)."""
    ordered = ids.sort(-1).values
    return bool(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any())


def labels(equation: str, left: Tensor, right: Tensor) -> tuple[str, str, str] | None:
    """Of an einsum of two tensors the axes' letters, also those of "…"; None where a letter stands twice in one."""
    given, arrow, out = equation.replace(" ", "").partition("->")
    sides = given.split(",")
    if len(sides) != 2:
        return None
    more = "".join(c for c in map(chr, range(0x3B1, 0x3C9)))
    sides = [
        s.replace("...", more[: t.dim() - len(s.replace("...", ""))]) if "..." in s else s
        for s, t in zip(sides, (left, right), strict=True)
    ]
    longest = max((s for s in sides), key=len)
    out = out.replace("...", "".join(c for c in longest if c in more))
    if not arrow:
        out = "".join(sorted(c for c in set(sides[0] + sides[1]) if (sides[0] + sides[1]).count(c) == 1))
    return None if any(len(set(s)) < len(s) for s in (*sides, out)) else (sides[0], sides[1], out)


def of_matmul(left: Tensor, right: Tensor) -> tuple[str, str, str]:
    """The axes' letters of left @ right; leading axes are told from the end."""
    lead = "".join(map(chr, range(0x3B1, 0x3C9)))
    count = max(left.dim(), right.dim()) - 2
    names = lead[:count]
    a = (names[count - (left.dim() - 2) :] if left.dim() > 2 else "") + ("mk" if left.dim() > 1 else "k")
    b = (names[count - (right.dim() - 2) :] if right.dim() > 2 else "") + ("kn" if right.dim() > 1 else "k")
    return a, b, names + ("m" if left.dim() > 1 else "") + ("n" if right.dim() > 1 else "")


def in_order(tensor: Tensor, has: str, wanted: str, sizes: dict[str, int]) -> Tensor:
    """``tensor``, whose axes are ``has``, with the axes ``wanted``; one that it lacks, or has once only, is expanded."""
    kept = [has.index(c) for c in wanted if c in has]
    rest = [i for i in range(len(has)) if i not in kept]
    found = tensor.permute(*rest, *kept)
    for _ in rest:
        found = found[0]
    for place, letter in enumerate(wanted):
        if letter not in has:
            found = found.unsqueeze(place)
    return found.expand([sizes.get(c, found.shape[i]) for i, c in enumerate(wanted)])


def axes_to(has: str, wanted: Sequence[str]) -> tuple[int, ...]:
    """The permutation from ``has`` to ``wanted``."""
    return tuple(has.index(c) for c in wanted)
