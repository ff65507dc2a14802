"""Methods on the maps of single layers: A ⊙ ∂y/∂A and Grad-ECLIP of one, LeGrad's sum over all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.flow import Edge, State
from heedmap.attention.heads import Joined
from heedmap.errors import UnfollowedAttentionError
from heedmap.methods.method import Method, RelevanceRows, TargetView
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


def _attention_x_gradient(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    def block(attention: Attention, gradient: Tensor, rows: slice) -> Tensor:
        product = attention.probabilities(rows) * attention.gradient(gradient, rows)
        return (product.clamp_(min=0) if options["positive"] else product).mean(1)

    return last_maps(run, lambda index: run.weighted(index, block), run.up_to_layer(options["layer"]))


ATTENTION_X_GRADIENT = Method(
    name="attention_x_gradient",
    summary="attention times its gradient in one layer, mean over heads (of a stream: the last map to each up to that layer)",
    source="a baseline; the positive part is eq. 5 of Chefer, Gur, Wolf, ICCV 2021, arXiv 2103.15679",
    options={"layer": -1, "positive": False, "drop_self": True},
    prepare=_attention_x_gradient,
)


def loosened(
    cosines: Float[Tensor, "batch rows keys"], among: Bool[Tensor, "batch rows keys"]
) -> Float[Tensor, "batch rows keys"]:
    """Each row scaled so that its least is 0 and its greatest 1 among these keys; others are clamped, and equal ones are 1."""
    least = cosines.masked_fill(~among, torch.inf).amin(-1, keepdim=True)
    span = cosines.masked_fill(~among, -torch.inf).amax(-1, keepdim=True) - least
    return torch.where(span > 0, (cosines - least) / span, 1.0).clamp(0, 1)


def _loosened_matrix(run: TargetView, index: int, is_self: bool) -> AnyMatrix:
    if index not in run.gradients:
        return run.zeros(index)
    attention, gradient = run.attentions[index], run.gradients[index]
    query, key = (F.normalize(t.transpose(1, 2).flatten(2), dim=-1) for t in asked(attention))

    def block(rows: slice) -> Tensor:
        seen = (attention.probabilities(rows) > 0).any(1)
        others = seen.clone()
        if is_self:  # a token is most like, or least like, itself: it is no measure for the others
            numbers = torch.arange(attention.queries, device=seen.device)
            others &= numbers[rows][:, None] != numbers
        added = attention.gradient(gradient, rows).sum(1).clamp_(min=0)
        return added * loosened(query[:, rows] @ key.mT, others) * seen

    return run.matrix(attention, block)


def asked(attention: Attention) -> tuple[Tensor, Tensor]:
    """q and k of every head, (batch, heads, queries or keys, depth), in the dtype of accumulation.

    Raises:
        UnfollowedAttentionError: it is no product q kᵀ of tokens (windows, other mixers), or which side is which is not known.
    """
    if isinstance(attention, Joined):
        sides = [asked(part) for part in attention.parts]
        most = max(query.shape[-1] for query, _ in sides)
        query, key = (torch.cat([F.pad(t, (0, most - t.shape[-1])) for t in s], 1) for s in zip(*sides, strict=True))
        return query, key
    query_key = None if attention.mixes or isinstance(attention, BlockAttention) else _sides(attention)
    if query_key is None:
        raise UnfollowedAttentionError(
            "method 'grad_eclip' compares q and k, which are not known of attention in windows, of other mixers and of products "
            "that are written in another way than q kᵀ, so there is no map; choose 'generic' or 'legrad'"
        )
    query, key = (t.detach().to(attention.dtype) for t in query_key)
    return query, key[:, :, attention.columns].repeat_interleave(query.shape[1] // key.shape[1], 1)


def _sides(attention: Attention) -> tuple[Tensor, Tensor] | None:
    if attention.query is not None and attention.key is not None:
        return attention.query, attention.key
    if attention.scored is None or attention.probs_layout is None:
        return None
    query, turned_key = attention.scored
    if query.dim() != turned_key.dim() or query.dim() not in (3, 4) or query.shape[-1] != turned_key.shape[-2]:
        return None
    layout = attention.probs_layout._replace(axes=None)
    query, key = layout.apply(query), layout.apply(turned_key.mT)
    columns = attention._asks.shape[-1]
    fits = query.shape[2] == attention.queries and key.shape[2] == columns and query.shape[1] == attention.heads
    return (query, key) if fits and attention.heads % key.shape[1] == 0 else None


def _grad_eclip(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    is_self = {edge.attention: edge.is_self for edge in run.graph.edges}
    return last_maps(run, lambda index: _loosened_matrix(run, index, is_self[index]), run.up_to_layer(options["layer"]))


GRAD_ECLIP = Method(
    name="grad_eclip",
    summary="what each value adds to the target in one layer, weighted by the likeness of query and key instead of by attention",
    source="Zhao et al., Gradient-based Visual Explanation for Transformer-based CLIP, ICML 2024; with the model's own heads",
    options={"layer": -1, "drop_self": True},
    prepare=_grad_eclip,
)


def _legrad(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    """Whatever row asks, its relevance is the same: Σ over the layers of the column means of (∂y/∂A)⁺."""
    kept = run.from_layer(options["start_layer"])
    edges = [e for e in run.graph.edges if e.attention in kept and e.attention in run.gradients]
    return for_all_rows(run, [(e.stream, e.source, _column_means(run, e)) for e in edges])


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


def _column_means(run: TargetView, edge: Edge) -> Tensor:
    """Mean over heads and over the rows that are no padding of (∂y/∂A)⁺, (batch, keys)."""
    return mean_row(
        run, edge, run.weighted(edge.attention, lambda a, g, rows: a.gradient(g, rows).clamp_(min=0).mean(1))
    )


def mean_row(run: TargetView, edge: Edge, matrix: AnyMatrix) -> Tensor:
    """Mean of an attention's matrix over its rows that are no padding, (batch, keys)."""
    seen = run.visible(edge.stream).to(run.attentions[edge.attention].dtype)[:, None]
    return (matrix.left(seen) / seen.sum(-1, keepdim=True).clamp(min=1))[:, 0]


LEGRAD = Method(
    name="legrad",
    summary="positive part of the attentions' gradients, mean over heads and rows, summed over the layers",
    source="Bousselham et al., LeGrad, ICCV 2025, arXiv 2404.03214; of the target itself, where the paper gives each "
    "layer a score of its own",
    options={"start_layer": 0, "drop_self": True},
    prepare=_legrad,
)
