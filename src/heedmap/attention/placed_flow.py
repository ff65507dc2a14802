"""Streams of a recording that knows every token's number, and the proof that tokens mix in what was recorded only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import torch
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.companions import Lost
from heedmap.attention.flow import AbsorbedStream, Edge, Graph, State, Stream, check_followed
from heedmap.attention.mixers import Mixer
from heedmap.attention.numbers import NOTHING, Ids, Numbers, each
from heedmap.attention.placed import PlacedTape
from heedmap.attention.probe import ADVICE
from heedmap.attention.scans import Scan
from heedmap.attention.token_positions import InputSpan
from heedmap.errors import GradientError, MixingError, NoAttentionError


@dataclass(eq=False)
class PlacedStream(Stream):
    """A stream whose tokens have numbers.

    Attributes:
        numbers: (batch, tokens), -1: none.
        rows: for each number sample · tokens + row, -1: not in this stream.
    """

    numbers: Ids = field(default_factory=lambda: torch.zeros(0, 0))
    rows: Tensor = field(default_factory=lambda: torch.zeros(0))
    first: Callable[[Ids], Ids] = lambda ids: ids

    def at(self, ids: Ids) -> Tensor:
        """sample · tokens + row of each token; -1: not in this stream."""
        return _at(self, self.first(ids))


class Builder:
    """Streams and edges of a placed recording."""

    def __init__(self, tape: PlacedTape, output: Any) -> None:
        self.tape, self.numbers = tape, tape.numbers
        self.graph = Graph([], [], tape.sources)
        self.live = _live(tape, frozenset().union(*(tape.tag(t).sources for t in tensors_of(output))))
        self.lost = next((k for t in tensors_of(output) if isinstance(k := tape.known(t), Lost) and k.place), None)
        self._of: dict[int, int] = {}  # live event → the stream whose rows its output is

    def build(self) -> Graph:
        """The flow.

        Raises:
            NoAttentionError: nothing was recorded.
            UnfollowedAttentionError: an attention reads what could not be followed.
        """
        events = [a for a in self.tape.attentions if a.index in self.live]
        if not events:
            check_followed(self.tape, frozenset(range(len(self.tape.sources))), "the model")
            lost = self.lost
            where = f": tokens mix in {lost.function}, called at {lost.place}, which is not known" if lost else ""
            raise NoAttentionError(f"nothing that mixes tokens was seen in the forward pass{where}")
        for event in events:
            if isinstance(event, Mixer):
                self._mixer(event)
            else:
                assert isinstance(event, BlockAttention)
                self._attention(event)
        return self.graph

    def sources(self, sources: Collection[int]) -> frozenset[int]:
        """``sources``, with those of their input in place of mixers that are not followed (pooling before a head)."""
        seen, rest = set(sources), list(sources)
        dropped = set[int]()
        while rest:
            index = rest.pop()
            source = self.tape.sources[index]
            if source.kind == "attention" and source.attention not in self.live:
                dropped.add(index)
                new = self.tape.attentions[source.attention].value_sources - seen
                seen |= new
                rest.extend(new)
        return frozenset(seen - dropped)

    def _states(self, sources: Iterable[int]) -> dict[int, State]:
        found: dict[int, set[int]] = {}
        for index in sources:
            source = self.tape.sources[index]
            if source.kind == "attention" and source.attention in self._of:
                found.setdefault(self._of[source.attention], set()).add(source.attention)
        return {s: frozenset(a for a in state if a in self.graph.streams[s].attentions) for s, state in found.items()}

    @property
    def ancestors(self) -> set[int]:
        """The leaves that are tokens of a stream which asks one that a convolution made of them."""
        found = set[int]()
        for edge in self.graph.edges:
            asks, asked = (self.graph.streams[x].leaves for x in (edge.stream, edge.source))
            found |= {a for leaf in asked - asks for a in self.tape.made_of(leaf) if a in asks}
        return found

    def _attention(self, event: BlockAttention) -> None:
        reader = f"attention {event.index}"
        asks_of, asked_of = self.sources(event.query_sources), self.sources(event.value_sources)
        check_followed(self.tape, asks_of | asked_of, reader)
        q, k = self.numbers.first(_asking(self.numbers, event)), self.numbers.first(event.key_ids)
        asked = self._stream(k, asked_of)
        asks = self._stream(q, asks_of)
        for stream, of in ((asks, asks_of), (asked, asked_of)):
            self._check_residual(stream, of, reader)
        event.sizes = (self.tape.batch, asks.tokens, asked.tokens)
        event.keys = asked.tokens
        event.query_rows, event.key_rows = _at(asks, q), _at(asked, k)
        self._edge(event.index, asks, asked, asks_of, asked_of)

    def _check_residual(self, stream: PlacedStream, sources: frozenset[int], reader: str) -> None:
        """MixingError where tokens go on without what they began with: R has no identity to add to then."""
        begun = set(stream.leaves)
        made = {m for join in stream.joins.values() for m in join.mixers}
        for join in stream.joins.values():
            made |= set() if join.mixers else set(join.state)
        begun |= {i for i, s in enumerate(self.tape.sources) if s.kind == "attention" and s.attention in made}
        if begun and self._states(sources).get(stream.index) and not begun & sources:
            raise MixingError(
                f"{reader} reads tokens that go on without what they were before: there is no residual connection around an "
                "attention, so the rules, which add to the identity, do not hold; explain a model whose attentions have one"
            )

    def read_by_target(self, sources: frozenset[int]) -> frozenset[int]:
        """See :meth:`sources`; MixingError where what is read has no residual connection."""
        found = self.sources(sources)
        for stream in self.graph.streams:
            assert isinstance(stream, PlacedStream)
            self._check_residual(stream, found, "the target")
        return found

    def _edge(
        self, index: int, asks: PlacedStream, asked: PlacedStream, asks_of: Iterable[int], asked_of: Iterable[int]
    ) -> None:
        empty: State = frozenset()
        states = self._states(asks_of).get(asks.index, empty), self._states(asked_of).get(asked.index, empty)
        self.graph.edges.append(Edge(index, asks.index, asked.index, *states))
        asks.attentions.append(index)
        self._of[index] = asks.index

    def _mixer(self, event: Mixer) -> None:
        of = self.sources(event.value_sources)
        check_followed(self.tape, of, f"mixer {event.index}")
        asks_of = self.sources(event.query_sources) or of
        read, out = self.numbers.first(event.asked), self.numbers.first(event.ids)
        became = out != event.ids
        if bool(became.any()) and not event.query_sources:  # rows that became no tokens were cut off
            out = torch.where(became, out, NOTHING)
        if event.query_sources and set(read.unique().tolist()) < set(out.unique().tolist()):
            self._stream(out, asks_of)  # tokens that ask some of themselves: one level of several
        asked = self._stream(read, of)
        known = self._stream(out, asks_of) if event.query_sources else self._find(out, of)
        self._check_residual(asked, of, f"mixer {event.index}")
        event.keys = asked.tokens
        if known is not None and (event.query_sources or self._is_update(known, asked, out)):
            self._edge(event.index, known, asked, asks_of, of)
            self._sized(event, known, asked)
            return
        if known is None and any(
            bool((s.at(out) >= 0).any()) for s in self.graph.streams if isinstance(s, PlacedStream)
        ):
            raise MixingError(
                f"what mixer {event.index}, called at {event.place}, makes is added to tokens of several streams"
            )
        if isinstance(event, Scan):
            raise MixingError(
                f"what the recurrence called at {event.place} makes is added to no tokens that were there: its matrix over all "
                "tokens would have to be whole, so there is no map; explain a model whose recurrences have a residual connection"
            )
        made = known or self._new(out, {})
        self._sized(event, made, asked)
        state = self._states(of).get(asked.index, frozenset())
        join = made.joins.setdefault(asked.index, AbsorbedStream(state))
        join.mixers = (*join.mixers, event.index)
        self._of[event.index] = made.index

    def _is_update(self, known: PlacedStream, asked: PlacedStream, out: Ids) -> bool:
        """Whether rows ``out`` are added to tokens that were there before, not to others that are made beside them."""
        begun = self.numbers.made[int(self.numbers.space[int(out.max())])] != "mixer"
        return known is asked or begun or known.index in self.graph.reachable_from[asked.index]

    def _sized(self, event: Mixer, made: PlacedStream, asked: PlacedStream) -> None:
        event.sizes = (self.tape.batch, made.tokens, asked.tokens)
        event.rows = _at(made, self.numbers.first(event.ids))

    def _stream(self, ids: Ids, sources: Iterable[int]) -> PlacedStream:
        found = self._find(ids, sources)
        return found if found is not None else self._new(ids, self._states(sources))

    def _find(self, ids: Ids, sources: Iterable[int]) -> PlacedStream | None:
        """The stream that has all these tokens and whose attentions are the latest among the sources."""
        wanted = ids[ids >= 0].unique()
        states = self._states(sources)
        fits = [s for s in self.graph.streams if isinstance(s, PlacedStream) and bool((_at(s, wanted) >= 0).all())]
        latest = max((max(state, default=-1) for state in states.values()), default=-1)
        scored = [(max(states.get(s.index, ()), default=-1), -s.index, s) for s in fits]
        if not scored:
            return None
        score, _, best = max(scored, key=lambda t: t[:2])
        begun = {x: join.state for x, join in best.joins.items() if not join.mixers}
        others = {x: state for x, state in states.items() if x != best.index and state}
        return best if score == latest or not others or begun == others or best.joins else None

    def _new(self, ids: Ids, states: Mapping[int, State]) -> PlacedStream:
        flat = ids.reshape(-1)
        flat = flat[flat >= 0]
        order = flat.unique()
        per_sample = [order[self.numbers.sample[order] == b] for b in range(self.tape.batch)]
        tokens = max(map(len, per_sample))
        numbers = torch.full((self.tape.batch, tokens), NOTHING)
        rows = torch.full((len(self.numbers.sample) + 1,), NOTHING)
        for b, own in enumerate(per_sample):
            numbers[b, : len(own)] = own
            rows[own] = b * tokens + torch.arange(len(own))
        stream = PlacedStream(len(self.graph.streams), tokens, numbers=numbers, rows=rows, first=self.numbers.first)
        for x, state in states.items():
            other = self.graph.streams[x]
            assert isinstance(other, PlacedStream)
            places = _at(stream, other.numbers)
            made = any(join.mixers for join in other.joins.values())
            if (state or made) and bool((places >= 0).any()):
                stream.joins[x] = AbsorbedStream(state, torch.where(places < 0, NOTHING, places % tokens))
        self.graph.streams.append(stream)
        self._leaves(stream)
        return stream

    def _leaves(self, stream: PlacedStream) -> None:
        taken = {i for x in stream.joins for i in self.graph.streams[x].leaves}
        for index, ids in self.tape.leaf_ids.items():
            if index not in taken and bool((_at(stream, self.numbers.first(ids.reshape(-1))) >= 0).any()):
                stream.leaves.add(index)

    def parts(self) -> dict[int, list[InputSpan]]:
        """For each stream, its segments."""
        return {s.index: self._parts(s) for s in self.graph.streams if isinstance(s, PlacedStream)}

    def _parts(self, stream: PlacedStream) -> list[InputSpan]:
        found: list[InputSpan] = []
        seen = torch.zeros(stream.numbers.numel() + 1, dtype=torch.bool)
        order = sorted(self.tape.leaf_ids, key=lambda i: -self.tape.sources[i].says)
        for leaf in order:
            rows = _at(stream, self.numbers.first(_by_sample(self.tape, self.tape.leaf_ids[leaf])))
            if not bool((rows >= 0).any()) or bool(seen[rows[rows >= 0]].any()):
                continue
            seen[rows[rows >= 0]] = True
            found += self._spans(stream, leaf, torch.where(rows < 0, NOTHING, rows % max(1, stream.tokens)))
        return sorted(found, key=lambda p: int(p.positions[p.positions >= 0].min()))

    def _spans(self, stream: PlacedStream, leaf: int, rows: Tensor) -> list[InputSpan]:
        """One segment; of several pictures of a sample, one for each."""
        source = self.tape.sources[leaf]
        two_axes = source.spatial and len(source.shape) == 4
        if not two_axes:
            return [InputSpan(leaf, source.name, rows, None, "tokens", rows)]
        grid = (source.shape[2], source.shape[3])
        pictures = rows.reshape(len(rows), -1, grid[0] * grid[1])
        kept = [own for own in pictures.unbind(1) if bool((own >= 0).any())]
        return [InputSpan(leaf, source.name, own, grid, "image", own) for own in kept]


def _by_sample(tape: PlacedTape, ids: Ids) -> Ids:
    """(batch, rows of a sample)."""
    flat = ids.reshape(-1)
    samples = tape.numbers.of_sample(flat)
    own = [flat[samples == b] for b in range(tape.batch)]
    most = max(map(len, own))
    return torch.stack([torch.cat([o, o.new_full((most - len(o),), NOTHING)]) for o in own])


def _at(stream: PlacedStream, ids: Ids) -> Tensor:
    """sample · tokens + row of each number."""
    inside = (ids >= 0) & (ids < len(stream.rows))
    return torch.where(inside, stream.rows[ids.clamp(0, len(stream.rows) - 1)], NOTHING)


def tensors_of(output: Any) -> Iterator[Tensor]:
    """All tensors of what a model returns."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_of(value)
    elif isinstance(output, Mapping) or is_dataclass(output):
        for value in output.values() if isinstance(output, Mapping) else vars(output).values():
            yield from tensors_of(value)


