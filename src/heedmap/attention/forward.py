"""One recorded forward pass of an unmodified model, what the mixing probe says of it, and which rows of it a target reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from heedmap.attention import token_positions
from heedmap.attention.at_rest import answering, seed
from heedmap.attention.attention import Attention
from heedmap.attention.backward import reached
from heedmap.attention.beginnings import Steps
from heedmap.attention.fingerprint import key_of, proved
from heedmap.attention.flow import Graph, State, Stream, build, verify_same
from heedmap.attention.inputs import called, check_no_cache, check_required, contents, detached, misfit, put_back
from heedmap.attention.places import told
from heedmap.attention.probe import Verdict, ask, prove
from heedmap.attention.returned import Rows, check_same
from heedmap.attention.tape import Tape
from heedmap.attention.token_positions import InputSpan, TokenRows, became
from heedmap.common.memory import ran_out
from heedmap.errors import (
    AttentionError,
    GradientError,
    HeedmapError,
    InputError,
    MixingError,
    NoAttentionError,
    UnfollowedAttentionError,
)


@dataclass(eq=False)
class Recording:
    """A recorded forward pass.

    Attributes:
        tape: attentions and sources.
        graph: streams and edges.
        parts: for each stream, its segments.
        output: of the model, attached to the graph.
        inputs: what the model was called with.
        live: the attentions and mixers that are part of the graph; None: all.
        followed: sources of a tensor → the same, without mixers that are not part of the graph, but what these read.
        before: a stream and a state of it → its rows before that; none where the proof knows of these.
    """

    tape: Tape
    graph: Graph
    parts: dict[int, list[InputSpan]]
    output: Any
    inputs: Mapping[str, Any]
    live: frozenset[int] | None = None
    followed: Callable[[frozenset[int]], frozenset[int]] = lambda sources: sources
    before: Callable[[int, State], Sequence[TokenRows]] = lambda stream, state: ()

    @property
    def mixers(self) -> list[Attention]:
        """What mixes tokens in it and is no softmax attention, also where it is only read by what asks or weighs."""
        tape = self.tape
        events = [] if self.live is None else [tape.attentions[i] for i in sorted(self.live)]
        read = {tape.sources[i].attention for event in events for i in event.query_sources | event.value_sources}
        makes = {i for stream in self.graph.streams for join in stream.joins.values() for i in join.mixers}
        mixing = [a for a in tape.attentions if a.mixes or a.form == "linear" or a.index in makes]
        return [a for a in mixing if a in events or a.index in read]


def output_of(model: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What the model answers, as it does when it is explained: in eval mode; it is left as it was found. No gradient."""
    with answering(model):
        return called(model, detached(inputs))


def record(
    model: nn.Module,
    inputs: Mapping[str, Any],
    batch: int,
    check: bool = True,
    known: dict[Any, Any] | None = None,
    hasty: bool = False,
) -> Recording:
    """Run the model once under the recorder; the first time, for this kind of input, also under the mixing probe.

    What was proved is kept for as long as nothing that could decide where tokens are has changed (see
    :mod:`heedmap.attention.fingerprint`). Where they are, and that no other code runs, is checked in every run.

    To be called within :func:`~heedmap.attention.at_rest.recording_state`.

    Args:
        model: the module.
        inputs: what it is called with.
        batch: its batch size.
        check: whether it is to be proved that tokens mix nowhere else.
        known: see :func:`~heedmap.attention.fingerprint.proved`, of the model as it now is; None: it is looked up.
        hasty: see :class:`~heedmap.attention.tape.Tape`; of a run that is to prove.

    Raises:
        AttentionError: see its subclasses.
        InputError: the model's forward refuses the inputs.
    """
    check_no_cache(inputs)
    known = proved(model) if known is None else known
    key = key_of(inputs, batch, check)
    before: Verdict | None = known.get(key)
    if before is not None:
        try:
            return _recorded(model, inputs, batch, before, again=True)
        except _Different:
            pass
    if ("refused", key) in known:
        kind, reason = known["refused", key]
        raise kind(reason)
    try:
        verdict = _probe(model, inputs, batch, check, hasty)
    except (UnfollowedAttentionError, NoAttentionError) as error:
        if type(error) in (UnfollowedAttentionError, NoAttentionError):  # of the model alone, whatever the input holds
            known["refused", key] = (type(error), str(error))
        raise
    try:
        recording = _recorded(model, inputs, batch, verdict)
    except _Moved:  # half precision was too coarse for the quick check
        verdict.order = None
        recording = _recorded(model, inputs, batch, verdict)
    except _Different as error:
        raise AttentionError(str(error)) from error
    check_same(verdict.answered, recording.output)
    verdict.ways.also(recording.tape.ways)
    if before is not None:
        verdict.ways.also(before.ways)
    known[key] = verdict
    return recording


