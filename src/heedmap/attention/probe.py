"""The mixing probe: a proof that recorded attention is the only way by which tokens mix.

The model runs once with every attention output cut out of the graph. What is left, from attention outputs and leaves to
the next queries, keys and values, must work token by token. For each stream a random half of its rows gets a random
cotangent; pulled back, it must vanish, exactly, in all other rows of all earlier attention outputs and leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from heedmap.attention import returned, token_positions
from heedmap.attention.attention import RowTensor
from heedmap.attention.backward import ancestors, noises, pulled, reached
from heedmap.attention.fingerprint import Ways
from heedmap.attention.flow import Graph, State, Stream, build
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan, SegmentOrder, TokenRows
from heedmap.errors import GradientError, MixingError

ADVICE = (
    "a map would be wrong, by any method that works on attention, so there is none; explain a model whose tokens mix in "
    "softmax(q kᵀ) v only (or pass probe=False, at your own risk)"
)


@dataclass(eq=False)
class Verdict:
    """What the probe proved of a model and its input names and image sizes.

    Attributes:
        graph: the flow that was proved.
        order: of the segments, by which later runs lay them out; None: positions are traced anew in every run.
        writes_in_place: whether the model writes to attention outputs, or to what attention read.
        heads_first: see :class:`~heedmap.attention.tape.Tape`.
        ways: the code that ran.
        answered: some numbers of what the model returned.
    """

    graph: Graph
    order: SegmentOrder | None
    writes_in_place: bool
    heads_first: bool
    ways: Ways
    answered: Sequence[Tensor]


def prove(tape: Tape, check: bool, output: Any) -> Verdict:
    """Check a cut recording. ``check=False`` only finds where its segments are.

    Args:
        tape: the recording.
        check: whether anything is to be proved.
        output: what the model returned.

    Raises:
        MixingError: tokens mix, change places, or cannot be traced; the message names the attention and its side.
    """
    graph = build(tape)
    positions = token_positions.located(tape, graph, check)
    answers = [*returned.tensors_of(output), *tape.chosen_from()]
    parts = token_positions.parts(tape, graph, positions)
    if check:
        proof = _Proof(tape, graph, positions, parts)
        proof.check_entries()
        apart = proof.check_rows(answers)
        answers = [tensor for tensor in answers if id(tensor) not in apart]
        returned.check(answers, proof.reads, ADVICE, tape.batch, tape.turned)
    is_static = check and not any(s.joins for s in graph.streams) and not any(s.tower for s in tape.sources)
    order, writes = token_positions.order_of(tape, parts) if is_static else None, tape.written_in_place or tape.copies
    return Verdict(graph, order, writes, tape.heads_first, tape.ways, returned.sampled(output))


class _Proof:
    """A cut recording of which it is checked that tokens mix in no other way.

    Args:
        tape: the recording.
        graph: its flow.
        positions: see :func:`~heedmap.attention.token_positions.located`.
        parts: for each stream, its segments.
    """

    def __init__(
        self,
        tape: Tape,
        graph: Graph,
        positions: Mapping[int, dict[int, Tensor]],
        parts: Mapping[int, Sequence[InputSpan]],
    ) -> None:
        self.tape, self.graph, self.positions, self.parts = tape, graph, positions, parts

    def reads(self, tensor: Tensor) -> Iterator[returned.Read]:
        """The streams that a tensor is computed from."""
        sources, of_tensor = self.tape.sources, self.tape.tag(tensor).sources
        for index, state in self._states(tensor).items():
            attentions = [self.tape.attentions[a] for a in sorted(state, reverse=True)]
            last, *before = (TokenRows(f"attention {a.index}", a.out, a.touched) for a in attentions)
            positions, tokens = self.positions[index], self.graph.streams[index].tokens
            for leaf, rows in {**positions, **self._again(of_tensor, positions, tokens)}.items():
                tensor_of = sources[leaf].tensor
                if leaf in of_tensor and tensor_of is not None:
                    touched = partial(token_positions.became, sources[leaf], rows, tokens)
                    before.append(TokenRows(f"the tokens of {sources[leaf].name!r}", tensor_of, touched))
            beside = {
                f"{sources[leaf].name!r} (shape {sources[leaf].shape})": made
                for leaf in of_tensor - positions.keys()
                if self._made_of(leaf) & positions.keys() and (made := sources[leaf].tensor) is not None
            }
            yield returned.Read([last], before, returned.orders(tokens, self.parts[index]), beside)

    def _made_of(self, leaf: int) -> set[int]:
        """All sources that a leaf was made of."""
        sources = self.tape.sources
        return set(reached(sources[leaf].made_of, lambda source: sources[source].made_of))

    def _states(self, tensor: Tensor) -> dict[int, State]:
        """The streams of a tensor, and their states; none of weights, of matrices of two tokens each, of what is not followed."""
        tag = self.tape.tag(tensor)
        compares = any(product.query_sources and product.key_sources for product in tag.products)
        if compares or any(self.tape.sources[i].kind in ("unfollowed", "tower") for i in tag.sources):
            return {}
        try:
            states = self.graph.readouts(tag.sources)
        except MixingError:  # a target that reads this is refused
            return {}
        if tag.softmax and tensor.shape[-1] in {self.graph.streams[index].tokens for index in states}:
            return {}  # weights of tokens, which sum to one
        return states

    def _again(self, of: frozenset[int], positions: Mapping[int, Tensor], tokens: int) -> Mapping[int, Tensor]:
        """Other features of a stream's inputs, one for each token, which are read beside it: taken to be row by row."""
        sources, shape = self.tape.sources, (self.tape.batch, tokens)
        names = {sources[leaf].name for leaf in positions}
        leaves = {i: sources[i] for i in of - positions.keys() if sources[i].kind == "leaf"}
        alike = [i for i, s in leaves.items() if not s.spatial and s.shape[:2] == shape and s.name in names]
        return dict.fromkeys(alike, torch.arange(tokens, device=self.tape.attentions[0].out.device).expand(shape))

    def check_entries(self) -> None:
        """GradientError where no gradient leads from a stream to where it begins."""
        for stream in self.graph.streams:
            if stream.leaves and not self.positions[stream.index]:
                names = sorted({self.tape.sources[i].name for i in stream.leaves})
                raise GradientError(
                    f"no gradient passes from {', '.join(names)} to the first attention that reads it (weights or a gate of "
                    f"zero, quantised weights, torch.no_grad or detach in the model, or queries that are not known): {ADVICE}"
                )

    def check_rows(self, answers: Iterable[Tensor]) -> set[int]:
        """Check what attention reads; of ``answers``, the ids of those that were found to be row by row on the way."""
        probes = list(self._probes())
        if not probes:
            return set()
        known = {s: leaves | self._late(self.graph.streams[s], leaves) for s, leaves in self.positions.items()}
        check = _Check(self.tape, self.graph, known)
        last = self._answering(answers, probes)
        if last and self._are_read(probes) and check.broken([*probes, *last]) is None:
            return {id(probe.rows.tensor) for probe in last}
        if check.broken(probes) is None:
            return set()
        for probe in probes:  # find where
            reason = check.broken([probe])
            if reason is not None:
                raise MixingError(f"the {probe.side} of attention {probe.attention} {reason}: {ADVICE}")
        raise MixingError(f"tokens {check.broken(probes)}: {ADVICE}")

    def _probes(self) -> Iterator[_Probe]:
        for edge in self.graph.edges:
            sides = self.tape.attentions[edge.attention].sides
            for side in ("queries", "keys", "values"):
                asks = side == "queries"
                stream, state = (edge.stream, edge.query_state) if asks else (edge.source, edge.value_state)
                if side in sides and sides[side].tensor.requires_grad:
                    yield _Probe(edge.attention, side, stream, state, sides[side])
                elif side != "keys" and state:
                    raise GradientError(
                        f"no gradient passes from the {side} of attention {edge.attention} to attention {max(state)} of "
                        f"the same stream (zero or quantised weights, torch.no_grad or detach in the model, or scores that "
                        f"are no product): {ADVICE}"
                    )

    def _answering(self, tensors: Iterable[Tensor], probes: Sequence[_Probe]) -> list[_Probe]:
        """Those of the tensors whose rows seem to be those of one stream, in a last state that no attention reads.

        Their rows are pulled together with what attention reads.
        """
        batch, read, found = self.tape.batch, frozenset[int]().union(*(probe.state for probe in probes)), {}
        for tensor in tensors if not self.tape.turned else ():
            states = self._states(tensor) if tensor.requires_grad and tensor.dim() == 3 else {}
            ((stream, state),) = states.items() if len(states) == 1 else ((-1, State()),)
            if not state or max(state) in read:
                continue
            tokens, sources = self.graph.streams[stream].tokens, self.tape.tag(tensor).sources
            is_known = all(i in self.positions[stream] for i in sources if self.tape.sources[i].kind == "leaf")
            if is_known and tensor.shape[:2] == (batch, tokens) and batch != tokens > 1:
                found[id(tensor)] = _Probe(-1, "rows", stream, state, RowTensor(tensor, 0, 1))
        return list(found.values())

    def _are_read(self, probes: Sequence[_Probe]) -> bool:
        """Whether autograd has a way from what each attention reads to the state before it; what a model returns has its own."""
        by_state: dict[int, list[Tensor]] = {}
        for probe in probes:
            if probe.state and probe.side != "keys":
                by_state.setdefault(max(probe.state), []).append(probe.rows.tensor)
        return all(
            any(getattr(node, "variable", None) is self.tape.attentions[state].out for node in ancestors(*tensors))
            for state, tensors in by_state.items()
        )

    def _late(self, stream: Stream, known: dict[int, Tensor]) -> dict[int, Tensor]:
        """Leaves that join a stream after its first attention (a mask, an embedding per layer), taken to be row by row."""
        late: dict[int, Tensor] = {}
        shape, begun = (self.tape.batch, stream.tokens), self.graph.all_leaves(stream.index)
        for edge in self.graph.edges:
            attention = self.tape.attentions[edge.attention]
            sides = ("queries", edge.stream, attention.query_sources), ("values", edge.source, attention.value_sources)
            for side, leaf in [(side, i) for side, index, of in sides if index == stream.index for i in of]:
                source = self.tape.sources[leaf]
                if source.kind != "leaf" or leaf in known or leaf in begun or leaf in late:
                    continue
                if source.tower:
                    late[leaf] = self._on_own_rows(stream, (edge.attention, side), leaf, known)
                elif source.spatial or source.shape[:2] != shape:
                    raise MixingError(
                        f"attention {edge.attention} also reads {source.name!r} by a convolution or pooling beside the "
                        f"attention before it, shape {source.shape}: {ADVICE}"
                    )
                else:
                    late[leaf] = torch.arange(stream.tokens, device=attention.value.device).expand(shape)
        return late

    def _on_own_rows(self, stream: Stream, start: tuple[int, str], leaf: int, known: dict[int, Tensor]) -> Tensor:
        """Where more of a tower's features are added later; MixingError where that is not on the rows of its own tokens."""
        places = token_positions.trace_late(self.tape, stream, start, leaf)
        of_towers = [rows for other, rows in known.items() if self.tape.sources[other].tower]
        for late, rows in zip(places, torch.cat(of_towers, 1) if of_towers else places[:, :0], strict=True):
            if not bool((late >= 0).all()) or not bool(torch.isin(late, rows).all()):
                raise MixingError(
                    f"attention {start[0]} also reads what was made of {self.tape.sources[leaf].name!r} beside the attention "
                    f"before it, on other rows than those of its tokens: {ADVICE}"
                )
        return places


