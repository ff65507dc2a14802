"""Streams and states, derived from what each attention read.

A stream's state is the *set* of its attentions among a tensor's sources: with residual connections that set holds every
attention that the stream has been through. In these terms the paper's update rules are one sum,
R[S] = I + Σ_{a∈S} Δ_a, with Δ_a computed from the states that attention a read (see ``relevance.propagate``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.backward import reached
from heedmap.attention.beginnings import Step
from heedmap.attention.tags import Source, attentions_among
from heedmap.attention.tape import Tape
from heedmap.errors import AttentionError, MixingError, NoAttentionError, UnfollowedAttentionError

State = frozenset[int]
"""Indices of the attentions that a stream has been through."""


class AskedTowerError(UnfollowedAttentionError):
    """What a tower made is asked for; ``ends``: steps at which it could end before."""

    def __init__(self, message: str, ends: frozenset[Step]) -> None:
        super().__init__(message)
        self.ends = ends


class JoinMatrix(Protocol):
    """A matrix of which products with rows and columns are taken."""

    def left(self, rows: Tensor) -> Tensor:
        """rows @ M, (batch, k, columns)."""

    def right(self, columns: Tensor) -> Tensor:
        """M @ columns, (batch, rows, k)."""


@dataclass(eq=False)
class AbsorbedStream:
    """Tokens of another stream among those with which a stream begins: a picture's among a language model's words.

    Attributes:
        state: of the other stream.
        places: (batch, tokens of the other stream): the row that each became; -1: none. None: not traced yet, or none of any.
        mixers: what made the rows of the other stream's tokens without a residual connection (merging, a strided convolution).
        matrix: of these, for one target: how much of each row is of each token, its rows summing to 1.
    """

    state: State
    places: Int[Tensor, "batch tokens"] | None = None
    mixers: tuple[int, ...] = ()
    matrix: JoinMatrix | None = None

    def weights(self, rows: Float[Tensor, "batch k s"]) -> Float[Tensor, "batch k tokens"]:
        """The weights of the other stream's tokens in ``rows`` over this one's."""
        if self.places is None:
            assert self.matrix is not None
            return self.matrix.left(rows)
        places = self.places[:, None].expand(-1, rows.shape[1], -1)
        found = rows.gather(-1, places.clamp(min=0)).masked_fill(places < 0, 0.0)
        return found if self.matrix is None else found + self.matrix.left(rows)

    def columns(self, columns: Float[Tensor, "batch tokens k"], size: int) -> Float[Tensor, "batch s k"]:
        """What this stream's ``size`` tokens have of ``columns`` over the other one's: the transpose of :meth:`weights`."""
        if self.places is None:
            assert self.matrix is not None
            return self.matrix.right(columns)
        places, real = self.places.clamp(min=0)[..., None].expand(columns.shape), self.places[..., None] >= 0
        empty = columns.new_zeros(len(columns), size, columns.shape[-1])
        found = empty.scatter_add(1, places, columns.masked_fill(~real, 0.0))
        return found if self.matrix is None else found + self.matrix.right(columns)


@dataclass(eq=False)
class Stream:
    """A sequence of token states.

    Attributes:
        index: its number, in order of appearance.
        tokens: its length.
        leaves: indices of the tape's sources at which it begins; empty for learned tokens.
        attentions: indices of the attentions that update it, in order.
        joins: the streams whose tokens it takes in before its first attention.
    """

    index: int
    tokens: int
    leaves: set[int] = field(default_factory=set)
    attentions: list[int] = field(default_factory=list)
    joins: dict[int, AbsorbedStream] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """One attention as an update of R: which stream asks, which is asked, and in which states.

    Attributes:
        added: whether it asks nobody: tokens of another stream are added to these, so their whole rows are carried on.
    """

    attention: int
    stream: int
    source: int
    query_state: State
    value_state: State
    added: bool = False

    @property
    def is_self(self) -> bool:
        """Whether a stream asks itself."""
        return self.stream == self.source


@dataclass(eq=False)
class Graph:
    """The streams of one forward pass and the edges between them, in order of execution."""

    streams: list[Stream]
    edges: list[Edge]
    sources: list[Source]

    def states(self, sources: frozenset[int]) -> dict[int, State]:
        """The streams, and their states, among a tensor's sources; of one that mixers made, the state before any attention."""
        by_stream: dict[int, set[int]] = {}
        streams = {edge.attention: edge.stream for edge in self.edges}
        made = {mixer: s.index for s in self.streams for join in s.joins.values() for mixer in join.mixers}
        for attention in attentions_among(self.sources, sources):
            if attention in streams:
                by_stream.setdefault(streams[attention], set()).add(attention)
            elif attention in made:
                by_stream.setdefault(made[attention], set())
        return {stream: frozenset(state) for stream, state in sorted(by_stream.items())}

    def readouts(self, sources: frozenset[int]) -> dict[int, State]:
        """The same, without the streams that another one of them took in, and that did not go on: these are read there.

        Raises:
            MixingError: see :meth:`check_carried`.
        """
        states = self.states(sources)
        for stream in states:
            self.check_carried(stream, states, "the target")
        latest = {stream: max(state, default=-1) for stream, state in states.items()}
        taken = {x for stream in states for x in self.taken_in(stream) if latest.get(x, -1) < latest[stream]}
        return {stream: state for stream, state in states.items() if stream not in taken}

    def read_beside(self, sources: frozenset[int]) -> set[int]:
        """The leaves among a tensor's sources at which streams begin, but none of those whose attentions it reads."""
        begun = set[int]().union(*(s.leaves for s in self.streams))
        return (begun & sources).difference(*(self.all_leaves(stream) for stream in self.states(sources)))

    def check_carried(self, stream: int, states: dict[int, State], reader: str) -> None:
        """MixingError where a stream goes on without the tokens that it took in (no residual connection)."""
        for other, join in self.streams[stream].joins.items():
            if not join.mixers and not join.state <= states.get(other, frozenset()):
                raise MixingError(
                    f"{reader} reads {self.streams[stream].tokens} tokens that were chosen from "
                    f"{self.streams[other].tokens}, but go on without them: there is no residual connection around the "
                    "attention that chose them, so the rules, which add to the identity, do not hold; explain a model whose "
                    "attentions have one"
                )

    def is_whole(self, edge: Edge) -> bool:
        """Whether all rows of R of what is asked are carried on (eqs. 6, 7): a stream asks itself, or what its tokens are made
        of; or tokens of another one are added to its own."""
        if edge.is_self or edge.added or self.is_part_of_source(edge) or edge.source in self.families[edge.stream]:
            return True
        return self.is_of_one_input(edge)

    def is_part_of_source(self, edge: Edge) -> bool:
        """Whether a few of a stream's tokens ask all of it: self-attention of which not all rows are computed."""
        stream = self.streams[edge.stream]
        return edge.source in stream.joins and not stream.leaves

    def is_of_one_input(self, edge: Edge) -> bool:
        """Whether what asks and what is asked were made, one of them by mixers, of the tokens of one and the same input."""
        leaves = [self.all_leaves(x) for x in (edge.stream, edge.source)]
        names = [{self.sources[leaf].name for leaf in side} for side in leaves]
        made = {edge.stream, edge.source} | self.taken_in(edge.stream) | self.taken_in(edge.source)
        mixed = any(join.mixers for x in made for join in self.streams[x].joins.values())
        return mixed and len(names[0]) == 1 and names[0] == names[1]

    @property
    def families(self) -> dict[int, set[int]]:
        """For each stream it, and those whose tokens were made from its, or its from theirs, without a residual connection.

        With them those that hear each other (levels of a pyramid), where all that one of them hears of another is whole rows.
        """
        made = [{s.index, *(x for x, join in s.joins.items() if join.mixers)} for s in self.streams]
        reach = self.reachable_from
        circles = [{x, *(y for y in heard if x in reach[y])} for x, heard in reach.items()]
        narrow, families = _components(made), _components(made + circles)
        for wide in [group for stream, group in families.items() if group != narrow[stream]]:
            across = [e for e in self.edges if {e.stream, e.source} <= wide and e.source not in narrow[e.stream]]
            if not all(e.added or self.is_part_of_source(e) or self.is_of_one_input(e) for e in across):
                families |= {stream: narrow[stream] for stream in wide}
        return families

    def taken_in(self, stream: int) -> set[int]:
        """The streams whose tokens a stream begins with, and theirs."""
        return set(reached(self.streams[stream].joins, lambda other: self.streams[other].joins))

    def all_leaves(self, stream: int) -> set[int]:
        """The leaves at which a stream, or one that it took in, begins."""
        return self.streams[stream].leaves.union(*(self.streams[x].leaves for x in self.taken_in(stream)))

    @property
    def reachable_from(self) -> dict[int, set[int]]:
        """For each stream, the other streams whose content can reach it, through attention or because it took them in."""
        asked = {s.index: {e.source for e in self.edges if e.stream == s.index} - {s.index} for s in self.streams}
        direct = {s.index: asked[s.index] | s.joins.keys() for s in self.streams}
        return {stream: set(reached(heard, direct.__getitem__)) for stream, heard in direct.items()}

    @property
    def is_acyclic(self) -> bool:
        """Whether no stream hears itself through another one (an encoder–decoder; not a co-attention)."""
        reach, families = self.reachable_from, self.families
        return all(
            not any(member in reach[heard] for member in families[stream])
            for stream in families
            for heard in reach[stream] - families[stream]
        )


