"""Methods that look at the last attentions only: raw attention, and Grad-CAM on attention.

For the stream that is read: its last self-attention; for another stream: the last cross-attention to it. A stream that is
heard through another one only is reached by the product of both maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.flow import State
from heedmap.attention.record import Attention
from heedmap.methods.method import Method
from heedmap.methods.run import RowsOf, Run
from heedmap.relevance.chain import Matrix


def last_maps(run: Run, matrix: Callable[[int], Matrix], among: Set[int] | None = None) -> RowsOf:
    """rows @ the last map to each stream; ``matrix`` gives the map of one attention; ``among``: those that there are."""
    edges = [e for e in run.graph.edges if among is None or e.attention in among]

    def rows_of(stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        last = {edge.source: edge for edge in edges if edge.stream == stream and edge.attention in state}
        found: dict[int, Tensor] = {}
        for source, edge in last.items():
            here = matrix(edge.attention).left(rows)
            found[source] = here
            if source != stream:
                further = rows_of(source, edge.value_state, here)
                found = {x: r for x, r in further.items() if x not in last} | found
        for other, join in run.graph.streams[stream].joins.items():
            here = join.weights(found.get(stream, rows))
            found = rows_of(other, join.state, here) | {other: here} | found
        return found

    return rows_of


def _raw(run: Run, options: Mapping[str, Any]) -> RowsOf:
    return last_maps(run, run.mean_probabilities)


RAW_ATTENTION = Method(
    name="raw_attention",
    summary="the attention probabilities of the last layer, mean over heads",
    source="the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4",
    options={"drop_self": True},
    choices={},
    prepare=_raw,
    needs_gradients=False,
)


def head_weights(
    attention: Attention, gradient: Tensor, rows: Float[Tensor, "batch queries"], columns: Float[Tensor, "batch keys"]
) -> Float[Tensor, "batch heads"]:
    """Mean of ∂y/∂A over the chosen rows and columns: a product of two sums, as ∂y/∂A = (∂y/∂o) vᵀ."""
    value = attention.value.detach()[:, :, attention.columns].to(attention.dtype)
    value = (value * columns[:, None, :, None]).sum(2)
    value = value.repeat_interleave(attention.heads // value.shape[1], 1)
    asked = (gradient.to(attention.dtype) * rows[:, None, :, None]).sum(2)
    return (asked * value).sum(-1) / (rows.sum(-1) * columns.sum(-1))[:, None].clamp(min=1)


def _gradcam(run: Run, options: Mapping[str, Any]) -> RowsOf:
    edges = {e.attention: e for e in run.graph.edges}
    known: dict[int, Matrix] = {}

    def matrix(index: int) -> Matrix:
        if index not in run.gradients:
            return run.zeros(index)
        if index not in known:
            rows, columns = _region(run, edges[index].stream, edges[index].source, index, options)
            weights = head_weights(run.attentions[index], run.gradients[index], rows, columns)[:, :, None, None]
            cam = run.matrix(
                run.attentions[index],
                lambda block: (run.attentions[index].probabilities(block) * weights).mean(1).clamp(min=0),
            )
            inside = (rows, columns) if options["min_max"] == "region" else None
            known[index] = cam if options["min_max"] == "none" else min_max(run, index, cam, inside)
        return known[index]

    return last_maps(run, matrix)


def _region(
    run: Run, stream: int, source: int, index: int, options: Mapping[str, Any]
) -> tuple[Float[Tensor, "batch queries"], Float[Tensor, "batch keys"]]:
    """1 for the rows and columns over which the gradient is averaged, else 0."""
    attention = run.attentions[index]
    ones = attention.value.new_ones(attention.batch, 1, dtype=attention.dtype)
    rows, columns = ones.expand(-1, attention.queries), ones.expand(-1, attention.keys)
    if options["padding"] == "exclude":
        columns = run.visible(source).to(ones.dtype)
        rows = run.visible(stream).to(ones.dtype)
    if options["region"] == "row" and stream in run.readouts:  # of a stream that is not read directly: all rows
        rows = (run.readouts[stream].weights[:, 0] > 0).to(ones.dtype)
        columns = columns * (1 - rows) if stream == source else columns
    return rows, columns


def min_max(run: Run, index: int, cam: Matrix, region: tuple[Tensor, Tensor] | None = None) -> Matrix:
    """``cam`` scaled to 0…1 over the whole matrix, or over the rows and columns of a region that are not 0."""
    low, high = [], []
    for where, block in cam.blocks():
        inside = torch.ones_like(block, dtype=torch.bool)
        if region is not None:
            inside = region[0][:, where, None] * region[1][:, None] > 0
        low.append(block.masked_fill(~inside, torch.inf).amin((1, 2)))
        high.append(block.masked_fill(~inside, -torch.inf).amax((1, 2)))
    least = torch.stack(low).amin(0)[:, None, None]
    span = torch.stack(high).amax(0)[:, None, None] - least
    least = least.masked_fill(least.isinf(), 0.0)  # of an empty region
    span = torch.where(span > 0, span, torch.ones_like(span))
    return run.matrix(run.attentions[index], lambda block: (_slice(cam, block) - least) / span)


def _slice(matrix: Matrix, rows: slice) -> Tensor:
    return matrix.dense()[:, rows] if matrix.keep else matrix.block(rows)


ATTENTION_GRADCAM = Method(
    name="attention_gradcam",
    summary="the last layer's heads weighted by their mean gradient, positive part of the mean over heads",
    source="the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4, after Selvaraju et al., ICCV 2017",
    options={"region": "matrix", "min_max": "none", "padding": "exclude", "drop_self": True},
    choices={
        "region": ("matrix", "row"),
        "min_max": ("none", "matrix", "region"),
        "padding": ("exclude", "include"),
    },
    prepare=_gradcam,
)
