"""Heads that a model computes by calls of their own are heads of one attention: eq. 5 takes the mean over them.

How a model writes its heads must not change a map. Attentions that read the same two states, and that nothing reads apart from
each other later, are therefore one. Of these, calls that share A (the same q, k and mask, on parts of the values) are the same
heads, whose ∂y/∂A is the sum of both. Of attentions in blocks, calls with other blocks (windows for half of the heads, stripes
for the rest) cannot be one, but have each its heads' part of the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention.attention import Attention, Block, Value
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.flow import Graph, State
from heedmap.attention.tags import attentions_among

Calls = tuple[tuple[int, ...], ...]
"""What one attention was computed by: heads side by side, each of one or more calls that share A; recorded attentions."""


@dataclass(eq=False)
class Joined(Attention):
    """An attention with the heads of several others; ``value`` has a head for each, all of as many features."""

    parts: tuple[Attention, ...] = ()

    @property
    def heads(self) -> int:
        """Number of heads of all parts."""
        return sum(part.heads for part in self.parts)

    @property
    def _asks(self) -> Tensor:
        return self.parts[0]._asks

    def probabilities(self, rows: slice = slice(None)) -> Block:
        """See :meth:`Attention.probabilities`."""
        return torch.cat([part.probabilities(rows) for part in self.parts], 1)


@dataclass(eq=False)
class JoinedBlocks(Joined, BlockAttention):
    """The same of an attention in blocks."""


@dataclass(frozen=True, eq=False)
class JoinedHeads:
    """A recorded flow in which all calls that are heads of one attention are one.

    Attributes:
        graph: with one edge an attention, named by its first call.
        attentions: by index; further calls keep their place, but no edge names them.
        recorded: the calls, by index.
        calls: by index of the attention, where it has several.
        apart: groups of attentions in blocks that have each a part of the heads of one attention; of each part those whose
            weights are of one softmax (its keys may be parted, too).
    """

    graph: Graph
    attentions: list[Attention]
    recorded: Sequence[Attention]
    calls: Mapping[int, Calls]
    apart: Sequence[Sequence[Sequence[int]]] = ()

    def weighted(self, gradients: Mapping[int, Tensor]) -> list[Attention]:
        """The attentions, those with a part of the heads with its share in the mean over all of them.

        Args:
            gradients: of :meth:`gradients`. A token's output that has none was written over, and is none of its heads.
        """
        made = list(self.attentions)
        for group in self.apart:
            of_parts = [[a for a in map(self._in_blocks, part) if a.index in gradients] for part in group]
            counts = [[_heads_of_tokens(a, gradients[a.index]) for a in part] for part in of_parts if part]
            if len(counts) > 1:
                heads = torch.stack([torch.stack(of_part).amax(0) for of_part in counts]).sum(0)
                for a in chain.from_iterable(of_parts):
                    made[a.index] = replace(a, share=a.heads / heads[a.query_rows.to(heads.device)].clamp(min=a.heads))
        return made

    def _in_blocks(self, index: int) -> BlockAttention:
        attention = self.attentions[index]
        assert isinstance(attention, BlockAttention)
        return attention

    def gradients(self, of_calls: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """∂y/∂o of each attention, (batch, heads, queries, features), from those of the calls."""

        def whole(calls: Calls, like: Tensor) -> Tensor:
            def of(index: int) -> Tensor:
                call = self.recorded[index]
                return of_calls.get(index, like.new_zeros(*call.rows_of_heads, call.value.shape[-1]))

            return _side_by_side([torch.cat([of(i) for i in same], -1) for same in calls])

        return self._of_attentions(of_calls, whole)

    def relevances(self, of_calls: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """What fell on A of each attention, (batch, heads, queries, keys), from what fell on A of the calls."""

        def whole(calls: Calls, like: Tensor) -> Tensor:
            def of(index: int) -> Tensor:
                call = self.recorded[index]
                return of_calls.get(index, like.new_zeros(call.batch, call.heads, call.queries, call.keys))

            return torch.cat([torch.stack([of(i) for i in same]).sum(0) for same in calls], 1)

        return self._of_attentions(of_calls, whole)

    def _of_attentions(
        self, of_calls: Mapping[int, Tensor], whole: Callable[[Calls, Tensor], Tensor]
    ) -> dict[int, Tensor]:
        of_attentions = {index: tensor for index, tensor in of_calls.items() if index not in _further(self.calls)}
        for index, calls in self.calls.items():
            like = next((of_calls[i] for same in calls for i in same if i in of_calls), None)
            if like is not None:
                of_attentions[index] = whole(calls, like)
        return of_attentions

    def state(self, state: State) -> State:
        """``state`` by the attentions of this flow."""
        return state - _further(self.calls)


def joined(graph: Graph, attentions: Sequence[Attention], read: frozenset[int]) -> JoinedHeads:
    """The flow with one attention for all calls that are its heads.

    Args:
        graph: as recorded.
        attentions: as recorded.
        read: the attentions that the target was computed from.
    """
    sides = [sources for a in attentions for sources in (a.query_sources, a.value_sources)]
    readers = [read, *(attentions_among(graph.sources, sources) for sources in sides)]
    groups: dict[Any, list[int]] = {}
    for edge in graph.edges:
        a, readers_of = attentions[edge.attention], tuple(edge.attention in reader for reader in readers)
        if not a.mixes and not _convolves(a):
            states = (edge.stream, edge.query_state, edge.source, edge.value_state, edge.added)
            groups.setdefault((states, a.queries, a.keys, readers_of), []).append(a.index)
    by_rows = [_grouped(attentions, group, _same_rows) for group in groups.values()]
    of_several = [of_rows for group in by_rows for of_rows in group if len(of_rows) > 1]
    calls = {of_rows[0]: tuple(map(tuple, _grouped(attentions, of_rows, _share))) for of_rows in of_several}
    made = list(attentions)
    for index, shared in calls.items():
        made[index] = _side_by_side_of([_sharing_one([attentions[i] for i in same]) for same in shared])
    parts = [_grouped(made, [of_rows[0] for of_rows in group], _scored_alike) for group in by_rows]
    apart = [of_group for of_group in parts if len(of_group) > 1]
    return JoinedHeads(_without(graph, _further(calls)), made, attentions, calls, apart)


def _convolves(a: Attention) -> bool:
    """Whether its weights are said by one token each, and not by two: a dynamic convolution (ConvBERT), by itself."""
    return isinstance(a, BlockAttention) and len(_scored(a)) < 2


def _grouped(
    attentions: Sequence[Attention], indices: Sequence[int], alike: Callable[[Attention, Attention], bool]
) -> list[list[int]]:
    """The indices of attentions, of those that are alike together."""
    groups: list[list[int]] = []
    for index in indices:
        same = next((group for group in groups if alike(attentions[group[0]], attentions[index])), None)
        if same is None:
            groups.append([index])
        else:
            same.append(index)
    return groups


def _same_rows(a: Attention, b: Attention) -> bool:
    """Whether the rows and columns of two calls are the same tokens."""
    if not isinstance(a, BlockAttention) or not isinstance(b, BlockAttention):
        return True
    return torch.equal(a.query_rows, b.query_rows) and torch.equal(a.key_rows, b.key_rows) and a.form == b.form


def _heads_of_tokens(attention: BlockAttention, gradient: Tensor) -> Tensor:
    """How many heads of it each token has, (sample · tokens + token); one that asks nothing has none."""
    heads = gradient.new_zeros(attention.batch * attention.queries + 1)
    rows = attention.query_rows.to(gradient.device)[(gradient != 0).any(-1).any(1)]
    heads[rows] = attention.heads / attention.share
    heads[-1] = 0
    return heads


def _further(calls: Mapping[int, Calls]) -> frozenset[int]:
    return frozenset(i for index, shared in calls.items() for same in shared for i in same) - calls.keys()


def _share(a: Attention, b: Attention) -> bool:
    """Whether two calls have the same A because they have the same q, k and mask, not by chance."""
    if (a.causal, a.scale, a.columns, a.heads) != (b.causal, b.scale, b.columns, b.heads):
        return False
    return _scored_alike(a, b) and _equal(a.mask, b.mask) and _equal(a.probs, b.probs)


def _scored_alike(a: Attention, b: Attention) -> bool:
    """Whether two calls multiplied the same; then calls with other tokens have their weights of one softmax."""
    return _alike(_scored(a), _scored(b))


def _scored(attention: Attention) -> tuple[Tensor, ...]:
    """What was multiplied to q kᵀ; empty where that was not seen."""
    if attention.query is not None and attention.key is not None:
        return attention.query, attention.key
    return attention.scored or ()


def _alike(first: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether what was multiplied is the same; where nothing was seen it is not."""
    return bool(first) and len(first) == len(other) and all(map(_same, first, other))