def _live(tape: PlacedTape, returned: frozenset[int]) -> set[int]:
    """The attentions; the mixers of which one of them reads values; and those that add to tokens that the model returns.

    Args:
        tape: the recording.
        returned: the sources of all that the model returns.
    """
    numbers, live = tape.numbers, {a.index for a in tape.attentions if not isinstance(a, Mixer)}
    mixers = [a for a in tape.attentions if isinstance(a, Mixer)]
    spaces = set[int]()
    if not live:
        spaces |= {int(s) for ids in tape.leaf_ids.values() for s in numbers.space[ids[ids >= 0]].unique()}
    for a in tape.attentions:
        if isinstance(a, BlockAttention):
            for ids in (_asking(numbers, a), a.key_ids):
                spaces |= _spaces(tape, ids)
    while True:
        out = _through(tape, returned, live)
        read = {tape.sources[i].attention for a in live for i in _read(tape, tape.attentions[a])}
        more = {
            m.index
            for m in mixers
            if m.index not in live and (m.index in read or (m.index in out and _spaces(tape, m.ids) & spaces))
        }
        if not more:
            return live
        live |= more
        for index in more:
            mixer = tape.attentions[index]
            assert isinstance(mixer, Mixer)
            spaces |= _spaces(tape, mixer.asked)