def to_prove(model: nn.Module, inputs: Mapping[str, Any], batch: int) -> tuple[Tape, Any] | None:
    """The pass that is proved, and its output; None where there is a proof."""
    if key_of(inputs, batch, True) in proved(model):
        return None
    tape = Tape(batch, cut=True)
    return tape, call(model, inputs, tape)


class _Different(AttentionError):
    """This run is not like the verified one."""


class _Moved(_Different):
    """Tokens are not where they were."""


def _probe(model: nn.Module, inputs: Mapping[str, Any], batch: int, check: bool, hasty: bool) -> Verdict:
    """The verdict; where heads are folded into the batch, (batch · heads, …) is tried first, then (heads · batch, …)."""
    tape = Tape(batch, cut=True, hasty=hasty)
    try:
        return _proved(model, inputs, tape, check)
    except MixingError:
        if batch == 1 or not any(a.out.dim() == 3 for a in tape.attentions):
            raise
        try:
            return _proved(model, inputs, Tape(batch, cut=True, heads_first=True), check)
        except AttentionError:
            pass
        raise


def _proved(model: nn.Module, inputs: Mapping[str, Any], tape: Tape, check: bool) -> Verdict:
    output = call(model, inputs, tape, noted=True)
    if tape.overwritten is not None:
        tape = Tape(tape.batch, cut=True, copies=True, heads_first=tape.heads_first, hasty=tape.hasty)
        output = call(model, inputs, tape, noted=True)
        tape.check_kept()
    if check:
        ask(tape, output)
    with told(tape.attentions):
        verdict = prove(tape, check, output)
    for source in tape.sources:  # the verdict outlives the run; its tensors need not
        source.tensor = None
    return verdict


def _recorded(
    model: nn.Module, inputs: Mapping[str, Any], batch: int, verdict: Verdict, again: bool = False
) -> Recording:
    """A run like the verified one; ``again`` where the verdict is of an earlier call."""
    writes = verdict.writes_in_place
    last = 1 + max((edge.attention for edge in verdict.graph.edges), default=-1)
    tape = Tape(batch, leaves=True, clone=writes, copies=writes, heads_first=verdict.heads_first, last=last)
    output = call(model, inputs, tape, noted=True)
    if again and not tape.ways.known(verdict.ways):
        raise _Different("the model ran code that had not run when it was verified")
    if tape.overwritten is not None and not writes:
        verdict.writes_in_place = True
        return _recorded(model, inputs, batch, verdict, again)
    tape.check_kept()
    graph = build(tape)
    try:
        verify_same(verdict.graph, graph)
        parts = token_positions.laid_out(tape, graph, verdict.order or {})
    except AttentionError as error:
        raise _Different(str(error)) from error
    if verdict.order is not None:
        for stream in graph.streams:
            if not token_positions.confirmed(tape, graph, stream, parts.get(stream.index, [])):
                raise _Moved(f"tokens of stream {stream.index} are not where they were when the model was verified")
    else:
        parts = token_positions.parts(tape, graph, token_positions.located(tape, graph, check=False))
    for attention in tape.attentions:
        attention.sides = {}
    return Recording(tape, graph, parts, output, inputs)


