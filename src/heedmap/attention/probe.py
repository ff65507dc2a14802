"""The mixing probe: a proof that recorded attention is the only way by which tokens mix.

The model runs once with every attention output cut out of the graph. What is left, from attention outputs and leaves to
the next queries, keys and values, must work token by token. For each stream a random half of its rows gets a random
cotangent; pulled back, it must vanish, exactly, in all other rows of all earlier attention outputs and leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from heedmap.attention import returned, token_positions
from heedmap.attention.attention import RowTensor
from heedmap.attention.flow import Edge, Graph, State, Stream, build
from heedmap.attention.gradual import pulled
from heedmap.attention.graph import ancestors
from heedmap.attention.randomness import noises
from heedmap.attention.tags import Source
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan
from heedmap.attention.ways import Ways
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
        layout: for each stream, its segments: (ordinal of the leaf among the leaves, rows before it).
        static: whether every segment is one run of rows; else positions are traced anew in every run.
        writes_in_place: whether the model writes to attention outputs, or to what attention read.
        heads_first: see :class:`~heedmap.attention.tape.Tape`.
        ways: the code that ran.
        answered: some numbers of what the model returned.
    """

    graph: Graph
    static: bool
    writes_in_place: bool
    ways: Ways
    layout: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    heads_first: bool = False
    answered: Sequence[Tensor] = ()


def prove(tape: Tape, check: bool = True, output: Any = None) -> tuple[Verdict, dict[int, list[InputSpan]]]:
    """Check a cut recording; returns the verdict and each stream's segments. ``check=False`` only finds the segments.

    Args:
        tape: the recording.
        check: whether anything is to be proved.
        output: what the model returned.

    Raises:
        MixingError: tokens mix, change places, or cannot be traced; the message names the attention and its side.
    """
    graph = build(tape)
    positions = located(tape, graph, check)
    answers = [*returned.tensors_of(output), *tape.chosen_from()]
    if check:
        _check_entries(tape, graph, positions)
        apart = _check_rows(tape, graph, positions, answers)
        answers = [tensor for tensor in answers if id(tensor) not in apart]
    parts = {
        s.index: token_positions.parts(tape, token_positions.inherited(graph, s, positions)) for s in graph.streams
    }
    if check:
        returned.check(answers, partial(_reads, tape, graph, positions, parts), ADVICE, tape.batch, tape.turned)
    static = all(token_positions.is_static(p.positions) for ps in parts.values() for p in ps)
    static &= check and not any(s.joins for s in graph.streams) and not any(s.tower for s in tape.sources)
    writes = tape.written_in_place or tape.copies
    verdict = Verdict(graph, static, writes, tape.ways, heads_first=tape.heads_first)
    verdict.answered = returned.sampled(output)
    ordinals = {leaf: n for n, leaf in enumerate(i for i, s in enumerate(tape.sources) if s.kind == "leaf")}
    for index, spans in parts.items():
        end, verdict.layout[index] = 0, []
        for part in spans if verdict.static else []:
            start = int(part.positions[0, 0])
            verdict.static &= tape.sources[part.leaf].shape[-1] > 0 and _one_to_one(tape, part)
            verdict.layout[index].append((ordinals[part.leaf], start - end))
            end = start + part.positions.shape[1]
    return verdict, parts


def located(tape: Tape, graph: Graph, check: bool) -> dict[int, dict[int, Tensor]]:
    """For each stream, the rows that its own leaves' rows became; joins are traced too."""
    for stream in graph.streams:
        token_positions.trace_joins(tape, graph, stream)
    return {s.index: token_positions.trace(tape, graph, s, check) for s in graph.streams}


def _reads(
    tape: Tape,
    graph: Graph,
    positions: Mapping[int, dict[int, Tensor]],
    parts: Mapping[int, Sequence[InputSpan]],
    tensor: Tensor,
) -> Iterator[returned.Read]:
    """The streams that a tensor is computed from."""
    tag = tape.tag(tensor)
    for index, state in _states(tape, graph, tensor).items():
        last, *before = (
            returned.State(f"attention {a}", tape.attentions[a].out, tape.attentions[a].touched)
            for a in sorted(state, reverse=True)
        )
        tokens = graph.streams[index].tokens
        leaves = {**positions[index], **_again(tape, tag.sources, positions[index], tokens)}
        for leaf, rows in leaves.items():
            source, tensor_of = tape.sources[leaf], tape.sources[leaf].tensor
            if leaf in tag.sources and tensor_of is not None:
                touched = partial(_rows_of_leaf, source, rows, tokens)
                before.append(returned.State(f"the tokens of {source.name!r}", tensor_of, touched))
        beside = {
            f"{tape.sources[leaf].name!r} (shape {tape.sources[leaf].shape})": made
            for leaf in tag.sources - positions[index].keys()
            if _made_of(tape, leaf) & positions[index].keys() and (made := tape.sources[leaf].tensor) is not None
        }
        yield returned.Read([last], before, returned.orders(tokens, parts[index]), beside)