def _asking(numbers: Numbers, event: BlockAttention) -> Ids:
    """The tokens that ask. Where a mixer made the queries, these are the tokens to which the output is added."""
    if event.row_ids is None:
        return event.query_ids
    if bool((numbers.first(event.row_ids) == event.row_ids).all()):
        numbers.joined(event.row_ids, event.query_ids)
    return event.row_ids


def _read(tape: PlacedTape, event: Attention) -> frozenset[int]:
    """The sources of what it takes from tokens; what its queries are made of matters where they are the tokens that ask."""
    if not isinstance(event, BlockAttention) or event.row_ids is None:
        return event.value_sources
    rows, queries = tape.numbers.first(event.row_ids), tape.numbers.first(event.query_ids)
    return event.value_sources | (event.query_sources if torch.equal(rows, queries) else frozenset())


def _through(tape: PlacedTape, sources: frozenset[int], live: set[int]) -> set[int]:
    """The attentions and mixers among ``sources``, and those before mixers that are not followed (pooling before a head)."""
    found, rest = set[int](), set(sources)
    while rest:
        source = tape.sources[rest.pop()]
        if source.kind == "attention" and source.attention not in found:
            found.add(source.attention)
            rest |= set() if source.attention in live else tape.attentions[source.attention].value_sources
    return found


