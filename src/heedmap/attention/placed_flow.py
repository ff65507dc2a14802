"""Streams of a recording that knows every token's number: which belong together, and what each attention reads of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.backward import reached
from heedmap.attention.blocks import BlockAttention
from heedmap.attention.companions import Lost
from heedmap.attention.flow import AbsorbedStream, Edge, Graph, State, Stream, check_followed
from heedmap.attention.forward import ends_of
from heedmap.attention.mixers import Mixer
from heedmap.attention.numbers import NOTHING, Ids, Numbers, all_of, each, rows_reached
from heedmap.attention.placed import PlacedTape
from heedmap.attention.returned import tensors_of
from heedmap.attention.scans import Scan
from heedmap.attention.token_positions import TokenRows
from heedmap.errors import MixingError, NoAttentionError, UnfollowedAttentionError


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
        return self.rows_of(self.first(ids))

    def rows_of(self, ids: Ids) -> Tensor:
        """The same of numbers under which tokens first appeared."""
        last = len(self.rows) - 1  # the entry of none
        return each(lambda n: self.rows[n.clamp(max=last)], ids)

    def places_of(self, ids: Ids) -> Tensor:
        """The rows within a sample, of such numbers."""
        rows = self.rows_of(ids)
        return torch.where(rows < 0, NOTHING, rows % max(1, self.tokens))

    def touched(self, at: Tensor, gradient: Tensor) -> Tensor:
        """The rows that have a gradient in a tensor whose elements are of these, sample · tokens + row."""
        return rows_reached(at.expand(gradient.shape), gradient != 0, len(self.numbers), self.tokens)

    def has(self, ids: Ids) -> bool:
        """Whether all these tokens, each once, are of it."""
        return all(bool((self.rows[some.clamp(max=len(self.rows) - 1)] >= 0).all()) for some in (ids[:1], ids))


class Builder:
    """Streams and edges of a placed recording."""

    def __init__(self, tape: PlacedTape, output: Any) -> None:
        self.tape, self.numbers = tape, tape.numbers
        self.graph = Graph([], [], tape.sources)
        self.answers = list(tensors_of(output))
        self.live = _live(tape, self.answers)
        self.lost = next((k for t in self.answers if isinstance(k := tape.known(t), Lost) and k.place), None)
        self.renewed = set[int]()  # calls of attentions without a residual connection, whose rows are to be new tokens
        self._of: dict[int, int] = {}  # live event → the stream whose rows its output is
        self._marked: tuple[int, dict[int, Tensor]] = -1, {}
        events = [a for a in tape.attentions if a.index in self.live]
        self._met = torch.cat([torch.zeros(0).long(), *(self.numbers.first(ids) for a in events for ids in _tokens(a))])
        self._met = self._met.unique()
        self._late = [a for a in events if isinstance(a, Mixer) and self._is_late(a)]
        self._asking: list[tuple[Edge, PlacedStream, frozenset[int]]] = []
        self._together: list[tuple[Ids, Ids]] = []  # tokens, and those with which they are one stream

    @property
    def streams(self) -> list[PlacedStream]:
        """Those of the graph."""
        return cast("list[PlacedStream]", self.graph.streams)

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
            where = f": tokens mix in {lost}, which is not known" if lost else ""
            raise NoAttentionError(f"nothing that mixes tokens was seen in the forward pass{where}")
        late = list(self._late)
        while self._are_apart(events):  # of what was found to be one stream, once more from the beginning
            self.graph, self._late = Graph([], [], self.tape.sources), list(late)
            self.renewed.clear()
            self._of.clear()
            self._asking.clear()
        return self.graph

    def _are_apart(self, events: Sequence[Attention]) -> bool:
        """Add all events, unless it turns out that tokens of one stream are asked for beside others that are of none."""
        count = len(self._together)
        for event in events:
            self._add_late(self.tape.attentions_of(event.query_sources | event.value_sources))
            if isinstance(event, BlockAttention):
                self._attention(event)
            elif isinstance(event, Mixer) and event not in self._late:
                self._mixer(event)
            if len(self._together) > count:
                return True
        self._add_late({mixer.index for mixer in self._late})
        for edge, asks, of in self._asking:
            if not self.graph.is_whole(edge):  # else what those that ask were before does not matter
                self._check_residual(asks, of, f"attention {edge.attention}")
        return len(self._together) > count

    def _is_late(self, event: Mixer) -> bool:
        """Whether its rows became tokens that began after it: those to which they are added, in a later layer."""
        return bool((self.numbers.first(event.tokens_made) > event.tokens_made).any())

    def _add_late(self, read: Collection[int]) -> None:
        """The mixers, of these, whose rows are added to tokens that now have a stream."""
        for event in [mixer for mixer in self._late if mixer.index in read]:
            self._late.remove(event)
            of = self.sources(event.value_sources)
            rows, asked = self.numbers.first(event.ids), self._stream(self.numbers.first(event.tokens_read), of)
            to = next(reversed(self._fitting(rows)), None)
            if to is None:
                raise _of_several(event)
            self._sized(event, to, asked)
            state = self._state(asked, of)
            join = to.joins.get(asked.index)
            if join is not None and join.mixers and join.state == state and not self._is_asked(to):
                self._merged(event, to, asked, state)  # rows of the same tokens, of which a part has asked before
            else:
                self._edge(event.index, to, asked, (), of, added=to is not asked)

    def _is_asked(self, stream: PlacedStream) -> bool:
        """Whether its tokens were asked by any so far."""
        return any(edge.source == stream.index for edge in self.graph.edges)

    def sources(self, sources: Collection[int]) -> frozenset[int]:
        """``sources``, with those of their input in place of mixers that are not followed (pooling before a head)."""
        found = _with_dropped(self.tape, sources, self.live)
        return frozenset(found - {i for i in found if self.tape.attentions_of([i]) - self.live})

    def _states(self, sources: Iterable[int]) -> dict[int, State]:
        """The states of streams that sources are of."""
        found: dict[int, set[int]] = {}
        for index in sources:
            for attention in self.tape.attentions_of([index]) & self._of.keys():
                found.setdefault(self._of[attention], set()).add(attention)
        return {s: frozenset(a for a in state if a in self.streams[s].attentions) for s, state in found.items()}

    def _state(self, stream: PlacedStream, sources: Iterable[int]) -> State:
        """The one of a stream."""
        return self._states(sources).get(stream.index, frozenset())

    @property
    def ancestors(self) -> set[int]:
        """The leaves that are tokens of a stream which asks one that a convolution made of them.

        And those that a stream has beside what was made of them place by place: each place would be two tokens.
        """
        found = set[int]()
        for stream in self.streams:
            begun = self.graph.all_leaves(stream.index)
            found |= {a for leaf in begun for a in self.tape.made_of(leaf) & begun if self._is_twice(a, leaf)}
        for edge in (edge for edge in self.graph.edges if not edge.added):
            asks, asked = (self.graph.streams[x].leaves for x in (edge.stream, edge.source))
            found |= {a for leaf in asked - asks for a in self.tape.made_of(leaf) if a in asks}
        return found

    def _is_twice(self, one: int, other: int) -> bool:
        """Whether two leaves of the same places are other tokens each; where one was added to the other, they are the same."""
        ids = [self.tape.leaf_ids[leaf] for leaf in (one, other)]
        return ids[0].shape == ids[1].shape and not torch.equal(*map(self.numbers.first, ids))

    def _attention(self, event: BlockAttention) -> None:
        reader = f"attention {event.index}"
        asks_of, asked_of = self.sources(event.query_sources), self.sources(event.value_sources)
        check_followed(self.tape, asks_of | asked_of, reader)
        q, k = self.numbers.first(_asking(self.numbers, event)), self.numbers.first(event.key_ids)
        if _is_renewed(self.numbers, event):
            asked = self._stream(k, asked_of)
            self._check_residual(asked, asked_of, reader)
            made = self._new(q, {})
            self._laid(event, made, asked, q, k)
            self._merged(event, made, asked, self._state(asked, asked_of))
            return
        if bool(torch.isin(all_of(k), all_of(q)).all()):  # tokens that ask some of themselves
            self._stream(q, asks_of, event.beside)
        asked, asks = self._stream(k, asked_of, event.beside), self._stream(q, asks_of, event.beside)
        self._check_residual(asked, asked_of, reader)
        self._check_apart(asked, asked_of, reader)
        self._laid(event, asks, asked, q, k)
        self._edge(event.index, asks, asked, asks_of, asked_of)
        self._asking.append((self.graph.edges[-1], asks, asks_of))

    def _laid(self, event: BlockAttention, asks: PlacedStream, asked: PlacedStream, q: Ids, k: Ids) -> None:
        event.sizes, event.keys = (self.tape.batch, asks.tokens, asked.tokens), asked.tokens
        event.query_rows, event.key_rows = asks.rows_of(q), asked.rows_of(k)

    def _check_apart(self, stream: PlacedStream, sources: frozenset[int], reader: str) -> None:
        """What is taken from new tokens is nothing of those in whose place they stand, though these are added to what asks.

        Raises:
            MixingError: it is of both.
        """
        if not self.numbers.stand_beside(stream.numbers):
            return
        for other in (self.streams[x] for x, join in stream.joins.items() if join.mixers):
            if sources & (self.tape.sources_of(other.attentions) | other.leaves | self._learned_of(other)):
                raise MixingError(
                    f"{reader} reads tokens that go on without what they were before, and others to which that was added again: "
                    "the rules, which add to the identity or do not, hold for neither; explain a model whose attentions have "
                    "residual connections"
                )

    def _learned_of(self, stream: PlacedStream) -> set[int]:
        """The sources of learned tokens that are of a stream."""
        return {i for i, ids in self.tape.learned_ids.items() if bool((stream.at(all_of(ids)) >= 0).any())}

    def _check_residual(self, stream: PlacedStream, sources: frozenset[int], reader: str, last: bool = False) -> None:
        """Where tokens go on without what they began with, R has no identity to add to: then they are new tokens in the next run.

        Raises:
            MixingError: what is read so was made by no attention whose rows could be new tokens, or no run follows (``last``).
        """
        made = self._without_residual(stream, sources)
        if made is None:
            return
        if last or not isinstance(made, BlockAttention) or not made.may_renew:
            raise MixingError(
                f"{reader} reads tokens that go on without what they were before: there is no residual connection around "
                f"attention {made.index}, so the rules, which add to the identity, do not hold; explain a model whose attentions "
                "have one"
            )
        self.renewed.add(made.call)

    def _without_residual(self, stream: PlacedStream, sources: frozenset[int]) -> Attention | None:
        """The first attention or mixer among the sources, where tokens go on without what they were before it."""
        made = {index for join in stream.joins.values() for index in join.mixers or join.state}
        begun = stream.leaves | self._learned_of(stream) | self.tape.sources_of(made)
        state = self._state(stream, sources)
        return self.tape.attentions[min(state)] if begun and state and not begun & sources else None

    def check_answers(self) -> None:
        """As before each attention, for what the model returns; what cannot be renewed no target may read."""
        for found in (self.sources(self.tape.tag(t).sources) for t in self.answers):
            for stream in self.streams:
                made = self._without_residual(stream, found)
                if isinstance(made, BlockAttention) and made.may_renew:
                    self.renewed.add(made.call)

    def read_by_target(self, sources: frozenset[int]) -> frozenset[int]:
        """See :meth:`sources`; MixingError where what is read has no residual connection."""
        found = self.sources(sources)
        for stream in self.streams:
            self._check_residual(stream, found, "the target", last=True)
            self._check_apart(stream, found, "the target")
        return found

    def before(self, stream: int, state: State) -> list[TokenRows]:
        """The rows of a stream as they began, and as they were after each attention but the last ones of a state."""
        own, tape = self.streams[stream], self.tape
        ends = {a.index for a in ends_of(tape.attentions, own, state, in_parts=True)}
        earlier = [tape.attentions[a] for a in sorted(state - ends)]
        found = [TokenRows(f"attention {a.index}", a.out, a.touched) for a in earlier]
        for leaf, ids in tape.leaf_ids.items():
            source = tape.sources[leaf]
            if source.tensor is not None and (leaf in own.leaves or self._is_again(own, leaf)):
                at = own.at(ids) if leaf in own.leaves else torch.arange(ids.numel()).reshape(ids.shape)
                found.append(TokenRows(f"the tokens of {source.name!r}", source.tensor, partial(own.touched, at)))
        return found

    def _is_again(self, stream: PlacedStream, leaf: int) -> bool:
        """Whether these are other features of a stream's words, one for each."""
        source, names = self.tape.sources[leaf], {self.tape.sources[i].name for i in stream.leaves}
        alike = not source.spatial and source.shape[:2] == (self.tape.batch, stream.tokens) and source.name in names
        return alike and not any(leaf in s.leaves for s in self.graph.streams)

    def _edge(
        self,
        index: int,
        asks: PlacedStream,
        asked: PlacedStream,
        asks_of: Iterable[int],
        asked_of: Iterable[int],
        added: bool = False,
    ) -> None:
        states = self._state(asks, asks_of), self._state(asked, asked_of)
        self.graph.edges.append(Edge(index, asks.index, asked.index, *states, added))
        asks.attentions.append(index)
        self._of[index] = asks.index

    def _mixer(self, event: Mixer) -> None:
        of = self.sources(event.value_sources)
        check_followed(self.tape, of, f"mixer {event.index}")
        asks_of = self.sources(event.query_sources) or of
        read, out = (self.numbers.first(ids) for ids in (event.tokens_read, event.ids))
        became = each(self._others, event.ids)
        if len(all_of(became)) and not event.query_sources:  # rows that became no tokens were cut off
            out = became
        if event.query_sources and set(all_of(read).tolist()) < set(all_of(out).tolist()):
            self._stream(out, asks_of)  # tokens that ask some of themselves: one level of several
        asked = self._stream(read, of)
        known = self._stream(out, asks_of) if event.query_sources else self._find(out, of) or self._only(out)
        if known is None and not event.copies and self._are_begun(out):  # it is the first to reach them
            known = self._new(out, {})
        self._check_residual(asked, of, f"mixer {event.index}")
        self._check_apart(asked, of, f"mixer {event.index}")
        if known is not None and (event.query_sources or self._is_update(known, asked, out)):
            self._edge(event.index, known, asked, asks_of, of, added=known is not asked and not event.query_sources)
            self._sized(event, known, asked)
            return
        if known is None and any(bool((s.at(out) >= 0).any()) for s in self.streams):
            raise _of_several(event)
        if isinstance(event, Scan):
            raise MixingError(
                f"what the recurrence called at {event.place} makes is added to no tokens that were there: its matrix over all "
                "tokens would have to be whole, so there is no map; explain a model whose recurrences have a residual connection"
            )
        state = self._state(asked, of)
        if known is not None and self._is_earlier(known, asked, out, state):
            *others, to = self._fitting(out)  # the last has taken them in since, beside others
            if {s.index for s in others} <= self.graph.taken_in(to.index):
                self._edge(event.index, to, asked, (), of, added=True)
                self._sized(event, to, asked)
                return
        made = known or self._new(out, {}, asked)
        self._sized(event, made, asked)
        self._merged(event, made, asked, state)

    def _others(self, ids: Ids) -> Ids:
        """The tokens that these became, where they are others; else -1."""
        first = self.numbers.first(ids)
        return first.masked_fill(first == ids, NOTHING)

    def _is_earlier(self, known: PlacedStream, asked: PlacedStream, rows: Ids, state: State) -> bool:
        """Whether all these rows were made before, of the same tokens as they were in an earlier layer."""
        join = known.joins.get(asked.index)
        if join is None or not join.mixers or not join.state < state:
            return False
        mixers = [m for i in join.mixers if isinstance(m := self.tape.attentions[i], Mixer)]
        before = torch.cat([self.numbers.first(m.tokens_made) for m in mixers])
        return bool(torch.isin(all_of(rows), before).all())

    def _merged(self, event: Mixer | BlockAttention, made: PlacedStream, asked: PlacedStream, state: State) -> None:
        """Tokens of one stream become, by a mixer, tokens of another, which takes it in."""
        join = made.joins.setdefault(asked.index, AbsorbedStream(state))
        if join.state != state or (state and made.attentions and max(state) > min(made.attentions)):
            raise MixingError(
                f"mixer {event.index}, called at {event.place}, makes rows of tokens of which others, made of the same tokens in "
                "another layer, are a part: there is no one past of them, so there is no map"
            )
        join.mixers = (*join.mixers, event.index)
        self._of[event.index] = made.index

    def _is_update(self, known: PlacedStream, asked: PlacedStream, out: Ids) -> bool:
        """Whether rows ``out`` are added to tokens that were there before, not to others that are made beside them."""
        begun = self.numbers.made[int(self.numbers.space[int(out.max())])] != "mixer"
        return known is asked or begun or known.index in self.graph.reachable_from[asked.index]

    def _are_begun(self, ids: Ids) -> bool:
        """Whether all these are tokens with which an input begins, of no stream yet."""
        tokens = all_of(ids)
        apart = not any(bool((s.at(tokens) >= 0).any()) for s in self.streams)
        return apart and any(bool(own[tokens].all()) for own in self.of_leaves().values())

    def _sized(self, event: Mixer, made: PlacedStream, asked: PlacedStream) -> None:
        event.sizes, event.keys = (self.tape.batch, made.tokens, asked.tokens), asked.tokens
        event.rows = made.rows_of(self.numbers.first(event.ids))

    def _stream(self, ids: Ids, sources: Iterable[int], beside: bool = False) -> PlacedStream:
        found = self._find(ids, sources, beside)
        return found if found is not None else self._new(ids, self._states(sources))

    def _find(self, ids: Ids, sources: Iterable[int], beside: bool = False) -> PlacedStream | None:
        """The stream that has all these tokens and whose attentions are the latest among the sources.

        ``beside``: these are sources of other tokens, too.
        """
        states = self._states(sources)
        fits = self._fitting(ids)
        latest = max((max(state, default=-1) for state in states.values()), default=-1)
        scored = [(max(states.get(s.index, ()), default=-1), -s.index, s) for s in fits]
        if not scored:
            return None
        score, _, best = max(scored, key=lambda t: t[:2])
        begun = {x: join.state for x, join in best.joins.items() if not join.mixers}
        others = {x: state for x, state in states.items() if x != best.index and state}
        return best if beside or score == latest or not others or begun == others or best.joins else None

    def _only(self, ids: Ids) -> PlacedStream | None:
        """The stream that has all these tokens, where there is no other."""
        fits = self._fitting(ids)
        return fits[0] if len(fits) == 1 else None

    def _fitting(self, ids: Ids) -> list[PlacedStream]:
        """The streams that have all these tokens."""
        tokens = all_of(ids)
        return [s for s in self.streams if s.has(tokens)]

    def _new(self, ids: Ids, states: Mapping[int, State], of: PlacedStream | None = None) -> PlacedStream:
        """A stream of these tokens, which takes in those of others; ``of``: whose tokens a mixer makes them of."""
        order = self._ordered(ids)
        samples = self.numbers.of_sample(order)
        if bool((samples >= self.tape.batch).any()):
            raise UnfollowedAttentionError(
                "nothing in the model says of which sample each packed picture or sound is; explain the samples one by one"
            )
        per_sample = [order[samples == b] for b in range(self.tape.batch)]
        tokens = max(map(len, per_sample))
        numbers = torch.full((self.tape.batch, tokens), NOTHING)
        rows = torch.full((len(self.numbers.owner) + 1,), NOTHING)
        for b, own in enumerate(per_sample):
            numbers[b, : len(own)] = own
            rows[own] = b * tokens + torch.arange(len(own))
        stream = PlacedStream(len(self.graph.streams), tokens, numbers=numbers, rows=rows, first=self.numbers.first)
        for x, state in states.items() if of is None else [(of.index, frozenset[int]())]:
            other = self.streams[x]
            places = stream.places_of(other.numbers)
            made = any(join.mixers for join in other.joins.values())
            if (state or made or other is of) and bool((places >= 0).any()):
                stream.joins[x] = AbsorbedStream(state, places)
        self.graph.streams.append(stream)
        self._join_again(stream)
        self._leaves(stream)
        self._unite(stream)
        return stream

    def _unite(self, stream: PlacedStream) -> None:
        """Note the streams of which this one has tokens without having taken them in: they are one (attentions side by side)."""
        own = stream.numbers[stream.numbers >= 0]
        for x in stream.joins:
            joined = self.streams[x]
            if joined.leaves and joined.joins and not joined.attentions:  # to which others were added, and that is all
                self._together.append((joined.numbers[joined.numbers >= 0], own))
        for other in self.streams[:-1]:
            apart = not stream.joins and not other.joins and other.index not in self.graph.taken_in(stream.index)
            if apart and bool((other.rows_of(own) >= 0).any()):
                both = torch.cat([own, other.numbers[other.numbers >= 0]]).unique()
                self._together.append((both, both))

    def _join_again(self, stream: PlacedStream) -> None:
        """Where tokens of a stream were also made parts of others of its tokens, before it began, they are taken in as they were.

        UDOP adds patches to the words that lie on them; EdgeNeXt convolves a half of the features beside the other.
        """
        for x in self.graph.taken_in(stream.index) - stream.joins.keys():
            places = stream.places_of(self.streams[x].numbers)
            if bool((places >= 0).any()):
                stream.joins[x] = AbsorbedStream(frozenset(), places)

    def _ordered(self, ids: Ids) -> Ids:
        """All tokens of a new stream: as they stand in the rows of one attention over all of them, else as they began."""
        order = self._beside(all_of(ids))
        standing = ids[ids >= 0]
        return standing if ids.dim() == 2 and len(ids) <= self.tape.batch and len(standing) == len(order) else order

    def _beside(self, ids: Ids) -> Ids:
        """These tokens, and those that began together with them and are read too, in no stream yet: they are asked by a call
        of their own (windows, pictures that are packed)."""
        spaces = self.numbers.space[ids].unique()
        begun = torch.tensor([made != "mixer" for made in self.numbers.made])
        more = self._met[torch.isin(self.numbers.space[self._met], spaces[begun[spaces]])]
        more = torch.cat([more, *self._words_beside(ids)])
        for stream in self.streams:
            more = more[stream.rows_of(more) < 0]
        whole = (together for some, together in self._together if bool(torch.isin(ids, some).any()))
        return torch.cat([ids, more, *whole]).unique()

    def _words_beside(self, ids: Ids) -> Iterator[Ids]:
        """What is read of the words among which these tokens are, also of those that the model added."""
        for own in self.of_leaves().values():
            if bool(own[ids].any()):
                yield self._met[own[self._met]]

    def of_leaves(self) -> Mapping[int, Tensor]:
        """For each leaf which numbers are of its tokens."""
        if self._marked[0] != self.numbers.changes:
            marks = {leaf: torch.zeros(len(self.numbers.owner) + 1, dtype=torch.bool) for leaf in self.tape.leaf_ids}
            for leaf, own in marks.items():
                own[self.numbers.first(self.tape.leaf_ids[leaf])] = True
                own[NOTHING] = False
            self._marked = self.numbers.changes, marks
        return self._marked[1]

    def _leaves(self, stream: PlacedStream) -> None:
        taken = {i for x in stream.joins for i in self.graph.streams[x].leaves}
        stream.leaves |= {
            leaf for leaf, own in self.of_leaves().items() if leaf not in taken and bool(own[stream.numbers].any())
        }


