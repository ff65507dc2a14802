"""A method, a recipe from recorded attention to relevance, and what it is given: one target's view of a recorded forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.flow import Graph, JoinMatrix, State
from heedmap.attention.heads import JoinedHeads
from heedmap.attention.mixers import Mixer
from heedmap.attention.placed_flow import PlacedStream
from heedmap.attention.scans import Scan
from heedmap.attention.token_positions import InputSpan
from heedmap.common.printable import closest
from heedmap.errors import AttentionError, OptionError, UnfollowedAttentionError, UnknownNameError
from heedmap.lrp.replay import ForwardCall, Relevances, propagate
from heedmap.relevance.chain import AnyMatrix, Matrix, Normalised, Scattered, Sparse
from heedmap.relevance.rules import average_heads


@dataclass(frozen=True)
class Method:
    """A recipe from a recorded forward pass to relevance, defined for every flow.

    It has ``prepare`` where it has a map from each stream to each, else ``attribute``.

    Attributes:
        name: its key in ``heedmap.METHODS``.
        summary: one line: what it computes.
        source: the paper.
        options: option → default.
        choices: option → the words it may be.
        prepare: (run, options) → a function that multiplies rows with the method's map of a stream.
        knows_nothing: whether what it gives does not depend on the model.
        rest: as ``prepare``, less the identity with which the map begins, also where it went through merges; None where the map
            does not keep it apart.
        attribute: (a run for each target, options) → for each target the relevance of each leaf (where an input becomes rows
            of features), by its index among the sources of ``run.graph``, in the leaf's own shape.

    Examples:
        >>> import heedmap
        >>> list(heedmap.METHODS)[:4]
        ['generic', 'raw_attention', 'rollout', 'attention_gradcam']
        >>> method = heedmap.METHODS["rollout"]
        >>> method.summary, method.options["start_layer"]
        ('the product of (attention + identity) over the layers', 0)
        >>> heedmap.load("zoo/gpt-lists").explain(text="dog red ? dog", method=method).method
        'rollout'
    """

    name: str
    summary: str
    source: str
    options: Mapping[str, object]
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: Callable[[TargetView, Mapping[str, object]], RelevanceRows] | None = None
    attribute: Callable[[Sequence[TargetView], Mapping[str, object]], Sequence[Mapping[int, Tensor]]] | None = None
    knows_nothing: bool = False
    rest: Callable[[TargetView, Mapping[str, object]], RelevanceRows | None] | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether it explains only a model whose attention is followed."""
        return self.attribute is None and not self.knows_nothing

    def resolve(self, given: Mapping[str, object]) -> dict[str, object]:
        """All options, those given over the defaults.

        Raises:
            OptionError: unknown option, or a value it cannot have; the message lists the known ones.
        """
        for name, value in given.items():
            if name not in self.options:
                known = ", ".join(f"{option}={preset!r}" for option, preset in self.options.items())
                raise OptionError(
                    f"method {self.name!r} has no option {name!r}{closest(name, self.options)}; it has {known}"
                )
            default = self.options[name]
            if isinstance(default, bool) and not isinstance(value, bool):
                raise OptionError(f"option {name} of {self.name!r} is {value!r}; expected True or False")
            if name in self.choices and value not in self.choices[name]:
                raise OptionError(
                    f"option {name} of {self.name!r} is {value!r}; expected one of {', '.join(map(repr, self.choices[name]))}"
                )
        return {**self.options, **given}


def count(options: Mapping[str, object], name: str, least: int = 1) -> int:
    """A whole number, ``least`` or more; else OptionError."""
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise OptionError(f"{name} is {value!r}; expected a whole number, {least} or more")
    return int(value)


def amount(options: Mapping[str, object], name: str) -> float:
    """A finite number, 0 or more; else OptionError."""
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise OptionError(f"{name} is {value!r}; expected a number, 0 or more")
    return float(value)


def unlike(what: str) -> AttentionError:
    """The error that a further pass is not like the recorded one; ``what``: which pass, or which part of it."""
    return AttentionError(
        f"{what} is not like the recorded one: the model does not do the same thing twice on equal input; make it "
        "deterministic"
    )