def _same(a: Tensor, b: Tensor) -> bool:
    """One tensor, or a copy of it; two that are all zero are none."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    return torch.equal(a, b) and bool(a.any())


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and a.dtype == b.dtype and torch.equal(a, b))


def _sharing_one(parts: Sequence[Attention]) -> Attention:
    """One attention with the values of all: they share A."""
    first = parts[0]
    return first if len(parts) == 1 else replace(first, value=torch.cat([p.value for p in parts], -1))


def _side_by_side_of(parts: Sequence[Attention]) -> Attention:
    """One attention with the heads of all."""
    first = parts[0]
    if len(parts) == 1:
        return first
    given = {f.name: getattr(first, f.name) for f in fields(first)}
    given |= {"value": _side_by_side([_every_head(part)[:, :, part.columns] for part in parts]), "parts": tuple(parts)}
    kind = JoinedBlocks if isinstance(first, BlockAttention) else Joined
    return kind(**given | {"query": None, "key": None, "mask": None, "probs": None, "skip": 0})


def _every_head(attention: Attention) -> Value:
    """v with one head for each head of q."""
    return attention.value.repeat_interleave(attention.heads // attention.value.shape[1], 1)


def _side_by_side(heads: Sequence[Tensor]) -> Tensor:
    """Heads after one another, with zeros as further features of those that have fewer."""
    most = max(t.shape[-1] for t in heads)
    return torch.cat([F.pad(t, (0, most - t.shape[-1])) for t in heads], 1)


def _without(graph: Graph, further: frozenset[int]) -> Graph:
    """The graph without the edges of some attentions."""
    if not further:
        return graph
    streams = [
        replace(
            s,
            attentions=[a for a in s.attentions if a not in further],
            joins={x: replace(join, state=join.state - further) for x, join in s.joins.items()},
        )
        for s in graph.streams
    ]
    edges = [
        replace(e, query_state=e.query_state - further, value_state=e.value_state - further)
        for e in graph.edges
        if e.attention not in further
    ]
    return Graph(streams, edges, graph.sources)
