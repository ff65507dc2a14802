"""The paper's rules over a whole flow: R[S] = I + Σ_{a∈S} Δ_a, dense or by rows.

S is a state: the set of attentions that a stream has been through. Δ_a is what attention a adds by eqs. 6, 7, 10 and 11,
from the states that it read. Both forms work with R − I, so that small relevances are not lost beside the identity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.flow import Edge, Graph, State
from heedmap.relevance import rules
from heedmap.relevance.chain import AnyMatrix, Columns, Rows

Cams = Mapping[int, AnyMatrix]
"""Ā by attention; one that is absent is left out (start_layer, or a gradient that is zero)."""

PerStream = dict[int, Tensor]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Ablations:
    """The paper's ablations; the defaults are the method."""

    normalize: bool = True
    self_in_rule_10: bool = True
    aggregate: bool = True


class Dense:
    """R^{sx} as whole matrices: for co-attention, whose streams are small, and for whole maps.

    Without aggregation (= for +=) the latest attention's Δ replaces R.
    """

    def __init__(self, graph: Graph, cams: Cams, ablations: Ablations, batch: int) -> None:
        self.graph, self.cams, self.ablations, self.batch = graph, cams, ablations, batch
        self._added: dict[int, PerStream] = {}
        self._rest: dict[tuple[int, State], PerStream] = {}
        for edge in graph.edges:
            if edge.attention in cams:
                self._added[edge.attention] = self._update(edge)

    def rows(self, stream: int, state: State, rows: Rows) -> PerStream:
        """rows @ R[state]^{sx} for every stream x that reaches s."""
        relevance = {x: rows @ rest for x, rest in self.rest(stream, state, rows).items()}
        if stream not in relevance:  # R^{ss} is I so far
            relevance[stream] = rows
        elif self.ablations.aggregate:
            relevance[stream] = relevance[stream] + rows
        return relevance

    def added(self, stream: int, state: State, rows: Rows) -> PerStream:
        """rows @ (R[state]^{sx} − I): what attention added, of the streams that s took in too; with aggregation."""
        relevance = {stream: torch.zeros_like(rows)}
        for attention in sorted(state & self._added.keys()):
            add_to(relevance, {x: rows @ added for x, added in self._added[attention].items()})
        for other, join in self.graph.streams[stream].joins.items():
            add_to(relevance, self.added(other, join.state, join.weights(rows)))
        return relevance

    def rest(self, stream: int, state: State, like: Tensor) -> PerStream:
        """R[state]^{sx}, less the identity for x = s (without aggregation: less nothing, once replaced).

        ``like`` tells dtype and device.
        """
        state = frozenset(a for a in state if a in self._added)
        if (stream, state) not in self._rest and not state:
            self._rest[stream, state] = self._taken_in(stream, like)
        if (stream, state) not in self._rest:
            last = max(state)
            total = dict(self.rest(stream, state - {last}, like))
            for x, added in self._added[last].items():
                total[x] = total[x] + added if x in total and self.ablations.aggregate else added
            self._rest[stream, state] = total
        return self._rest[stream, state]

    def _taken_in(self, stream: int, like: Tensor) -> PerStream:
        """R^{sx} of a stream that begins with tokens of others: their rows of R."""
        relevance: PerStream = {}
        for other, join in self.graph.streams[stream].joins.items():
            add_to(relevance, self.rows(other, join.state, join.weights(self._identity(stream, like))))
        return relevance

    def _identity(self, stream: int, like: Tensor) -> Tensor:
        size = self.graph.streams[stream].tokens
        return torch.eye(size, dtype=like.dtype, device=like.device).expand(self.batch, -1, -1)

    def _whole(self, stream: int, state: State, like: Tensor) -> Tensor:
        """R[state]^{ss}."""
        identity = self._identity(stream, like)
        rest = self.rest(stream, state, like).get(stream)
        if rest is None:
            return identity
        return identity + rest if self.ablations.aggregate else rest

    def _update(self, edge: Edge) -> PerStream:
        cam = self.cams[edge.attention].dense()
        source = dict(self.rest(edge.source, edge.value_state, cam))
        if self.graph.is_whole(edge):
            source[edge.source] = self._whole(edge.source, edge.value_state, cam)
            rule = rules.self_attention if edge.is_self else rules.cross_attention_back
            return {x: rule(cam, R_qx) for x, R_qx in source.items()}
        added = {edge.source: self._rule_10(edge, cam)}
        for x, R_qx in source.items():
            if x != edge.source:
                added[x] = rules.cross_attention_back(cam, R_qx)
        if not self.ablations.aggregate:
            self._replace_by_zero(edge, cam, added)
        return added

    def _rule_10(self, edge: Edge, cam: Tensor) -> Tensor:
        if not self.ablations.self_in_rule_10:
            return cam
        asks, asked = ((edge.stream, edge.query_state), (edge.source, edge.value_state))
        read = self._bar if self.ablations.normalize else self._whole
        return rules.cross_attention(cam, read(*asks, cam), read(*asked, cam), normalized=False)

    def _bar(self, stream: int, state: State, like: Tensor) -> Tensor:
        """R̄ (eqs. 8, 9), from R − I as it is kept."""
        rest = self.rest(stream, state, like).get(stream)
        if rest is None or not self.ablations.aggregate:
            return rules.normalize(self._whole(stream, state, like))
        identity = torch.eye(rest.shape[-1], dtype=rest.dtype, device=rest.device)
        return rest / rules.guarded(rest.sum(-1, keepdim=True)) + identity

    def _replace_by_zero(self, edge: Edge, cam: Tensor, added: PerStream) -> None:
        """Without aggregation, rule 11 also replaces what is zero so far but not zero by structure."""
        for x in self.graph.reachable_from[edge.source] - added.keys() - {edge.source}:
            added[x] = cam.new_zeros(*cam.shape[:2], self.graph.streams[x].tokens)