def _of_several(event: Mixer) -> MixingError:
    return MixingError(
        f"what mixer {event.index}, called at {event.place}, makes is added to tokens of several streams"
    )


def _tokens(event: Attention) -> Iterator[Ids]:
    """The numbers that an attention or a mixer asks with, and asks."""
    if isinstance(event, BlockAttention):
        yield from (all_of(event.query_ids if event.row_ids is None else event.row_ids), all_of(event.key_ids))
    elif isinstance(event, Mixer):
        yield event.tokens_read


def _live(tape: PlacedTape, answers: Sequence[Tensor]) -> set[int]:
    """The attentions; the mixers of which one of them reads values; and those that add to tokens that the model returns.

    And those through which all tokens go on, one for one, until the model returns them.

    Args:
        tape: the recording.
        answers: all that the model returns.
    """
    numbers, live = tape.numbers, {a.index for a in tape.attentions if not isinstance(a, Mixer)}
    mixers = [a for a in tape.attentions if isinstance(a, Mixer)]
    returned = frozenset[int]().union(*(tape.tag(t).sources for t in answers))
    spaces = set[int]()
    if not live:
        spaces |= {int(s) for ids in tape.leaf_ids.values() for s in numbers.space[ids[ids >= 0]].unique()}
    for a in tape.attentions:
        if isinstance(a, BlockAttention):
            for ids in (_asking(numbers, a), a.key_ids):
                spaces |= _spaces(tape, ids)
    while True:
        out = read_through(tape, returned, live)
        read = tape.attentions_of(i for a in live for i in _read(tape, tape.attentions[a]))
        more = {
            m.index
            for m in mixers
            if m.index not in live and (m.index in read or (m.index in out and _spaces(tape, m.tokens_made) & spaces))
        }
        more = more or (_going_on(tape, answers, mixers, spaces) - live if live else set())
        if not more:
            return live
        live |= more
        spaces |= set[int]().union(*(_spaces(tape, m.tokens_read) for m in mixers if m.index in more))