def _spaces(tape: PlacedTape, ids: Ids) -> set[int]:
    first = tape.numbers.first(ids.reshape(-1).unique())
    return {int(s) for s in tape.numbers.space[first[first >= 0]].unique()}


# -- the proof ------------------------------------------------------------------------------------------------------


def prove(tape: PlacedTape, builder: Builder) -> None:
    """Half of all tokens get a random cotangent where they are read; pulled back, it must vanish at all others.

    Raises:
        MixingError: tokens mix outside of what was recorded.
    """
    events = [a for a in tape.attentions if a.index in builder.live]
    merging = [a for a in events if isinstance(a, Mixer) and a.into is not None]
    reached = set[str]()
    for group, together in ((events, False), (merging, True)):
        reads = [(a.index, t, ids) for a in group if together or a not in merging for t, ids in tape.reads[a.index]]
        reads = [r for r in reads if r[1].requires_grad]
        if reads:
            chosen = _halves(tape, merging if together else [])
            for half in (chosen, ~chosen):
                reason = _leak(tape, builder, reads, half, reached)
                if reason is not None:
                    _where(tape, builder, reads, half, reason)
    _check_reached(tape, builder, reached)


def _check_reached(tape: PlacedTape, builder: Builder, reached: set[str]) -> None:
    """GradientError where what a state ends with has no gradient from those that read it, or a stream none from its beginning."""
    for edge in builder.graph.edges:
        asks = (
            frozenset() if tape.attentions[edge.attention].mixes else edge.query_state
        )  # what a grid is made of: given
        for state in (asks, edge.value_state):
            if state and f"attention {max(state)}" not in reached:
                raise GradientError(
                    f"no gradient passes to attention {max(state)} from those that read it (weights or a gate of zero, quantised "
                    f"weights, torch.no_grad or detach in the model): {ADVICE}"
                )
    for stream in builder.graph.streams:
        names = sorted({tape.sources[i].name for i in stream.leaves})
        if names and not any(repr(name) in reached for name in names):
            raise GradientError(
                f"no gradient passes from {', '.join(names)} to the first attention that reads it: {ADVICE}"
            )


