"""What a method is given: one target's view of a recorded forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.flow import Edge, Graph, JoinMatrix, State
from heedmap.attention.heads import JoinedHeads
from heedmap.attention.mixers import Mixer
from heedmap.attention.placed_flow import PlacedStream
from heedmap.attention.scans import Scan
from heedmap.attention.token_positions import InputSpan
from heedmap.errors import AttentionError, OptionError, UnfollowedAttentionError, UnknownNameError
from heedmap.lrp.replay import ForwardCall, Relevances, propagate
from heedmap.relevance.chain import AnyMatrix, Matrix, Normalised, Scattered, Sparse
from heedmap.relevance.rules import average_heads

if TYPE_CHECKING:
    from collections.abc import Collection

NO_MATRICES = (
    "the relevance of attention matrices by relevance propagation is not defined through windows, merged tokens and other "
    "mixers, so there is no map; choose 'generic' with cam='gradient', or 'full_lrp' or 'attn_lrp', which give relevance to "
    "the input's features where each operation has a rule"
)


def unlike(what: str) -> AttentionError:
    """The error that a further pass is not like the recorded one; ``what``: which pass, or which part of it."""
    return AttentionError(
        f"{what} is not like the recorded one: the model does not do the same thing twice on equal input; make it "
        "deterministic"
    )


RelevanceRows = Callable[[int, State, Tensor], dict[int, Tensor]]
"""(stream, state, rows (batch, k, tokens)) → for each stream x that reaches it, rows @ its map, (batch, k, tokens of x)."""

MEMORY_BUDGET = 256 * 2**20
"""Bytes that blocks of attention may take at once, by default."""

BLOCK = 4 * 2**20
"""Bytes of one block of A: larger ones leave the processor's cache, and are slower."""


@dataclass(frozen=True)
class Readout:
    """What the target reads of one stream: its state, and the weights of its rows, (batch, 1, tokens), summing to 1."""

    state: State
    weights: Float[Tensor, "batch 1 tokens"]