def _going_on(tape: PlacedTape, answers: Sequence[Tensor], mixers: Sequence[Mixer], spaces: set[int]) -> set[int]:
    """The mixers by which tokens of these spaces become others, one after the other, which the model returns or pools.

    They are followed where some tokens are added to, or stand beside what became of them: which of these it read, no pooling
    tells. Else, and in what decodes rows of an attention's tokens, only where each becomes one that is returned: what
    convolutions mix before a pooling is read anyway.
    """
    attends = any(isinstance(a, BlockAttention) for a in tape.attentions)
    keep = {mixer.index for mixer in mixers if _keeps_number(tape, mixer)}
    found = set[int]()
    for ids, is_pooled in _read_in_the_end(tape, answers, mixers, keep):
        decodes = attends and not is_pooled
        makers: dict[int, list[Mixer]] = {}
        for mixer in mixers:
            if mixer.index in keep or (not decodes and len(mixer.tokens_made) > tape.batch):
                for space in _spaces(tape, mixer.tokens_made) - spaces:
                    makers.setdefault(space, []).append(mixer)
        seen, rest, chain = set[int](), _spaces(tape, ids) - spaces, list[Mixer]()
        while rest and rest <= makers.keys():
            seen |= rest
            more = [mixer for space in rest for mixer in makers[space]]
            chain += more
            rest = set[int]().union(*(_spaces(tape, mixer.tokens_read) for mixer in more)) - spaces - seen
        begins = any(_spaces(tape, m.tokens_read) & spaces for m in chain)  # a circle comes from none of these spaces
        adds = any(_adds(tape, mixer) or len(_spaces(tape, mixer.tokens_read)) > 1 for mixer in chain)
        alike = not is_pooled and all(mixer.index in keep for mixer in chain)
        if not rest and begins and (alike or (adds and not decodes)):
            found |= {mixer.index for mixer in chain}
    return found


