"""Copies of one token that ask in one attention (object queries that are one token again and again): each is a token of its own.

Where they were made is looked for by autograd; in the next run they are what a mixer makes there of the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from heedmap.attention import moves
from heedmap.attention.numbers import Ids, distinct, once

DRAWS = 6
"""Of so many rows of a token it is looked where they were copied."""
COPIES = {*moves.DATA, *moves.LISTS, *moves.MEETS}
"""Functions that may copy tokens."""

Own = frozenset[tuple[int, int]]
"""Calls by their number, each with an axis of its result along which copies are tokens of their own."""


class Copies:
    """The calls of a run that copied tokens.

    Args:
        own: where copies are tokens of their own.

    Attributes:
        found: where they should be, since a token asks twice.
    """

    def __init__(self, own: Own = frozenset()) -> None:
        self.own, self.found = own, set[tuple[int, int]]()
        self._count = 0
        self._made: list[tuple[int, Tensor]] = []

    def call(self, name: str, operands: Iterable[Tensor], result: object) -> int | None:
        """The number of a call whose result has more elements than one of its operands; the same in each run."""
        if name not in COPIES or not isinstance(result, Tensor):
            return None
        if result.numel() <= min((t.numel() for t in operands), default=result.numel()):
            return None
        self._count += 1
        return self._count

    def keep(self, call: int, result: Tensor) -> None:
        """Remember what a call made of tokens."""
        self._made.append((call, result))

    def places(self, call: int, ids: Ids) -> Ids | None:
        """For each element which copy it is, where copies are tokens of their own, in the shape of ``ids``, their companion.

        None: they are none, or there are tokens among them that have no copy.
        """
        place: Ids = torch.zeros(1, dtype=torch.int64)
        for axis, size in enumerate(ids.shape):
            if (call, axis) in self.own:
                place = place * size + torch.arange(size).reshape(-1, *[1] * (ids.dim() - 1 - axis))
        if place.numel() < 2:
            return None
        place = place.expand(ids.shape)
        pairs = distinct(torch.stack(once(ids, place), -1).flatten(0, -2))[0]
        _, counts = pairs[pairs[:, 0] >= 0, 0].unique(return_counts=True)
        return place if bool((counts > 1).all()) else None

    def look(self, asks: Tensor, sides: Sequence[Tensor], queries: Ids) -> None:
        """Note where the copies of a token that asks in several rows were made.

        Args:
            asks: (…, rows, features) or, where there are ``sides``, (…, rows, keys) that is made of them.
            sides: what asks is one of them: that of which a row depends on least.
            queries: the tokens that ask, (entries, rows).
        """
        if not asks.requires_grad:
            return
        ordered = queries.sort(-1).values
        again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        entry = int(again.any(1).nonzero()[0])
        rows = (queries[entry] == ordered[entry, 1:][again[entry]][0]).nonzero()[:, 0]
        alike = (queries == queries[entry]).all(1).to(asks.device)  # the heads, and copies of the row in the batch
        drawn = [self._reached(asks, sides, alike, int(row)) for row in rows[torch.randperm(len(rows))[:DRAWS]]]
        for call, result in self._made:
            for axis in range(result.dim()):
                indices = [reached.get((call, axis)) for reached in drawn]
                if None not in indices and len(set(indices)) > 1:
                    self.found.add((call, axis))

    def _reached(self, asks: Tensor, sides: Sequence[Tensor], alike: Tensor, row: int) -> dict[tuple[int, int], int]:
        """The one index, on an axis of what a call made, on which this row depends; where there is one."""
        chosen = torch.zeros_like(asks).flatten(0, -3)
        chosen[alike, row] = torch.randn_like(chosen[alike, row])
        asks, chosen = _least(asks, sides, chosen.reshape(asks.shape))
        gradients = torch.autograd.grad(asks, [t for _, t in self._made], chosen, retain_graph=True, allow_unused=True)
        found = dict[tuple[int, int], int]()
        for (call, result), gradient in zip(self._made, gradients, strict=True):
            for axis in range(result.dim()) if gradient is not None else ():
                (index,) = (gradient != 0).movedim(axis, 0).flatten(1).any(1).nonzero(as_tuple=True)
                if len(index) == 1:
                    found[call, axis] = int(index)
        return found


def _least(asks: Tensor, sides: Sequence[Tensor], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """What asks, and a gradient of it, of its elements on which the chosen ones depend."""
    of = [side for side in sides if side.requires_grad]
    if not of:
        return asks, chosen
    gradients = torch.autograd.grad(asks, of, chosen, retain_graph=True, allow_unused=True)
    reached = [(side, g != 0) for side, g in zip(of, gradients, strict=True) if g is not None and bool(g.any())]
    side, where = min(reached, key=lambda pair: float(pair[1].double().mean()))
    return side, torch.randn_like(side) * where