class ByRows:
    """Rows of R^{sx} only: O(N²) an attention, nothing of size N² kept. For flows without co-attention."""

    def __init__(self, graph: Graph, cams: Cams, ablations: Ablations) -> None:
        if not graph.is_acyclic or not ablations.aggregate:
            raise ValueError("rows alone need a flow without co-attention, with aggregation; use Dense")
        self.graph, self.cams, self.ablations = graph, cams, ablations
        self.edges = [e for e in graph.edges if e.attention in cams]
        self._families = graph.families

    def rows(self, stream: int, state: State, rows: Rows) -> PerStream:
        """rows @ R[state]^{sx} for every stream x that reaches s; (batch, k, tokens of x) each."""
        return self._carried(stream, state, rows, rows)

    def added(self, stream: int, state: State, rows: Rows) -> PerStream:
        """rows @ (R[state]^{sx} − I): what attention added, of the streams that s took in too."""
        return self._carried(stream, state, rows, torch.zeros_like(rows))

    def _carried(self, stream: int, state: State, rows: Rows, identity: Rows) -> PerStream:
        """``identity`` and rows @ (R − I); where ``identity`` is zero, so it is in the streams that s took in."""
        relevance, begun, asked = self._down(stream, state, rows, identity)
        for member, reached in list(relevance.items()):
            for other, join in self.graph.streams[member].joins.items():
                if other not in self._families[member]:
                    add_to(asked, {("whole", other, join.state): join.weights(reached)})
        for (rule, source, at), weight in asked.items():
            add_to(relevance, self._asked(rule, source, at, weight))
        for member, image in begun.items():
            for other, join in self.graph.streams[member].joins.items():
                if other not in self._families[member]:
                    add_to(relevance, self.added(other, join.state, join.weights(image)))
        return relevance

    def _down(
        self, stream: int, state: State, rows: Rows, identity: Rows
    ) -> tuple[PerStream, PerStream, dict[tuple[str, int, State], Tensor]]:
        """``identity`` and rows @ (R − I) for the streams of one family, and the weights with which states of others are asked.

        Where ``identity`` is not ``rows``, the second is what became of ``rows`` in each of them without any attention.

        A family is a stream with those that were made from its tokens, or it from theirs: whoever asks within it carries on
        whole rows. The weights with which others are asked are given by the rule that carries them on.
        """
        relevance, carried = {stream: identity}, dict.fromkeys(state, rows)
        begun: PerStream = {} if identity is rows else {stream: rows}
        asked: dict[tuple[str, int, State], Tensor] = {}
        for number, edge, made in self._order(stream):
            if edge is None:
                for other in made:
                    join = self.graph.streams[number].joins[other]
                    for images in (relevance, begun):
                        if number in images:
                            self._put(images, carried, other, join.state, join.weights(images[number]))
            elif edge.attention in carried:
                weight = carried[edge.attention]
                if edge.source in self._families[stream]:
                    down = self.cams[edge.attention].left(weight, few=weight is rows)
                    self._put(relevance, carried, edge.source, edge.value_state, down)
                else:
                    self._ask(edge, weight, asked)
        return relevance, begun, asked

    @staticmethod
    def _put(relevance: PerStream, carried: dict[int, Tensor], stream: int, state: State, down: Rows) -> None:
        add_to(relevance, {stream: down})
        add_to(carried, dict.fromkeys(state, down))

    def _order(self, stream: int) -> list[tuple[int, Edge | None, tuple[int, ...]]]:
        """What happens to a family, the last first: an edge, or that a stream of it is made, which is told by its number."""
        family = self._families[stream]
        events: list[tuple[tuple[float, int], tuple[int, Edge | None, tuple[int, ...]]]] = [
            ((-e.attention, 0), (e.stream, e, ())) for e in self.edges if e.stream in family
        ]
        for member in family:
            made = tuple(x for x in self.graph.streams[member].joins if x in family)
            if made:
                begin, before = self._begin(member, family)
                events.append(((-begin, before), (member, None, made)))
        return [event for _, event in sorted(events, key=lambda event: event[0])]

    def _begin(self, member: int, family: set[int]) -> tuple[float, int]:
        """When a stream is made, and before how many others that are made then: before it first asks or is asked, or another is
        made of it, also where one of the mixers that made it was called later."""
        mixers = [m for join in self.graph.streams[member].joins.values() for m in join.mixers]
        later = [self._begin(x, family) for x in family if member in self.graph.streams[x].joins]
        uses = [e.attention - 0.5 for e in self.edges if member in (e.stream, e.source)]
        first = min([math.inf, *map(float, sorted(mixers)[-1:]), *uses, *(begin for begin, _ in later)])
        return first, 1 + max((before for begin, before in later if begin == first), default=0)

    def _ask(self, edge: Edge, weight: Rows, asked: dict[tuple[str, int, State], Tensor]) -> None:
        if self.graph.is_whole(edge):
            add_to(asked, {("whole", edge.source, edge.value_state): self.cams[edge.attention].left(weight)})
            return
        add_to(asked, {("rule 10", edge.source, edge.value_state): self._rule_10(edge, weight)})
        if self.graph.reachable_from[edge.source]:
            add_to(asked, {("rule 11", edge.source, edge.value_state): self.cams[edge.attention].left(weight)})

    def _asked(self, rule: str, source: int, state: State, weight: Rows) -> PerStream:
        """What a state of another stream gives to those that it hears: itself by rule 10, others by rule 11, or all."""
        if rule == "rule 10":
            return {source: self._bar_rows(source, state, weight) if self.ablations.self_in_rule_10 else weight}
        heard = self.rows(source, state, weight)
        return heard if rule == "whole" else {x: more for x, more in heard.items() if x != source}

    def _rule_10(self, edge: Edge, weight: Rows) -> Float[Tensor, "batch k q"]:
        """weight (R̄^{ss})ᵀ Ā; what remains of rule 10 is R̄^{qq}, applied once for all attentions that read that state."""
        if self.ablations.self_in_rule_10:
            weight = self._bar_columns(edge.stream, edge.query_state, weight.transpose(-1, -2)).transpose(-1, -2)
        return self.cams[edge.attention].left(weight)

    def _bar_columns(self, stream: int, state: State, columns: Columns) -> Columns:
        """R̄^{ss} @ columns (without normalisation: R^{ss} @ columns)."""
        if not self.ablations.normalize:
            return columns + self._rest_columns(stream, state, columns)
        ones = columns.new_ones(*columns.shape[:2], 1)
        rest = self._rest_columns(stream, state, torch.cat([columns, ones], -1))
        return columns + rest[..., :-1] / rules.guarded(rest[..., -1:])

    def _bar_rows(self, stream: int, state: State, rows: Rows) -> Rows:
        """rows @ R̄^{ss} (without normalisation: rows @ R^{ss})."""
        weight = rows
        if self.ablations.normalize:
            sums = self._rest_columns(stream, state, rows.new_ones(rows.shape[0], rows.shape[2], 1))
            weight = rows / rules.guarded(sums).transpose(-1, -2)
        return rows + self._down(stream, state, weight, torch.zeros_like(weight))[0][stream]

    def _rest_columns(self, stream: int, state: State, columns: Columns) -> Columns:
        """(R^{ss} − I) @ columns: up the chain of self-attentions."""
        begun: dict[int, Columns] = {stream: columns}
        added: dict[int, Tensor] = {}
        last = max(state, default=-1)

        def at(x: int, here: State) -> Columns | None:
            parts = [begun[x]] if x in begun else []
            parts += [added[a] for a in here if a in added]
            return sum(parts[1:], parts[0]) if parts else None

        for number, edge, made in reversed(self._order(stream)):
            if edge is None and number != stream:
                own = self.graph.streams[number]
                heard = [(x, here) for x in made if (here := at(x, own.joins[x].state)) is not None]
                for x, here in heard:
                    add_to(begun, {number: own.joins[x].columns(here, own.tokens)})
            elif edge is not None and edge.attention <= last and edge.source in self._families[stream]:
                here = at(edge.source, edge.value_state)
                if here is not None:
                    added[edge.attention] = self.cams[edge.attention].right(here)
        return sum((added[a] for a in state if a in added), torch.zeros_like(columns))


def add_to(into: dict[Key, Tensor], more: Mapping[Key, Tensor]) -> None:
    """Add to what is there, or begin with it; no tensor is written to."""
    for key, value in more.items():
        into[key] = into[key] + value if key in into else value
