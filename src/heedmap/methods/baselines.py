"""Baselines: raw attention, rollout, Grad-CAM on attention and LRP, as the paper has them; AttnLRP; and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.flow import Edge, State
from heedmap.errors import UnfollowedAttentionError
from heedmap.lrp.rules import RULES
from heedmap.methods.layers import last_maps
from heedmap.methods.method import Method, RelevanceRows, TargetView, count
from heedmap.relevance.chain import AnyMatrix, Columns, Rows
from heedmap.relevance.propagate import add_to


def _raw(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return last_maps(run, run.mean_probabilities)


RAW_ATTENTION = Method(
    name="raw_attention",
    summary="the attention probabilities of the last layer, mean over heads",
    source="the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4",
    options={"drop_self": True},
    prepare=_raw,
)


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
                    add_to(relevance, {x: more})
        for other, join in self.run.graph.streams[stream].joins.items():
            add_to(relevance, self.rows(other, join.state, join.weights(relevance[stream])))
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


def _rollout(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    return Rollout(run, run.mean_probabilities, options).rows


ROLLOUT = Method(
    name="rollout",
    summary="the product of (attention + identity) over the layers",
    source="Abnar and Zuidema, ACL 2020, arXiv 2005.00928; cross-attention as in Chefer, Gur, Wolf, ICCV 2021",
    options={"normalize": True, "start_layer": 0, "padding": "exclude", "drop_self": True},
    choices={"padding": ("exclude", "include")},
    prepare=_rollout,
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

    @cache
    def matrix(index: int) -> AnyMatrix:
        if index not in run.gradients:
            return run.zeros(index)
        attention, (rows, columns) = run.attentions[index], _region(run, edges[index], options)
        weights = head_weights(attention, run.gradients[index], rows, columns)[:, :, None, None]
        cam = run.matrix(attention, lambda block: (attention.probabilities(block) * weights).mean(1).clamp(min=0))
        if options["min_max"] == "none":
            return cam
        return min_max(run, index, cam, (rows, columns) if options["min_max"] == "region" else None)

    return last_maps(run, matrix)


def _region(
    run: TargetView, edge: Edge, options: Mapping[str, object]
) -> tuple[Float[Tensor, "batch queries"], Float[Tensor, "batch keys"]]:
    """1 for the rows and columns over which the gradient is averaged, else 0."""
    attention, stream, source = run.attentions[edge.attention], edge.stream, edge.source
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

    def scaled(rows: slice) -> Tensor:
        return ((cam.dense()[:, rows] if cam.keep else cam.block(rows)) - least) / span

    return run.matrix(run.attentions[index], scaled)


ATTENTION_GRADCAM = Method(
    name="attention_gradcam",
    summary="the last layer's heads weighted by their mean gradient, positive part of the mean over heads",
    source="the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4, after Selvaraju et al., ICCV 2017",
    options={"region": "matrix", "min_max": "none", "padding": "exclude", "drop_self": True},
    choices={"region": ("matrix", "row"), "min_max": ("none", "matrix", "region"), "padding": ("exclude", "include")},
    prepare=_gradcam,
)


RULE_CHOICES = {"rules": tuple(RULES)}


def _partial(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    relevances = run.relevances(options).attentions

    def matrix(index: int) -> AnyMatrix:
        if index not in relevances:
            return run.zeros(index)
        relevance = relevances[index].clamp(min=0) if options["positive"] else relevances[index]
        cam = run.matrix(run.attentions[index], lambda rows: relevance[:, :, rows].mean(1))
        return min_max(run, index, cam) if options["min_max"] == "matrix" else cam

    return last_maps(run, matrix)


PARTIAL_LRP = Method(
    name="partial_lrp",
    summary="the LRP relevance of the last layer's attention, mean over heads",
    source="Voita et al., ACL 2019, arXiv 1905.09418; as the baseline of Chefer, Gur, Wolf, ICCV 2021, section 4",
    options={"rules": "chefer", "share_constants": False, "positive": False, "min_max": "none", "drop_self": True},
    choices={**RULE_CHOICES, "min_max": ("none", "matrix")},
    prepare=_partial,
)


def _attribution(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    relevances = run.relevances(options)
    return Rollout(run, partial(run.relevance_cam, relevances=relevances), options, through=False).rows


TRANSFORMER_ATTRIBUTION = Method(
    name="transformer_attribution",
    summary="LRP relevance of attention weighted by its gradient, the product of (that + identity) over the layers",
    source="Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838; cross-attention as the baseline of the same, ICCV 2021",
    options={"rules": "chefer", "share_constants": False, "normalize": False, "start_layer": 0, "drop_self": True},
    choices=RULE_CHOICES,
    prepare=_attribution,
)


def _leaves(runs: Sequence[TargetView], options: Mapping[str, object]) -> list[Mapping[int, Tensor]]:
    return [run.relevances(options, inputs=True).leaves for run in runs]


FULL_LRP = Method(
    name="full_lrp",
    summary="LRP relevance of the input itself: embeddings, patches, boxes, pixels",
    source="Bach et al., PLoS ONE 2015; as the baseline of Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838",
    options={"rules": "chefer", "share_constants": False, "pixels": False},
    choices=RULE_CHOICES,
    attribute=_leaves,
)

ATTN_LRP = Method(
    name="attn_lrp",
    summary="LRP relevance of the input by rules made for attention: softmax by its Taylor expansion, uniform products",
    source="Achtibat et al., AttnLRP, ICML 2024, arXiv 2402.05602",
    options={"rules": "attn_lrp", "share_constants": True, "pixels": False},
    choices={"rules": ("attn_lrp",)},
    attribute=_leaves,
)


def _random(run: TargetView, options: Mapping[str, object]) -> RelevanceRows:
    seed = count(options, "seed", least=0)

    def rows_of(stream: int, state: State, rows: Tensor) -> dict[int, Tensor]:
        reached = sorted({stream} | run.graph.reachable_from[stream])
        return {x: _draw(seed, x, rows, run.graph.streams[x].tokens) for x in reached}

    return rows_of


def _draw(seed: int, stream: int, rows: Tensor, tokens: int) -> Tensor:
    """Uniform in 0…1; one sample's draw does not depend on the others, nor a token's on the padding after it."""
    draw = np.stack([np.random.default_rng([seed, stream, row]).random(tokens) for row in range(rows.shape[1])])
    return torch.as_tensor(draw, dtype=rows.dtype, device=rows.device).expand(rows.shape[0], -1, -1)


RANDOM = Method(
    name="random",
    summary="uniform random numbers: what chance gives (the same for every sample; change the seed)",
    source="the baseline of every perturbation test",
    options={"seed": 0, "drop_self": True},
    prepare=_random,
    knows_nothing=True,
)
