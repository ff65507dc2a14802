"""Methods of one line on attention and its gradient: A ⊙ ∂y/∂A of one layer, and LeGrad over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from heedmap.attention.flow import State
from heedmap.methods.last import last_maps
from heedmap.methods.method import Method
from heedmap.methods.run import RowsOf, Run
from heedmap.relevance.chain import Matrix


def _attention_x_gradient(run: Run, options: Mapping[str, Any]) -> RowsOf:
    def matrix(index: int) -> Matrix:
        if index not in run.gradients:
            return run.zeros(index)
        attention, gradient = run.attentions[index], run.gradients[index]

        def block(rows: slice) -> Tensor:
            product = attention.probabilities(rows) * attention.gradient(gradient, rows)
            return (product.clamp_(min=0) if options["positive"] else product).mean(1)

        return run.matrix(attention, block)

    return last_maps(run, matrix, run.up_to_layer(options["layer"]))


ATTENTION_X_GRADIENT = Method(
    name="attention_x_gradient",
    summary="attention times its gradient in one layer, mean over heads (of a stream: the last map to each up to that layer)",
    source="a baseline; the positive part is eq. 5 of Chefer, Gur, Wolf, ICCV 2021, arXiv 2103.15679",
    options={"layer": -1, "positive": False, "drop_self": True},
    choices={},
    prepare=_attention_x_gradient,
)


def _legrad(run: Run, options: Mapping[str, Any]) -> RowsOf:
    """Whatever row asks, its relevance is the same: Σ over the layers of the column means of (∂y/∂A)⁺.

    Where the target reads several streams, each of them brings its part of what they all hear.
    """
    kept = run.from_layer(options["start_layer"])
    edges = [e for e in run.graph.edges if e.attention in kept and e.attention in run.gradients]
    hears = run.graph.hears
    means = {e.attention: _column_means(run, e.attention, e.stream) for e in edges}

    def rows_of(stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        asked, reached = rows.sum(-1, keepdim=True), {stream} | hears[stream]
        found = {x: rows.new_zeros(*rows.shape[:2], run.graph.streams[x].tokens) for x in sorted(reached)}
        for edge in edges:
            if edge.stream in reached:
                share = asked / readers(edge.stream)[:, None]
                found[edge.source] = found[edge.source] + share * means[edge.attention][:, None]
        for x in sorted(reached, reverse=True):  # a stream that was taken in comes before the one that took it in
            for other, join in run.graph.streams[x].joins.items():
                found[other] = found[other] + join.weights(found[x])
        return found

    def readers(stream: int) -> Tensor:
        """How many of the streams that are read hear ``stream``, (batch, 1); 1 where none is."""
        read = [r.weights.sum(-1) for s, r in run.readouts.items() if s == stream or stream in hears[s]]
        return torch.stack(read).sum(0).clamp(min=1) if read else torch.ones(run.batch, 1).to(means_like)

    means_like = run.attentions[0].value.new_zeros((), dtype=run.attentions[0].dtype)
    return rows_of


def _column_means(run: Run, index: int, stream: int) -> Tensor:
    """Mean over heads and over the rows that are no padding of (∂y/∂A)⁺, (batch, keys)."""
    attention, gradient = run.attentions[index], run.gradients[index]
    matrix = run.matrix(attention, lambda rows: attention.gradient(gradient, rows).clamp_(min=0).mean(1))
    seen = run.visible(stream).to(attention.dtype)[:, None]
    return (matrix.left(seen) / seen.sum(-1, keepdim=True).clamp(min=1))[:, 0]


LEGRAD = Method(
    name="legrad",
    summary="positive part of the attentions' gradients, mean over heads and rows, summed over the layers",
    source="Bousselham et al., LeGrad, ICCV 2025, arXiv 2404.03214; of the target itself, where the paper gives each "
    "layer a score of its own",
    options={"start_layer": 0, "drop_self": True},
    choices={},
    prepare=_legrad,
)