@dataclass(eq=False)
class TargetView:
    """One target's view of a recorded forward pass.

    Attributes:
        graph: streams and edges.
        attentions: the recorded attentions, by index; none where a method that needs none explains the model without.
        gradients: ∂y/∂o by attention, (batch, heads, queries, features); absent where the target does not depend on it.
        readouts: by stream, what the target reads directly.
        names: by stream.
        memory_budget: bytes.
        full: whether whole maps are wanted.
        replay: the forward pass, to be run again; None where there is no model (tests of the algebra).
        parts: for each stream its segments: which leaves its tokens come from.
        heads: which recorded calls each attention is made of; None: each of one.
        notes: what a method says of how it came to its map, for people.
    """

    graph: Graph
    attentions: list[Attention]
    gradients: Mapping[int, Tensor]
    readouts: Mapping[int, Readout]
    names: Mapping[int, str]
    memory_budget: int = MEMORY_BUDGET
    full: bool = False
    replay: ForwardCall | None = None
    parts: Mapping[int, Sequence[InputSpan]] = field(default_factory=dict)
    heads: JoinedHeads | None = None
    notes: list[str] = field(default_factory=list)
    _relevances: dict[tuple[str, bool, bool], Relevances] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Batch size."""
        if self.attentions:
            return self.attentions[0].batch
        assert self.replay is not None
        return self.replay.batch

    def matrix(self, attention: Attention, block: Callable[[slice], Tensor]) -> AnyMatrix:
        """A matrix over one attention's queries and keys, blocked to fit the memory budget."""
        dense = dense_bytes(self.attentions) <= self.memory_budget
        of_all = _share_of(attention, block) if isinstance(attention, BlockAttention) else block
        matrix = Matrix(of_all, _queries(attention), block_rows(attention, self.memory_budget), keep=dense)
        if not isinstance(attention, BlockAttention):
            return matrix
        device = attention.value.device
        return Scattered(attention.sizes, attention.query_rows.to(device), attention.key_rows.to(device), matrix)

    def cam(self, index: int) -> AnyMatrix:
        """Ā (eq. 5) of an attention, or of another mixer, whose gradient is there."""
        attention, gradient = self.attentions[index], self.gradients[index]
        if isinstance(attention, Scan):
            return self.matrix(attention, self._scanned(attention, gradient))
        if isinstance(attention, Mixer):
            edge = next(e for e in self.graph.edges if e.attention == index)
            return mixed([attention], self.gradients, self.graph, edge.stream, edge.source)
        return self.matrix(
            attention,
            lambda rows: average_heads(attention.probabilities(rows), attention.gradient(gradient, rows)),
        )

    def normalised(self, index: int) -> Normalised:
        """Ā of an attention without a residual connection, its rows summing to 1."""
        attention = self.attentions[index]
        matrix = self.cam(index) if index in self.gradients else self.zeros(index)
        reach = self.matrix(attention, lambda rows: (attention.probabilities(rows) != 0).any(1).to(attention.dtype))
        like = attention.value.new_ones(attention.batch, attention.keys, 1, dtype=attention.dtype)
        return Normalised(matrix, reach, like)

    def _scanned(self, scan: Scan, gradient: Tensor) -> Callable[[slice], Tensor]:
        """Rows of Ā of a scan."""
        edge = next(e for e in self.graph.edges if e.attention == scan.index)
        asks, asked = (self.graph.streams[s] for s in (edge.stream, edge.source))
        assert isinstance(asks, PlacedStream)
        assert isinstance(asked, PlacedStream)
        at, columns = asks.at(scan.ids), [asked.at(ids) for _, ids in scan.entries]
        return lambda rows: scan.block(gradient, range(scan.queries)[rows], at, columns)

    def relevances(self, options: Mapping[str, object], inputs: bool = False) -> Relevances:
        """What relevance propagation gives each attention, and if ``inputs`` each leaf; see :func:`heedmap.lrp.replay.propagate`.

        Raises:
            MissingRuleError: see there.
            AttentionError: the second forward pass was not like the first.
        """
        key = (str(options["rules"]), bool(options["share_constants"]), inputs)
        if key not in self._relevances:
            if self.replay is None:
                raise UnfollowedAttentionError(NO_MATRICES)
            relevances = propagate(self.replay, *key)
            if self.heads is not None:
                relevances = Relevances(self.heads.relevances(relevances.attentions), relevances.leaves)
            others = [i for i, r in relevances.attentions.items() if i >= len(self.attentions) or not self._fits(i, r)]
            if others:
                raise unlike(f"attention {others[0]} of the pass for relevance propagation")
            self._relevances[key] = relevances
        return self._relevances[key]

    def _fits(self, index: int, relevance: Tensor) -> bool:
        attention = self.attentions[index]
        return relevance.shape == (attention.batch, attention.heads, attention.queries, attention.keys)

    def relevance_cam(self, index: int, relevances: Relevances) -> AnyMatrix:
        """Eq. 5 with the relevance of A in place of A: E_h[(∂y/∂A ⊙ R_A)⁺]."""
        if index not in relevances.attentions or index not in self.gradients:
            return self.zeros(index)
        attention, gradient, relevance = self.attentions[index], self.gradients[index], relevances.attentions[index]
        return self.matrix(
            attention, lambda rows: average_heads(relevance[:, :, rows], attention.gradient(gradient, rows))
        )

    def zeros(self, index: int) -> AnyMatrix:
        """Ā of an attention that the target does not depend on."""
        attention = self.attentions[index]
        if isinstance(attention, (Mixer, BlockAttention)):
            none = torch.zeros(0, dtype=torch.int64, device=attention.value.device)
            return Sparse(attention.sizes, none, none, attention.value.new_zeros(0, dtype=attention.dtype))
        return self.matrix(
            attention,
            lambda rows: attention.value.new_zeros(
                attention.batch, len(range(attention.queries)[rows]), attention.keys, dtype=attention.dtype
            ),
        )

    def mean_probabilities(self, index: int) -> AnyMatrix:
        """A, the mean over heads."""
        attention = self.attentions[index]
        return self.matrix(attention, lambda rows: attention.probabilities(rows).mean(1))

    def from_layer(self, start_layer: object) -> set[int]:
        """The attentions that are in or above ``start_layer`` of their stream: a number, or one by the stream's name.

        A layer is a self-attention of the stream and the cross-attentions that follow it; where a stream begins with
        cross-attention, that is in layer 0 too. Negative numbers count from the end.
        """
        return {
            edge.attention
            for edge, name, layer, layers in self._layers()
            if layer >= _start(start_layer, name, self.names.values(), layers)
        }

    def up_to_layer(self, layer: object) -> set[int]:
        """The attentions that are in or below ``layer`` of their stream, counted as for :meth:`from_layer`."""
        return {
            edge.attention
            for edge, name, depth, layers in self._layers()
            if depth <= _start(layer, name, self.names.values(), layers, "layer", -1)
        }

    def _layers(self) -> Iterator[tuple[Edge, str, int, int]]:
        """Each edge with its stream's name, its layer, and how many there are; other mixers are in the layer before them."""
        for stream in self.graph.streams:
            count, numbered = 0, []
            for edge in self.graph.edges:
                if edge.stream == stream.index:
                    count += edge.is_self and not self.attentions[edge.attention].mixes
                    numbered.append((edge, max(count - 1, 0)))
            for edge, layer in numbered:
                yield edge, self.names[stream.index], layer, max(count, 1)

    def visible(self, stream: int) -> Bool[Tensor, "batch tokens"]:
        """Which tokens of a stream the rows that are read (else: any query) may look at: False for padding."""
        asked = [e for e in self.graph.edges if e.source == stream and not self.attentions[e.attention].mixes]
        if not asked:
            tokens = self.graph.streams[stream].tokens
            return torch.ones(self.batch, tokens, dtype=torch.bool, device=self.attentions[0].value.device)
        edge = next((e for e in asked if e.is_self), asked[0])
        attention = self.attentions[edge.attention]
        rows = attention.value.new_ones(attention.batch, 1, attention.queries, dtype=attention.dtype)
        if edge.stream in self.readouts:  # rows of padding may look anywhere; those that are read look at what is real
            rows = self.readouts[edge.stream].weights
        return self.mean_probabilities(edge.attention).left(rows)[:, 0] > 0


