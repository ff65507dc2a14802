"""Methods on attention matrices themselves: raw attention, Grad-CAM on attention, A ⊙ ∂y/∂A of one layer, and LeGrad over all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.flow import State
from heedmap.errors import UnfollowedAttentionError
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.relevance.chain import AnyMatrix


def last_maps(run: TargetView, matrix: Callable[[int], AnyMatrix], among: Set[int] | None = None) -> RelevanceRows:
    """rows @ the last map to each stream; ``matrix`` gives the map of one attention; ``among``: those that there are."""
    edges = [e for e in run.graph.edges if among is None or e.attention in among]

    def rows_of(stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        last = {edge.source: edge for edge in edges if edge.stream == stream and edge.attention in state}
        relevance: dict[int, Tensor] = {}
        for source, edge in last.items():
            here = matrix(edge.attention).left(rows)
            relevance[source] = here
            if source != stream:
                further = rows_of(source, edge.value_state, here)
                relevance = {x: more for x, more in further.items() if x not in last} | relevance
        for other, join in run.graph.streams[stream].joins.items():
            here = join.weights(relevance.get(stream, rows))
            relevance = rows_of(other, join.state, here) | {other: here} | relevance
        return relevance

    return rows_of


def _raw(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return last_maps(run, run.mean_probabilities)


RAW_ATTENTION = Method(
    name="raw_attention",
    summary="the attention probabilities of the last layer, mean over heads",
    source="the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4",
    options={"drop_self": True},
    prepare=_raw,
)


def head_weights(
    attention: Attention, gradient: Tensor, rows: Float[Tensor, "batch queries"], columns: Float[Tensor, "batch keys"]
) -> Float[Tensor, "batch heads"]:
    """Mean of ∂y/∂A over the chosen rows and columns: a product of two sums, as ∂y/∂A = (∂y/∂o) vᵀ.

    Raises:
        UnfollowedAttentionError: of an attention in blocks, and of what is none.
    """
    if attention.mixes or isinstance(attention, BlockAttention):
        raise UnfollowedAttentionError(
            "Grad-CAM's mean over whole maps is not defined for attention in windows and other mixers, so there is no map; "
            "choose 'generic'"
        )
    value = attention.value.detach()[:, :, attention.columns].to(attention.dtype)
    value = (value * columns[:, None, :, None]).sum(2)
    value = value.repeat_interleave(attention.heads // value.shape[1], 1)
    asked = (gradient.to(attention.dtype) * rows[:, None, :, None]).sum(2)
    return (asked * value).sum(-1) / (rows.sum(-1) * columns.sum(-1))[:, None].clamp(min=1)


def _gradcam(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    edges = {e.attention: e for e in run.graph.edges}
    known: dict[int, AnyMatrix] = {}

    def matrix(index: int) -> AnyMatrix:
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
    run: TargetView, stream: int, source: int, index: int, options: Mapping[str, object]
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


def min_max(run: TargetView, index: int, cam: AnyMatrix, region: tuple[Tensor, Tensor] | None = None) -> AnyMatrix:
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


def _slice(matrix: AnyMatrix, rows: slice) -> Tensor:
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


def _attention_x_gradient(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    def matrix(index: int) -> AnyMatrix:
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
    prepare=_attention_x_gradient,
)


def _legrad(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    """Whatever row asks, its relevance is the same: Σ over the layers of the column means of (∂y/∂A)⁺."""
    kept = run.from_layer(options["start_layer"])
    edges = [e for e in run.graph.edges if e.attention in kept and e.attention in run.gradients]
    return for_all_rows(run, [(e.stream, e.source, _column_means(run, e.attention, e.stream)) for e in edges])


def for_all_rows(run: TargetView, layers: Sequence[tuple[int, int, Tensor]]) -> RelevanceRows:
    """Σ over layers of relevance that is the same whatever row asks.

    Where the target reads several streams, each of them brings its part of what they all hear.

    Args:
        run: the target's view.
        layers: of each, the stream that asks, the stream that gets relevance, and what each of its tokens gets, (batch, tokens).
    """
    reachable_from = run.graph.reachable_from

    def rows_of(stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        asked, reached = rows.sum(-1, keepdim=True), {stream} | reachable_from[stream]
        relevance = {x: rows.new_zeros(*rows.shape[:2], run.graph.streams[x].tokens) for x in sorted(reached)}
        for asks, gets, values in layers:
            if asks in reached:
                share = asked / readers(asks)[:, None]
                relevance[gets] = relevance[gets] + share * values[:, None]
        for x in sorted(reached, reverse=True):  # a stream that was taken in comes before the one that took it in
            for other, join in run.graph.streams[x].joins.items():
                relevance[other] = relevance[other] + join.weights(relevance[x])
        return relevance

    def readers(stream: int) -> Tensor:
        """How many of the streams that are read hear ``stream``, (batch, 1); 1 where none is."""
        read = [r.weights.sum(-1) for s, r in run.readouts.items() if s == stream or stream in reachable_from[s]]
        return torch.stack(read).sum(0).clamp(min=1) if read else torch.ones(run.batch, 1).to(like)

    like = run.attentions[0].value.new_zeros((), dtype=run.attentions[0].dtype)
    return rows_of


def _column_means(run: TargetView, index: int, stream: int) -> Tensor:
    """Mean over heads and over the rows that are no padding of (∂y/∂A)⁺, (batch, keys)."""
    attention, gradient = run.attentions[index], run.gradients[index]
    matrix = run.matrix(attention, lambda rows: attention.gradient(gradient, rows).clamp_(min=0).mean(1))
    return mean_row(run, matrix, attention.dtype, stream)


def mean_row(run: TargetView, matrix: AnyMatrix, dtype: torch.dtype, stream: int) -> Tensor:
    """Mean of a matrix over its rows, tokens of ``stream``, that are no padding, (batch, keys)."""
    seen = run.visible(stream).to(dtype)[:, None]
    return (matrix.left(seen) / seen.sum(-1, keepdim=True).clamp(min=1))[:, 0]


LEGRAD = Method(
    name="legrad",
    summary="positive part of the attentions' gradients, mean over heads and rows, summed over the layers",
    source="Bousselham et al., LeGrad, ICCV 2025, arXiv 2404.03214; of the target itself, where the paper gives each "
    "layer a score of its own",
    options={"start_layer": 0, "drop_self": True},
    prepare=_legrad,
)