@dataclass(frozen=True)
class _Probe:
    """One side of one attention, or what is read after them all, and the stream and state whose rows it holds."""

    attention: int
    side: str
    stream: int
    state: State
    rows: RowTensor


class _Check:
    """Pulls half of the rows of each stream back to all attention outputs and leaves before."""

    def __init__(self, tape: Tape, graph: Graph, positions: dict[int, dict[int, Tensor]]) -> None:
        self.tape, self.graph, self.positions = tape, graph, positions
        device = tape.attentions[0].out.device
        self.chosen = _halves(graph, tape.batch, device)
        self.leaves = [(s, leaf) for s, rows in positions.items() for leaf in rows]

    def broken(self, probes: list[_Probe]) -> str | None:
        """What is wrong, or None. Both halves are pulled: what one token gives to all others shows in one of them."""
        reason = self._broken(probes)
        if reason is None:
            self.chosen = [~chosen for chosen in self.chosen]
            reason = self._broken(probes)
        return reason

    def _broken(self, probes: list[_Probe]) -> str | None:
        for probe in probes:
            tokens = self.graph.streams[probe.stream].tokens
            if probe.rows.tensor.shape[probe.rows.row_axis] != tokens:
                return f"have other rows than the {tokens} tokens of their stream"
        noise = noises([probe.rows.tensor for probe in probes if probe.attention >= 0])
        cotangents = [
            partial(_vector, probe.rows, drawn, self.chosen[probe.stream])
            for probe, drawn in zip_longest(probes, noise)
        ]
        attentions, sources = self.tape.attentions, [self.tape.sources[leaf] for _, leaf in self.leaves]
        ends = [a.out for a in attentions] + [source.tensor for source in sources]
        touched = [a.touched for a in attentions] + [source.touched for source in sources]
        rows = pulled([probe.rows.tensor for probe in probes], cotangents, ends, touched)  # type: ignore[arg-type]
        wanted = {
            max(probe.state)
            for probe in probes
            if probe.state and probe.side != "keys" and bool(self.chosen[probe.stream].any())
        }
        return self._outputs(rows[: len(attentions)], wanted) or self._inputs(rows[len(attentions) :])

    def _outputs(self, touched: list[Tensor | None], wanted: set[int]) -> str | None:
        for attention, rows in zip(self.tape.attentions, touched, strict=True):
            chosen = self.chosen[self.graph.edges[attention.index].stream]
            if rows is None:
                if attention.index in wanted:
                    return _unread(attention.index)
                continue
            if bool((rows & ~chosen).any()):
                row = int((rows & ~chosen)[0].int().argmax())
                return (
                    f"depend on other tokens' output of attention {attention.index} (token {row} leaks), outside of recorded "
                    "attention: tokens mix or change places there"
                )
            if attention.index in wanted and not bool((rows & chosen).any()):
                return _unread(attention.index)
        return None

    def _inputs(self, touched: list[Tensor | None]) -> str | None:
        for (stream, leaf), rows in zip(self.leaves, touched, strict=True):
            if rows is None:
                continue
            source, positions = self.tape.sources[leaf], self.positions[stream][leaf]
            allowed = self.chosen[stream].gather(1, positions.clamp(min=0)) & (positions >= 0)
            if bool((rows & ~allowed).any()):
                row = int((rows & ~allowed)[0].int().argmax())
                return (
                    f"depend on other tokens of {source.name!r} (token {row} leaks), outside of recorded attention: "
                    "tokens mix or change places there"
                )
        return None