def _components(groups: Iterable[set[int]]) -> dict[int, set[int]]:
    """For each member of a group, with all that groups join to it."""
    found: dict[int, set[int]] = {}
    for group in groups:
        whole = group.union(*(found[member] for member in group if member in found))
        found |= dict.fromkeys(whole, whole)
    return found


def build(tape: Tape) -> Graph:
    """The flow of a recorded forward pass.

    Raises:
        NoAttentionError: nothing was recorded.
        UnfollowedAttentionError: an attention reads what an attention that could not be followed made.
        MixingError: chosen tokens go on without a residual connection.
    """
    check_followed(tape, frozenset(range(len(tape.sources))) if not tape.attentions else frozenset(), "the model")
    if not tape.attentions:
        raise NoAttentionError(
            "no softmax attention was seen in the forward pass "
            "(a CNN, an LSTM, factorised attention, and compiled kernels have none that heedmap can see)"
        )
    graph = Graph([], [], tape.sources)
    for attention in tape.attentions:
        _add(graph, tape, attention)
    return graph


def _add(graph: Graph, tape: Tape, attention: Attention) -> None:
    number = attention.index
    check_followed(tape, attention.query_sources | attention.value_sources, f"attention {number}")
    asks = _find(graph, attention.query_sources, attention.queries)
    asked = _find(graph, attention.value_sources, attention.keys)
    if asks is None:
        asks = _new(graph, attention.query_sources, attention.queries)
        asked = asked or _find(graph, attention.value_sources, attention.keys)
    if asked is None:
        learned = not attention.value_sources and not attention.query_sources and attention.keys == attention.queries
        asked = asks if learned else _new(graph, attention.value_sources, attention.keys)
    for stream, sources in ((asks, attention.query_sources), (asked, attention.value_sources)):
        if not stream.attentions:
            stream.leaves |= _own_leaves(graph, stream, sources)
        else:
            graph.check_carried(stream.index, graph.states(sources), f"attention {number}")
            _check_residual(graph, stream, sources, f"attention {number}")
    graph.edges.append(
        Edge(
            number,
            asks.index,
            asked.index,
            graph.states(attention.query_sources).get(asks.index, frozenset()) & frozenset(asks.attentions),
            graph.states(attention.value_sources).get(asked.index, frozenset()) & frozenset(asked.attentions),
        )
    )
    asks.attentions.append(number)