def undefined(
    method: str, why: str, needs: str, instead: str = "'generic', or another of heedmap.METHODS"
) -> UnfollowedAttentionError:
    """The error that a model cannot have a method."""
    return UnfollowedAttentionError(
        f"method {method!r} is not defined here: {why}; {needs}, so there is no map; choose {instead}"
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
    _relevances: dict[tuple[str, bool, bool], Relevances] = field(default_factory=dict, init=False)

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

    def weighted(self, index: int, block: Callable[[Attention, Tensor, slice], Tensor]) -> AnyMatrix:
        """A matrix made of an attention and its ∂y/∂o, some rows at a time; zero where the target does not depend on it."""
        if index not in self.gradients:
            return self.zeros(index)
        attention = self.attentions[index]
        return self.matrix(attention, partial(block, attention, self.gradients[index]))

    def cam(self, index: int) -> AnyMatrix:
        """Ā (eq. 5) of an attention, or of another mixer; zero where the target does not depend on it."""
        attention, gradient = self.attentions[index], self.gradients.get(index)
        if isinstance(attention, Mixer) and gradient is not None:
            edge = next(e for e in self.graph.edges if e.attention == index)
            if not isinstance(attention, Scan):
                return mixed([attention], self.gradients, self.graph, edge.stream, edge.source)
            asks, asked = placed(self.graph, edge.stream, edge.source)
            at, columns = asks.at(attention.ids), [asked.at(ids) for _, ids in attention.entries]
            return self.matrix(
                attention, lambda rows: attention.block(gradient, range(attention.queries)[rows], at, columns)
            )
        return self.weighted(index, lambda a, g, rows: average_heads(a.probabilities(rows), a.gradient(g, rows)))

    def normalised(self, index: int) -> Normalised:
        """Ā of an attention without a residual connection, its rows summing to 1."""
        attention = self.attentions[index]
        reach = self.matrix(attention, lambda rows: (attention.probabilities(rows) != 0).any(1).to(attention.dtype))
        like = attention.value.new_ones(attention.batch, attention.keys, 1, dtype=attention.dtype)
        return Normalised(self.cam(index), reach, like)

    def relevances(self, options: Mapping[str, object], inputs: bool = False) -> Relevances:
        """What relevance propagation gives each attention, and if ``inputs`` each leaf; see :func:`heedmap.lrp.replay.propagate`.

        Raises:
            MissingRuleError: see there.
            AttentionError: the second forward pass was not like the first.
        """
        key = (str(options["rules"]), bool(options["share_constants"]), inputs)
        if key in self._relevances:
            return self._relevances[key]
        if self.replay is None:
            raise UnfollowedAttentionError(
                "the relevance of attention matrices by relevance propagation is not defined through windows, merged tokens and "
                "other mixers, so there is no map; choose 'generic' with cam='gradient', or 'full_lrp' or 'attn_lrp', which give "
                "relevance to the input's features where each operation has a rule"
            )
        found = propagate(self.replay, *key)
        if self.heads is not None:
            found = Relevances(self.heads.relevances(found.attentions), found.leaves)
        for index, relevance in found.attentions.items():
            a = self.attentions[index] if index < len(self.attentions) else None
            if a is None or relevance.shape != (a.batch, a.heads, a.queries, a.keys):
                raise unlike(f"attention {index} of the pass for relevance propagation")
        self._relevances[key] = found
        return found

    def relevance_cam(self, index: int, relevances: Relevances) -> AnyMatrix:
        """Eq. 5 with the relevance of A in place of A: E_h[(∂y/∂A ⊙ R_A)⁺]."""
        relevance = relevances.attentions.get(index)
        if relevance is None:
            return self.zeros(index)
        return self.weighted(index, lambda a, g, rows: average_heads(relevance[:, :, rows], a.gradient(g, rows)))

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
        layers = self._layers(start_layer, "start_layer", 0)
        return {attention for attention, layer, start in layers if layer >= start}

    def up_to_layer(self, layer: object) -> set[int]:
        """The attentions that are in or below ``layer`` of their stream, counted as for :meth:`from_layer`."""
        layers = self._layers(layer, "layer", -1)
        return {attention for attention, depth, last in layers if depth <= last}

    def _layers(self, asked: object, option: str, default: int) -> Iterator[tuple[int, int, int]]:
        """Each attention with its layer, and the one asked for of its stream; other mixers are in the layer before them."""
        for stream in self.graph.streams:
            count, numbered = 0, []
            for edge in self.graph.edges:
                if edge.stream == stream.index:
                    count += edge.is_self and not self.attentions[edge.attention].mixes
                    numbered.append((edge.attention, max(count - 1, 0)))
            if numbered:
                layer = self._layer_of(stream.index, asked, option, default, max(count, 1))
                yield from ((attention, own, layer) for attention, own in numbered)

    def _layer_of(self, stream: int, asked: object, option: str, default: int, layers: int) -> int:
        """The number, from 0, of the layer that is asked for of one stream, which has so many."""
        name, names = self.names[stream], self.names.values()
        if isinstance(asked, Mapping):
            unknown = set(asked) - set(names)
            if unknown:
                raise UnknownNameError(
                    f"no stream {sorted(unknown)[0]!r} for {option}; this model has {', '.join(names)}"
                )
            asked = asked.get(name, default)
        if isinstance(asked, bool) or not isinstance(asked, int):
            raise OptionError(f"{option} is {asked!r}; expected an integer, or a dict of stream name to integer")
        if not -layers <= asked < layers:
            raise OptionError(f"{option} {asked} of stream {name!r} is out of range: it has {layers} layers")
        return asked % layers

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


def placed(graph: Graph, stream: int, source: int) -> tuple[PlacedStream, PlacedStream]:
    """Two streams whose tokens are followed by their numbers."""
    asks, asked = graph.streams[stream], graph.streams[source]
    assert isinstance(asks, PlacedStream)
    assert isinstance(asked, PlacedStream)
    return asks, asked


def mixed(mixers: Sequence[Mixer], gradients: Mapping[int, Tensor], graph: Graph, stream: int, source: int) -> Sparse:
    """Ā of mixers that make or change the tokens of ``stream`` from those of ``source``: ⟨∂y/∂o_i, c_ij⟩⁺."""
    first, (asks, asked) = mixers[0], placed(graph, stream, source)
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


@dataclass(eq=False)
class StepsView(TargetView):
    """The view of several steps, for methods that need no more than Ā: A is made once for all of them.

    Attributes:
        each: the gradients of each step; ``gradients`` are those of the first. Of readouts the first axis is (steps · samples),
            steps first.
    """

    each: Sequence[Mapping[int, Tensor]] = ()

    @property
    def batch(self) -> int:
        """Steps times samples."""
        return len(self.each) * self.attentions[0].batch

    def cam(self, index: int) -> AnyMatrix:
        """Ā (eq. 5) of an attention, (steps · samples, queries, keys)."""
        attention, gradients = self.attentions[index], [of_step[index] for of_step in self.each]
        attended = self.matrix(attention, attention.probabilities)
        assert isinstance(attended, Matrix)
        return replace(
            attended,
            block=lambda rows: _rows_of_each(attention, gradients, rows),
            keep=dense_bytes(self.attentions) * len(self.each) <= self.memory_budget,
        )


def _rows_of_each(attention: Attention, gradients: Sequence[Tensor], rows: slice) -> Tensor:
    """Some rows of Ā for each step; where these look at nothing after themselves, it is not computed."""
    seen = _to_first_keys(attention, rows)
    probs = seen.probabilities(rows)
    cams = torch.cat([average_heads(probs, seen.gradient(gradient, rows)) for gradient in gradients])
    return F.pad(cams, (0, attention.keys - seen.keys))


def _to_first_keys(attention: Attention, rows: slice) -> Attention:
    """The attention to its first keys, where these rows may look at no others."""
    key, mask, end = attention.key, attention.mask, rows.stop
    if end is None or key is None or attention.skip or not end < attention.keys == key.shape[2]:
        return attention
    if not (attention.causal and mask is None) and not _hides_later(mask, rows, attention.keys):
        return attention
    cut = None if mask is None else mask[..., :end]
    return replace(attention, key=key[:, :, :end], value=attention.value[:, :, :end], keys=end, mask=cut)


def _hides_later(mask: Tensor | None, rows: slice, keys: int) -> bool:
    """Whether a mask hides all after these rows from them."""
    if mask is None or mask.dtype != torch.bool or mask.shape[-1] != keys or mask.shape[-2] == 1:
        return False
    return not bool(mask[..., rows, rows.stop :].any())


def view_of_several(
    run: TargetView, gradients: Sequence[Mapping[int, Tensor]], readouts: Sequence[Mapping[int, Readout]]
) -> StepsView:
    """The view of several steps, of which ``run`` is one: of each its gradients by attention, and its readouts by stream."""
    first = readouts[0]
    return StepsView(
        _repeated(run.graph, len(gradients)),
        run.attentions,
        gradients[0],
        {s: Readout(first[s].state, torch.cat([of_step[s].weights for of_step in readouts])) for s in first},
        run.names,
        run.memory_budget,
        parts=run.parts,
        heads=run.heads,
        each=gradients,
    )


def _repeated(graph: Graph, steps: int) -> Graph:
    """The graph, of which the places of tokens that streams took in are those of each step's samples."""
    streams = []
    for stream in graph.streams:
        joins = {
            index: replace(join, places=None if join.places is None else join.places.repeat(steps, 1))
            for index, join in stream.joins.items()
        }
        streams.append(replace(stream, joins=joins))
    return Graph(streams, graph.edges, graph.sources)