def _read_in_the_end(
    tape: PlacedTape, answers: Sequence[Tensor], mixers: Sequence[Mixer], keep: set[int]
) -> Iterator[tuple[Ids, bool]]:
    """The companions of what the model returns, and of what is pooled for it; whether it is pooled.

    ``keep``: the mixers that make as many tokens as they read.
    """
    yield from ((ids, False) for t in answers if (ids := tape.ids(t)) is not None)
    read = tape.attentions_of(i for t in answers for i in tape.tag(t).sources)
    pools = (m for m in mixers if m.index in read and len(m.tokens_made) <= tape.batch)
    yield from ((m.asked, True) for m in pools if m.index not in keep)


def _adds(tape: PlacedTape, mixer: Mixer) -> bool:
    """Whether its rows became tokens that were there."""
    return bool((tape.numbers.first(mixer.tokens_made) != mixer.tokens_made).any())


def _keeps_number(tape: PlacedTape, mixer: Mixer) -> bool:
    """Whether it makes as many tokens as it reads."""
    made, read = (tape.numbers.first(ids).unique() for ids in (mixer.tokens_made, mixer.tokens_read))
    return len(made) == len(read)


def _asking(numbers: Numbers, event: BlockAttention) -> Ids:
    """The tokens that ask. Where a mixer made the queries, these are the tokens to which the output is added."""
    if event.row_ids is None:
        return event.query_ids
    if not event.renews and not event.parted and bool((numbers.first(event.row_ids) == event.row_ids).all()):
        numbers.joined(event.row_ids, event.query_ids)
    return event.row_ids