def _queries(attention: Attention) -> int:
    return attention.block_queries if isinstance(attention, BlockAttention) else attention.queries


def block_rows(attention: Attention, budget: int) -> int:
    """So many rows of A, its gradient and their product fit ``budget`` bytes at once, and the processor's cache; one or more."""
    row = attention.row * attention.dtype.itemsize * attention.heads
    return max(1, min(_queries(attention), min(budget // 3, BLOCK) // max(1, row)))


def dense_bytes(attentions: Sequence[Attention]) -> int:
    """Of every Ā whole, for one target."""
    return sum(a.cells * a.dtype.itemsize for a in attentions)


def mixed(mixers: Sequence[Mixer], gradients: Mapping[int, Tensor], graph: Graph, stream: int, source: int) -> Sparse:
    """Ā of mixers that make or change the tokens of ``stream`` from those of ``source``: ⟨∂y/∂o_i, c_ij⟩⁺."""
    asks, asked = graph.streams[stream], graph.streams[source]
    assert isinstance(asks, PlacedStream)
    assert isinstance(asked, PlacedStream)
    first = mixers[0]
    dtype, device = first.dtype, first.value.device
    entries: list[tuple[Tensor, Tensor, Tensor]] = []
    for mixer in mixers:
        gradient = gradients.get(mixer.index, torch.zeros_like(mixer.out))
        for terms in mixer.terms(gradient.to(mixer.out.dtype)):
            entries.append((asks.at(terms.rows), asked.at(terms.columns), terms.values.to(dtype)))
    rows, columns, values = (torch.cat([entry[i] for entry in entries]) for i in range(3))
    real = (rows >= 0) & (columns >= 0)
    sizes = (first.batch, asks.tokens, asked.tokens)
    return Sparse(sizes, rows[real].to(device), columns[real].to(device), values[real.to(values.device)])


def with_merges(view: TargetView, gradients: Mapping[int, Tensor]) -> Graph:
    """The graph with what attention and mixers without a residual connection made, as one target sees it: each row sums to 1."""
    graph, attentions = view.graph, view.attentions
    if not any(join.mixers for s in graph.streams for join in s.joins.values()):
        return graph
    streams = []
    for stream in graph.streams:
        joins = {}
        for other, join in stream.joins.items():
            mixers = [m for i in join.mixers if isinstance(m := attentions[i], Mixer)]
            matrix: JoinMatrix | None = None
            if mixers:
                matrix = mixed(mixers, gradients, graph, stream.index, other).normalized()
            elif join.mixers:
                matrix = view.normalised(join.mixers[0])
            joins[other] = replace(join, matrix=matrix)
        streams.append(replace(stream, joins=joins))
    return Graph(streams, graph.edges, graph.sources)


def _share_of(attention: BlockAttention, block: Callable[[slice], Tensor]) -> Callable[[slice], Tensor]:
    """The block's mean over its heads as its part of the mean over all heads."""
    share = attention.share
    if isinstance(share, Tensor):
        return lambda rows: block(rows) * share[:, rows, None]
    return block if share == 1 else lambda rows: block(rows) * share


def _start(
    start_layer: object, name: str, names: Collection[str], layers: int, option: str = "start_layer", default: int = 0
) -> int:
    if isinstance(start_layer, Mapping):
        unknown = set(start_layer) - set(names)
        if unknown:
            raise UnknownNameError(f"no stream {sorted(unknown)[0]!r} for {option}; this model has {', '.join(names)}")
        start_layer = start_layer.get(name, default)
    if isinstance(start_layer, bool) or not isinstance(start_layer, int):
        raise OptionError(f"{option} is {start_layer!r}; expected an integer, or a dict of stream name to integer")
    if not -layers <= start_layer < layers:
        raise OptionError(f"{option} {start_layer} of stream {name!r} is out of range: it has {layers} layers")
    return start_layer % layers