def _check_residual(graph: Graph, stream: Stream, sources: frozenset[int], reader: str) -> None:
    """MixingError where tokens go on without what they began with: R has no identity to add to there."""
    begun, state = graph.all_leaves(stream.index), graph.states(sources).get(stream.index)
    if begun and state and not begun & sources:
        raise MixingError(
            f"{reader} reads tokens that go on without what they were before: there is no residual connection around attention "
            f"{min(state)}, so the rules, which add to the identity, do not hold; explain a model whose attentions have one"
        )


def check_followed(tape: Tape, sources: frozenset[int], reader: str) -> None:
    """UnfollowedAttentionError where an attention that could not be followed is among ``sources``."""
    for index in sorted(sources):
        source = tape.sources[index]
        if source.kind == "tower":
            raise AskedTowerError(
                f"{reader} reads what the model made of {source.name!r} in another way than as tokens among "
                "the words, and that is not followed; a map would be wrong, so there is none",
                tape.steps.parting(),
            )
        if source.kind == "unfollowed":
            raise UnfollowedAttentionError(
                f"{reader} reads what an attention made that heedmap cannot follow: {source.name} (called at {source.place}); "
                "a map would be wrong, by any method that works on attention, so there is none"
            )


def _leaves(graph: Graph, sources: frozenset[int]) -> set[int]:
    return {i for i in sources if graph.sources[i].kind == "leaf"}