def _is_renewed(numbers: Numbers, event: BlockAttention) -> bool:
    """Whether its rows, which may be new tokens, were added to none."""
    if event.row_ids is None or not (event.renews or event.parted):
        return False
    alone = not event.parted or numbers.are_alone(event.row_ids)
    return alone and bool((numbers.first(event.row_ids) == event.row_ids).all())


def _read(tape: PlacedTape, event: Attention) -> frozenset[int]:
    """The sources of what it takes from tokens; what its queries are made of matters where they are the tokens that ask."""
    if not isinstance(event, BlockAttention) or event.row_ids is None:
        return event.value_sources
    rows, queries = tape.numbers.first(event.row_ids), tape.numbers.first(event.query_ids)
    return event.value_sources | (event.query_sources if torch.equal(rows, queries) else frozenset())


def read_through(tape: PlacedTape, sources: Collection[int], live: set[int]) -> set[int]:
    """The attentions and mixers among ``sources``, and those before mixers that are not followed (pooling before a head)."""
    return tape.attentions_of(_with_dropped(tape, sources, live))


def _with_dropped(tape: PlacedTape, sources: Collection[int], live: set[int]) -> set[int]:
    """``sources``, and those of the input of mixers that are not followed, of these and so on."""

    def before(index: int) -> frozenset[int]:
        source = tape.sources[index]
        is_dropped = source.kind == "attention" and source.attention not in live
        return tape.attentions[source.attention].value_sources if is_dropped else frozenset()

    return set(reached(sources, before))


def _spaces(tape: PlacedTape, ids: Ids) -> set[int]:
    first = tape.numbers.first(all_of(ids))
    return set(tape.numbers.space[first].unique().tolist())