def _vector(side: RowTensor, noise: Tensor | None, chosen: Tensor) -> Tensor:
    """Noise in the rows that are chosen; drawn where none is given, as what a model returns may be by far the largest."""
    return token_positions.masked(side, torch.randn_like(side.tensor) if noise is None else noise, chosen)


def _unread(attention: int) -> str:
    return (
        f"have no gradient to attention {attention}, which they should have read (weights or a gate of zero behind it, "
        "torch.no_grad or detach in the model)"
    )


def _halves(graph: Graph, batch: int, device: torch.device) -> list[Tensor]:
    """For each stream a random half of the rows of each sample, (batch, tokens); the same half where it took others in."""
    halves: list[Tensor] = []
    for stream in graph.streams:
        chosen = torch.rand(batch, stream.tokens, device=device).argsort(-1) < max(1, stream.tokens // 2)
        for other, join in stream.joins.items():
            assert join.places is not None
            index, token = (join.places >= 0).nonzero(as_tuple=True)
            chosen[index, join.places[index, token]] = halves[other][index, token]
        halves.append(chosen)
    return halves


# -- what is asked before a proof: whether it may take what it needs --------------------------------------------------

Question = Callable[[Tape, Any], None]
_ASKED: ContextVar[Question | None] = ContextVar("before a proof", default=None)


@contextmanager
def asking(question: Question | None) -> Iterator[None]:
    """Within it, ``question`` is given the recording and the output of each pass that a proof is to be made on; it may raise."""
    token = _ASKED.set(question)
    try:
        yield
    finally:
        _ASKED.reset(token)


def ask(tape: Tape, output: Any) -> None:
    """To be called before a proof."""
    question = _ASKED.get()
    if question is not None:
        question(tape, output)