def _own_leaves(graph: Graph, stream: Stream, sources: frozenset[int]) -> set[int]:
    """The leaves among ``sources`` that no other stream brought in."""
    taken = graph.all_leaves(stream.index) - stream.leaves
    return _leaves(graph, sources) - taken


def _find(graph: Graph, sources: frozenset[int], tokens: int) -> Stream | None:
    """The stream of that many tokens whose state has these sources: that of the latest attention, else by its beginning."""
    states = graph.states(sources)
    if not states:
        leaves = _leaves(graph, sources)
        return next((s for s in graph.streams if s.leaves & leaves and s.tokens == tokens), None)
    latest = graph.streams[max(states, key=lambda x: max(states[x]))]
    if latest.tokens == tokens:
        return latest
    begun = [s for s in graph.streams if {x: join.state for x, join in s.joins.items()} == states]
    return next((s for s in begun if s.tokens == tokens), None)


def _new(graph: Graph, sources: frozenset[int], tokens: int) -> Stream:
    joins = {x: AbsorbedStream(state) for x, state in graph.states(sources).items()}
    stream = Stream(len(graph.streams), tokens, joins=joins)
    graph.streams.append(stream)
    stream.leaves = _own_leaves(graph, stream, sources)
    return stream


def verify_same(before: Graph, now: Graph) -> None:
    """AttentionError where this run's attentions differ from those that the probe verified."""
    was = [(e.stream, e.source, e.query_state, e.value_state) for e in before.edges]
    has = [(e.stream, e.source, e.query_state, e.value_state) for e in now.edges]
    joined = [[{x: join.state for x, join in s.joins.items()} for s in graph.streams] for graph in (before, now)]
    if was != has or joined[0] != joined[1]:
        raise AttentionError(
            f"this run recorded {len(has)} attentions, of which some differ from the {len(was)} that were verified: "
            "the model does not do the same thing twice on equal input; make it deterministic"
        )
    longer = next((s for s, known in zip(now.streams, before.streams, strict=True) if s.tokens > known.tokens), None)
    if longer is not None:  # what a few tokens do shows nothing of what reaches further
        raise AttentionError(
            f"stream {longer.index} has {longer.tokens} tokens, and of {before.streams[longer.index].tokens} it was verified"
        )