def _states(tape: Tape, graph: Graph, tensor: Tensor) -> dict[int, State]:
    """The streams of a tensor, and their states; none of weights, of matrices of two tokens each, of what is not followed."""
    tag = tape.tag(tensor)
    compares = any(product.query_sources and product.key_sources for product in tag.products)
    if compares or any(tape.sources[i].kind in ("unfollowed", "tower") for i in tag.sources):
        return {}
    try:
        states = graph.readouts(tag.sources)
    except MixingError:  # a target that reads this is refused
        return {}
    if tag.softmax and tensor.shape[-1] in {graph.streams[index].tokens for index in states}:
        return {}  # weights of tokens, which sum to one
    return states


def _again(tape: Tape, sources: frozenset[int], positions: Mapping[int, Tensor], tokens: int) -> Mapping[int, Tensor]:
    """Other features of a stream's inputs, one for each token, which are read beside it: taken to be row by row."""
    names = {tape.sources[leaf].name for leaf in positions}
    rows = torch.arange(tokens, device=tape.attentions[0].out.device).expand(tape.batch, -1)
    leaves = {i: tape.sources[i] for i in sources - positions.keys() if tape.sources[i].kind == "leaf"}
    alike = [i for i, s in leaves.items() if not s.spatial and s.shape[:2] == (tape.batch, tokens) and s.name in names]
    return dict.fromkeys(alike, rows)


def _made_of(tape: Tape, leaf: int) -> set[int]:
    """All sources that a leaf was made of."""
    found, rest = set[int](), {leaf}
    while rest:
        rest = {i for index in rest for i in tape.sources[index].made_of} - found
        found |= rest
    return found


def _rows_of_leaf(source: Source, positions: Tensor, tokens: int, gradient: Tensor) -> Tensor:
    """The rows of a stream which the rows of a leaf with a gradient became."""
    return token_positions.became(positions, token_positions.touched(source, gradient, len(positions)), tokens)


def _one_to_one(tape: Tape, part: InputSpan) -> bool:
    source = tape.sources[part.leaf]
    places = source.shape[2:] if source.spatial else source.shape[1:2]
    return torch.Size(places).numel() == part.positions.shape[1]


def _check_entries(tape: Tape, graph: Graph, positions: dict[int, dict[int, Tensor]]) -> None:
    for stream in graph.streams:
        if stream.leaves and not positions[stream.index]:
            names = sorted({tape.sources[i].name for i in stream.leaves})
            raise GradientError(
                f"no gradient passes from {', '.join(names)} to the first attention that reads it (weights or a gate of "
                f"zero, quantised weights, torch.no_grad or detach in the model, or queries that are not known): {ADVICE}"
            )


@dataclass(frozen=True)
class _Probe:
    """One side of one attention, or what is read after them all, and the stream and state whose rows it holds."""

    attention: int
    side: str
    stream: int
    state: State
    rows: RowTensor


def _probes(tape: Tape, edges: list[Edge]) -> list[_Probe]:
    probes = []
    for edge in edges:
        sides = tape.attentions[edge.attention].sides
        for side in ("queries", "keys", "values"):
            asks = side == "queries"
            stream, state = (edge.stream, edge.query_state) if asks else (edge.source, edge.value_state)
            if side in sides and sides[side].tensor.requires_grad:
                probes.append(_Probe(edge.attention, side, stream, state, sides[side]))
            elif side != "keys" and state:
                raise GradientError(
                    f"no gradient passes from the {side} of attention {edge.attention} to attention {max(state)} of "
                    f"the same stream (zero or quantised weights, torch.no_grad or detach in the model, or scores that are no "
                    f"product): {ADVICE}"
                )
    return probes


def _answering(
    tape: Tape, graph: Graph, positions: dict[int, dict[int, Tensor]], tensors: Iterable[Tensor], probes: list[_Probe]
) -> list[_Probe]:
    """Those of the tensors whose rows seem to be those of one stream, in a last state that no attention reads.

    Their rows are pulled together with what attention reads.
    """
    read, found = frozenset[int]().union(*(probe.state for probe in probes)), {}
    for tensor in tensors if not tape.turned else ():
        states = _states(tape, graph, tensor) if tensor.requires_grad and tensor.dim() == 3 else {}
        ((stream, state),) = states.items() if len(states) == 1 else ((-1, State()),)
        if not state or max(state) in read:
            continue
        tokens, sources = graph.streams[stream].tokens, tape.tag(tensor).sources
        is_known = all(i in positions[stream] for i in sources if tape.sources[i].kind == "leaf")
        if is_known and tensor.shape[:2] == (tape.batch, tokens) and tape.batch != tokens > 1:
            found[id(tensor)] = _Probe(-1, "rows", stream, state, RowTensor(tensor, 0, 1))
    return list(found.values())