def _where(tape: PlacedTape, builder: Builder, reads: list[tuple[int, Tensor, Ids]], half: Tensor, reason: str) -> None:
    for index, t, ids in reads:
        own = _leak(tape, builder, [(index, t, ids)], half, set())
        if own is not None:
            what = "mixer" if isinstance(tape.attentions[index], Mixer) else "attention"
            raise MixingError(f"what {what} {index}, called at {tape.attentions[index].place}, reads {own}: {ADVICE}")
    raise MixingError(f"tokens {reason}: {ADVICE}")


def _halves(tape: PlacedTape, merging: list[Mixer]) -> Tensor:
    """For each number whether it is chosen; tokens that go into one row together."""
    chosen = torch.rand(len(tape.numbers.sample) + 1) < 0.5
    for mixer in reversed(merging):
        assert mixer.into is not None
        tokens, rows = (tape.numbers.first(x.expand(mixer.value.shape).reshape(-1)) for x in (mixer.asked, mixer.into))
        real = (tokens >= 0) & (rows >= 0)
        chosen[tokens[real]] = chosen[rows[real]]
    return chosen


def _leak(
    tape: PlacedTape, builder: Builder, reads: list[tuple[int, Tensor, Ids]], chosen: Tensor, reached: set[str]
) -> str | None:
    """What a read depends on beside the tokens that are chosen; ``reached`` gets the names of all that it depends on."""

    def of(ids: Ids) -> Tensor:
        return each(lambda n: chosen[tape.numbers.first(n)] & (n >= 0), ids)

    outs = [
        (f"attention {a.index}", a.out, a.ids)
        for a in tape.attentions
        if a.index in builder.live and isinstance(a, (Mixer, BlockAttention))
    ]
    outs += [
        (repr(s.name), s.tensor, tape.leaf_ids[i])
        for i, s in enumerate(tape.sources)
        if i in tape.leaf_ids and s.tensor is not None
    ]
    cotangents = [torch.randn_like(t) * of(ids.expand(t.shape)).to(t.device) for _, t, ids in reads]
    try:
        gradients = torch.autograd.grad(
            [t for _, t, _ in reads], [t for _, t, _ in outs], cotangents, retain_graph=True, allow_unused=True
        )
    except RuntimeError as error:
        raise GradientError(
            f"no gradient passes through what the model computes, so nothing can be proved: {error}"
        ) from error
    for (name, tensor, ids), gradient in zip(outs, gradients, strict=True):
        if gradient is not None and bool((gradient != 0).any()):
            reached.add(name)
        if gradient is not None and bool(((gradient != 0).cpu() & ~of(ids.expand(tensor.shape))).any()):
            return f"depends on other tokens of {name}, outside of what was recorded"
    return None
