"""Attention rollout: the product of A + I over the layers; defined for every flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from heedmap.attention.flow import Edge, State
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.relevance.chain import AnyMatrix, Columns, Rows


class Rollout:
    """R^{ss} = Π (M + I), rows normalised; R^{sq} from the last cross-attention from s to q.

    Args:
        run: the recorded forward pass.
        matrix: M of each attention.
        options: ``normalize``, ``start_layer``, ``padding``.
        through: R^{sq} = (R^{ss})ᵀ M R^{qq}; else M alone.
    """

    def __init__(
        self, run: TargetView, matrix: Callable[[int], AnyMatrix], options: Mapping[str, object], through: bool = True
    ) -> None:
        self.run, self.matrix, self.through = run, matrix, through
        self.normalize, self.exclude = options["normalize"], options.get("padding") == "exclude"
        kept = run.from_layer(options["start_layer"])
        self.edges = [e for e in run.graph.edges if e.attention in kept]
        self._known: dict[int, tuple[AnyMatrix, Tensor]] = {}

    def rows(self, stream: int, state: State, rows: Rows) -> dict[int, Tensor]:
        """rows @ R^{sx} for every stream x that reaches s."""
        relevance = {stream: self._down(stream, state, rows)}
        last = {e.source: e for e in self.edges if e.stream == stream and not e.is_self and e.attention in state}
        for source, edge in last.items():
            here = self._matrix(edge)[0].left(self._asking(edge, rows))
            for x, more in self.rows(source, edge.value_state, here).items():
                if x == source and not self.through:
                    relevance[x] = here
                elif x == source or (x not in last and x != stream):
                    relevance[x] = relevance[x] + more if x in relevance else more
        for other, join in self.run.graph.streams[stream].joins.items():
            for x, more in self.rows(other, join.state, join.weights(relevance[stream])).items():
                relevance[x] = relevance[x] + more if x in relevance else more
        return relevance

    def _asking(self, edge: Edge, rows: Rows) -> Rows:
        """rows @ (R^{ss})ᵀ in the state that a cross-attention reads."""
        if not self.through:
            return rows
        asking = self._up(edge.stream, edge.query_state, rows.transpose(-1, -2)).transpose(-1, -2)
        return asking * self.run.visible(edge.stream)[:, None].to(asking.dtype) if self.exclude else asking

    def _own(self, stream: int, state: State) -> list[Edge]:
        return [e for e in self.edges if e.stream == stream and e.is_self and e.attention in state]

    def _matrix(self, edge: Edge) -> tuple[AnyMatrix, Tensor]:
        """M and the row sums of M + I, (batch, tokens, 1)."""
        if edge.attention not in self._known:
            matrix = self.matrix(edge.attention)
            attention = self.run.attentions[edge.attention]
            ones = attention.value.new_ones(attention.batch, attention.keys, 1, dtype=attention.dtype)
            sums = matrix.right(ones) + 1 if self.normalize else torch.ones_like(ones[:, :1])
            self._known[edge.attention] = matrix, sums
        return self._known[edge.attention]

    def _down(self, stream: int, state: State, rows: Rows) -> Rows:
        for edge in reversed(self._own(stream, state)):
            matrix, sums = self._matrix(edge)
            rows = rows / sums.transpose(-1, -2)
            rows = matrix.left(rows) + rows
        return rows

    def _up(self, stream: int, state: State, columns: Columns) -> Columns:
        for edge in self._own(stream, state):
            matrix, sums = self._matrix(edge)
            columns = (matrix.right(columns) + columns) / sums
        return columns


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return Rollout(run, run.mean_probabilities, options).rows


METHOD = Method(
    name="rollout",
    summary="the product of (attention + identity) over the layers",
    source="Abnar and Zuidema, ACL 2020, arXiv 2005.00928; cross-attention as in Chefer, Gur, Wolf, ICCV 2021",
    options={"normalize": True, "start_layer": 0, "padding": "exclude", "drop_self": True},
    choices={"padding": ("exclude", "include")},
    prepare=_prepare,
)
