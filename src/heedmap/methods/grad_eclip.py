"""Grad-ECLIP: what the values add to the target, weighted by how alike query and key are, without the softmax."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.heads import Joined
from heedmap.errors import UnfollowedAttentionError
from heedmap.methods.layers import last_maps
from heedmap.methods.method import Method
from heedmap.methods.run import RelevanceRows, TargetView
from heedmap.relevance.chain import AnyMatrix


def loosened(
    cosines: Float[Tensor, "batch rows keys"], among: Bool[Tensor, "batch rows keys"]
) -> Float[Tensor, "batch rows keys"]:
    """Each row scaled so that its least is 0 and its greatest 1 among these keys; others are clamped, and equal ones are 1."""
    least = cosines.masked_fill(~among, torch.inf).amin(-1, keepdim=True)
    span = cosines.masked_fill(~among, -torch.inf).amax(-1, keepdim=True) - least
    return torch.where(span > 0, (cosines - least) / span, 1.0).clamp(0, 1)


def _matrix(run: TargetView, index: int, is_self: bool) -> AnyMatrix:
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


def _prepare(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    is_self = {edge.attention: edge.is_self for edge in run.graph.edges}
    return last_maps(run, lambda index: _matrix(run, index, is_self[index]), run.up_to_layer(options["layer"]))


METHOD = Method(
    name="grad_eclip",
    summary="what each value adds to the target in one layer, weighted by the likeness of query and key instead of by attention",
    source="Zhao et al., Gradient-based Visual Explanation for Transformer-based CLIP, ICML 2024; with the model's own heads",
    options={"layer": -1, "drop_self": True},
    prepare=_prepare,
)