def call(model: nn.Module, inputs: Mapping[str, Any], tape: Tape, noted: bool = False) -> Any:
    """The model's output under the recorder, from the fixed seed; ``noted``: whether the recorder keeps the ways of the run.

    Raises:
        InputError: ``forward`` lacks an input, or refuses those it was given, also without the recorder.
    """
    if not tape.given:  # else the pass before was called with the same
        check_required(model, inputs)
    seed()
    given = detached(inputs)
    tape.towers, tape.steps = getattr(inputs, "towers", frozenset()), Steps(getattr(inputs, "ends", frozenset()))
    turned: frozenset[str] = getattr(inputs, "turned", frozenset())
    tape.turned = bool(turned)
    for name in contents(inputs):
        given[name] = tape.watch(name, given[name])
    try:
        with tape, tape.ways if noted else nullcontext():
            output = called(model, put_back(given, turned))
        exact = any(attention.dtype == torch.float64 for attention in tape.attentions)
        for attention in tape.attentions:
            attention.exact = exact
        return output
    except (IndexError, RuntimeError) as error:
        known = isinstance(error, HeedmapError) or ran_out(error)
        reason = None if known else misfit(model, inputs)
        if reason is None and "leaf Variable" in str(error):
            raise GradientError(
                "the model writes in place to what an operation without a gradient made (a quantised kernel whose weights are "
                f"packed after its first run?), so no gradient could pass; load the model anew, and explain it first: {error}"
            ) from error
        if reason is None:
            raise
        raise InputError(f"{type(model).__name__} failed: {reason} ({error})") from error
    except (TypeError, ValueError, AttributeError, AssertionError, KeyError) as error:
        if not _refuses(model, inputs, turned):
            raise
        shapes = ", ".join(f"{k} {tuple(v.shape)}" if isinstance(v, Tensor) else k for k, v in inputs.items())
        raise InputError(f"{type(model).__name__} refused the inputs ({shapes}): {error!r}") from error


def _refuses(model: nn.Module, inputs: Mapping[str, Any], turned: frozenset[str]) -> bool:
    """Whether the model fails on the inputs by itself; what fails under the recorder alone is a mistake of heedmap's."""
    seed()
    try:
        with torch.no_grad():
            model(**put_back(detached(inputs), turned))
    except Exception:
        return True
    return False


def rows_read(
    recording: Recording, states: Mapping[int, State], leaves: set[int], values: Tensor
) -> dict[int, tuple[State, Rows]]:
    """For each stream that the target reads, its state and the rows that are read.

    These are the rows that answer to it by a way that passes through no attention.

    Args:
        recording: of the model, with the graph from the leaves to the output.
        states: of the streams whose attentions the target was computed from.
        leaves: read beside these streams: streams that begin there are read as they were before any attention.
        values: the target, (batch,); its graph is kept.
    """
    tape, live = recording.tape, recording.live
    streams = recording.graph.streams
    ends = {s: ends_of(tape.attentions, streams[s], state, live is not None) for s, state in states.items()}
    followed = [a for a in tape.attentions if live is None or a.index in live]
    begun = _begun(recording, leaves)
    starts = [tensor for leaf in begun if (tensor := tape.sources[leaf].tensor) is not None]
    before = {s: recording.before(s, state) for s, state in states.items()}
    earlier = [found.tensor for several in before.values() for found in several]
    outs = [a.out for several in ends.values() for a in several]
    given = [a.out for a in followed] + getattr(tape, "as_given", [])
    direct = iter(_direct(given, values, [*outs, *earlier, *starts]))
    read = {
        stream: (states[stream], _rows(several, [next(direct) for _ in several])) for stream, several in ends.items()
    }
    for number, several in before.items():
        for found in several:
            _check_beside(found, next(direct), ends[number][0], read[number][1])
    for leaf, (stream, part) in begun.items():
        assert tape.sources[leaf].shape[0] == tape.batch
        rows = became(tape.sources[leaf], part.rows, stream.tokens, next(direct))
        read[stream.index] = frozenset(), rows | read[stream.index][1] if stream.index in read else rows
    return {stream: (state, rows) for stream, (state, rows) in read.items() if bool(rows.any())}


