"""A region: what a model computes between tokens that begin to mix and the tensor through which all of that goes on.

A scan over time, a product of chunks or a triangular solve mixes tokens in many small steps, none of which is a mixer by
itself. Each step is a node; the region's result is the first tensor through which everything that its steps mixed goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from heedmap.attention.numbers import Ids, Numbers, once

Key = tuple[object, ...]
"""Where in the model's source a tensor goes into a region: the same for all turns of a loop."""


class Entry(NamedTuple):
    """A tensor whose elements are of one token each, where it goes into a region.

    Attributes:
        key: where in the source.
        tensor: a copy for this one use, so that a gradient to it is by this way only.
        given: the model's own tensor.
        ids: companion, in the tensor's shape; None: a matrix of two tokens each.
        read: what of the model it was made of, of one token each, with their companions: for the proof.
        sources: of the tensor.
    """

    key: Key
    tensor: Tensor
    given: Tensor
    ids: Ids | None
    read: tuple[tuple[Tensor, Ids], ...]
    sources: frozenset[int]


@dataclass(eq=False)
class Node:
    """One step of a region.

    Attributes:
        order: number of the call, and of the result among several.
        parents: the steps whose results it takes.
        entries: what else it takes of tokens.
        mixes: whether tokens meet in it.
        kind: ``"add"``, ``"move"``, ``"write"`` (in place) or ``""``.
        labels: of its result's elements, the row that they are of; -1: of none, or of many.
        pieces: the connected pieces of mixing that it is made of.
        heads: of a softmax over tokens that it makes or takes; None: of none.
        result: kept only while a region's end is looked for.
    """

    order: tuple[int, int]
    parents: tuple[Node, ...]
    entries: tuple[Entry, ...]
    mixes: bool
    kind: str
    labels: Ids
    pieces: frozenset[int]
    heads: int | None = None
    result: Tensor | None = None

    def before(self) -> list[Node]:
        """The node and all those that it is made of, in order."""
        found, rest = {id(self): self}, [self]
        while rest:
            for parent in rest.pop().parents:
                if id(parent) not in found:
                    found[id(parent)] = parent
                    rest.append(parent)
        return sorted(found.values(), key=lambda node: node.order)


class Mixed(NamedTuple):
    """Companion of a tensor within a region: the row that each element is of, of a matrix also the other; -1: not of one."""

    one: Ids
    other: Ids | None
    node: Node


class Pieces:
    """Which pieces of mixing have become one, by their numbers."""

    def __init__(self) -> None:
        self._same: list[int] = []

    def new(self) -> int:
        """A new piece."""
        self._same.append(len(self._same))
        return self._same[-1]

    def first(self, pieces: Iterable[int]) -> frozenset[int]:
        """The numbers that these pieces now have."""
        return frozenset(map(self._root, pieces))

    def joined(self, pieces: Iterable[int]) -> int:
        """One piece of all these."""
        roots = sorted(self.first(pieces))
        for root in roots[1:]:
            self._same[root] = roots[0]
        return roots[0]

    def _root(self, piece: int) -> int:
        while self._same[piece] != piece:
            piece = self._same[piece]
        return piece


def result_of(nodes: Sequence[Node], piece: int, pieces: Pieces) -> Node | None:
    """The first node through which all goes on that a piece of mixing made, among those before a region's end, in order."""
    last = {id(parent): node.order for node in nodes for parent in node.parents}
    tainted = [node for node in nodes if piece in pieces.first(node.pieces)]
    mixing = max(node.order for node in tainted if node.mixes)
    open_until = (-1, 0)
    for node in tainted:
        if node.order >= mixing and open_until <= node.order:
            return node
        open_until = max(open_until, last.get(id(node), (-1, 0)))
    return None


def with_own(node: Node, nodes: Sequence[Node]) -> Node:
    """The result with what is added to it of the same tokens (D x), before anything else is done with it."""
    found, at = node, node
    own = frozenset[int]().union(*(e.sources for n in node.before() for e in n.entries))
    while True:
        readers = [n for n in nodes if any(p is at for p in n.parents)]
        if len(readers) != 1 or readers[0].kind not in ("add", "move") or len(readers[0].parents) != 1:
            return found
        at = readers[0]
        if any(not e.sources <= own for e in at.entries):
            return found
        found = at if at.kind == "add" else found


def meet(numbers: Numbers, a: Ids, b: Ids) -> bool:
    """Whether different tokens that were made together stand at the same place."""
    a, b = torch.broadcast_tensors(a, b)
    if _is_same(a, b):
        return False
    one, other = map(numbers.first, once(a, b))
    both = (one >= 0) & (other >= 0) & (one != other)
    return bool(both.any()) and bool((numbers.space[one[both]] == numbers.space[other[both]]).any())


def filled(a: Ids, b: Ids) -> Ids:
    """``a``; where it is of no row, ``b``."""
    a, b = torch.broadcast_tensors(a, b)
    if _is_same(a, b):
        return a
    one, other = once(a, b)
    return torch.where(one < 0, other, one).expand(a.shape)


def _is_same(a: Ids, b: Ids) -> bool:
    """Whether two companions of one shape are one in memory."""
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def later(a: Ids, b: Ids) -> Ids:
    """Of two companions whose tokens differ that of the one that lacks none; else the later token."""
    a, b = torch.broadcast_tensors(a, b)
    holes = [bool((x < 0).any()) for x in (a, b)]
    if holes[0] != holes[1]:
        return b if holes[0] else a
    return torch.maximum(a, b)