def _are_read(tape: Tape, probes: list[_Probe]) -> bool:
    """Whether autograd has a way from what each attention reads to the state before it; what a model returns has its own."""
    by_state: dict[int, list[Tensor]] = {}
    for probe in probes:
        if probe.state and probe.side != "keys":
            by_state.setdefault(max(probe.state), []).append(probe.rows.tensor)
    return all(
        any(getattr(node, "variable", None) is tape.attentions[state].out for node in ancestors(*tensors))
        for state, tensors in by_state.items()
    )


def _check_rows(
    tape: Tape, graph: Graph, positions: dict[int, dict[int, Tensor]], answers: Iterable[Tensor]
) -> set[int]:
    """Check what attention reads; of ``answers``, the ids of those that were found to be row by row on the way."""
    probes = _probes(tape, graph.edges)
    if not probes:
        return set()
    check = _Check(tape, graph, {s: known | _late(tape, graph, s, known) for s, known in positions.items()})
    last = _answering(tape, graph, positions, answers, probes)
    if last and _are_read(tape, probes) and check.broken([*probes, *last]) is None:
        return {id(probe.rows.tensor) for probe in last}
    if check.broken(probes) is None:
        return set()
    for probe in probes:  # find where
        reason = check.broken([probe])
        if reason is not None:
            raise MixingError(f"the {probe.side} of attention {probe.attention} {reason}: {ADVICE}")
    raise MixingError(f"tokens {check.broken(probes)}: {ADVICE}")


def _late(tape: Tape, graph: Graph, stream: int, known: dict[int, Tensor]) -> dict[int, Tensor]:
    """Leaves that join a stream after its first attention (a mask, an embedding per layer), taken to be row by row."""
    late: dict[int, Tensor] = {}
    for edge in graph.edges:
        attention = tape.attentions[edge.attention]
        for side, sources in ((edge.stream, attention.query_sources), (edge.source, attention.value_sources)):
            for leaf in sources if side == stream else ():
                source, tokens = tape.sources[leaf], graph.streams[stream].tokens
                if source.kind != "leaf" or leaf in known or leaf in graph.all_leaves(stream) or leaf in late:
                    continue
                if source.tower:
                    start = (edge.attention, "queries" if sources is attention.query_sources else "values")
                    late[leaf] = _on_own_rows(tape, graph.streams[stream], start, leaf, known)
                    continue
                if source.spatial or source.shape[:2] != (tape.batch, tokens):
                    raise MixingError(
                        f"attention {edge.attention} also reads {source.name!r} by a convolution or pooling beside the "
                        f"attention before it, shape {source.shape}: {ADVICE}"
                    )
                device = attention.value.device
                late[leaf] = torch.arange(tokens, device=device).expand(tape.batch, -1)
    return late


def _on_own_rows(tape: Tape, stream: Stream, start: tuple[int, str], leaf: int, known: dict[int, Tensor]) -> Tensor:
    """Where more of a tower's features are added later; MixingError where that is not on the rows of its own tokens."""
    places, source = token_positions.trace_late(tape, stream, start, leaf), tape.sources[leaf]
    tower_rows = [rows for other, rows in known.items() if tape.sources[other].tower]
    for sample, late in enumerate(places):
        if (
            not tower_rows
            or not bool((late >= 0).all())
            or not bool(torch.isin(late, torch.cat(tower_rows, 1)[sample]).all())
        ):
            raise MixingError(
                f"attention {start[0]} also reads what was made of {source.name!r} beside the attention before it, on other "
                f"rows than those of its tokens: {ADVICE}"
            )
    return places


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
        tape, sides = self.tape, [probe.rows for probe in probes]
        misfit = next((probe for probe, side in zip(probes, sides, strict=True) if not self._fits(probe, side)), None)
        if misfit is not None:
            return f"have other rows than the {self.graph.streams[misfit.stream].tokens} tokens of their stream"
        noise = noises([probe.rows.tensor for probe in probes if probe.attention >= 0])
        cotangents = [
            partial(_vector, probe.rows, drawn, self.chosen[probe.stream])
            for probe, drawn in zip_longest(probes, noise)
        ]
        sources = [tape.sources[leaf] for _, leaf in self.leaves]
        ends = [a.out for a in tape.attentions] + [source.tensor for source in sources]
        touched = [a.touched for a in tape.attentions]
        touched += [partial(token_positions.touched, source, batch=tape.batch) for source in sources]
        rows = pulled([side.tensor for side in sides], cotangents, ends, touched)  # type: ignore[arg-type]
        wanted = {
            max(probe.state)
            for probe in probes
            if probe.state and probe.side != "keys" and bool(self.chosen[probe.stream].any())
        }
        count = len(tape.attentions)
        return self._outputs(rows[:count], wanted) or self._inputs(rows[count:])

    def _fits(self, probe: _Probe, side: Any) -> bool:
        tokens, rows = self.graph.streams[probe.stream].tokens, side.tensor.shape[side.row_axis]
        return bool(rows == tokens)

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