def _check_beside(found: TokenRows, gradient: Tensor, last: Attention, read: Rows) -> None:
    """MixingError where rows are read as they were before, and not as they became."""
    if bool((found.touched(gradient) & ~read).any()):
        raise MixingError(
            f"the target reads rows of {found.name} beside what became of them in attention {last.index}, called at "
            f"{last.place}: a map of these would leave the others out, so there is none"
        )


def ends_of(attentions: Sequence[Attention], stream: Stream, state: State, in_parts: bool) -> list[Attention]:
    """The last attention of a state; where it makes some rows only, also those before it, until all rows are made.

    Before any attention, the mixers that made the stream.
    """
    if not state:
        return [attentions[mixer] for join in stream.joins.values() for mixer in join.mixers]
    last, *before = (attentions[index] for index in sorted(state, reverse=True))
    ends, made = [last], last.touched(torch.ones_like(last.out))
    for attention in before if in_parts else []:
        if bool(made.all()):
            break
        ends.append(attention)
        made = made | attention.touched(torch.ones_like(attention.out))
    return ends


def _rows(ends: Sequence[Attention], gradients: Sequence[Tensor]) -> Rows:
    """The rows that are read, each by the last attention that makes it."""
    read, made = (torch.zeros_like(ends[0].touched(gradients[0])) for _ in range(2))
    for attention, gradient in zip(ends, gradients, strict=True):
        read = read | attention.touched(gradient) & ~made
        made = made | attention.touched(torch.ones_like(gradient))
    return read


def rows_of_one(states: Mapping[int, State], gradients: Mapping[int, Tensor]) -> dict[int, tuple[State, Rows]]:
    """As :func:`rows_read` where one stream alone is read: from its last attention no way leads through another.

    Args:
        states: of that stream.
        gradients: ∂y/∂o by attention, (batch, heads, queries, features); nothing where there is none.
    """
    ((stream, state),) = states.items()
    gradient = gradients.get(max(state))
    rows = None if gradient is None else (gradient != 0).any(-1).any(1)
    return {} if rows is None or not bool(rows.any()) else {stream: (state, rows)}


def _begun(recording: Recording, leaves: set[int]) -> dict[int, tuple[Stream, InputSpan]]:
    """For each leaf that has tokens, the first stream that begins there, and its segment."""
    begun: dict[int, tuple[Stream, InputSpan]] = {}
    for stream in recording.graph.streams:
        for part in recording.parts.get(stream.index, []):
            if part.leaf in leaves & stream.leaves:
                begun.setdefault(part.leaf, (stream, part))
    return begun


def _direct(given: Sequence[Tensor], values: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """∂y/∂x of each tensor, by the ways from it to the target that pass through nothing that is given: no attention."""
    gradients = [torch.zeros_like(tensor) for tensor in tensors]
    target = values.sum()
    ends = {_step(tensor) for tensor in given if tensor.requires_grad}

    def before(step: GraphStep) -> list[GraphStep]:
        return [] if step in ends else [made_of for made_of in step[0].next_functions if made_of[0] is not None]

    steps = set(reached([_step(target)], before))
    asked = [i for i, tensor in enumerate(tensors) if _step(tensor) in steps]
    if not asked:
        return gradients
    with ExitStack() as hooks:
        for i in asked:
            hooks.enter_context(tensors[i].register_hook(partial(gradients.__setitem__, i)))
        for tensor in given:
            if tensor.requires_grad:
                hooks.enter_context(tensor.register_hook(lambda g: None if g is None else torch.zeros_like(g)))
        torch.autograd.grad(target, [tensors[i] for i in asked], retain_graph=True, allow_unused=True)
    return gradients


GraphStep = tuple[Any, int]
"""A step of the graph, and which of its results."""


def _step(tensor: Tensor) -> GraphStep:
    """The step of the graph that made a tensor."""
    return torch.autograd.graph.get_gradient_edge(tensor)[:2]
