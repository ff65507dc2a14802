"""Which rows of which streams the target reads: those that answer to it by a way that passes through no attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.flow import State, Stream
from heedmap.attention.forward import Recording
from heedmap.attention.returned import State as Before
from heedmap.attention.token_positions import InputSpan, became, touched
from heedmap.errors import MixingError

Rows = Bool[Tensor, "batch tokens"]


def rows_read(
    recording: Recording, states: Mapping[int, State], leaves: set[int], values: Tensor
) -> dict[int, tuple[State, Rows]]:
    """For each stream that the target reads, its state and the rows that are read.

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
        rows = became(part.rows, touched(tape.sources[leaf], next(direct), tape.batch), stream.tokens)
        read[stream.index] = frozenset(), rows | read[stream.index][1] if stream.index in read else rows
    return {stream: (state, rows) for stream, (state, rows) in read.items() if bool(rows.any())}


def _check_beside(found: Before, gradient: Tensor, last: Attention, read: Rows) -> None:
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
    steps = _reached(target, given)
    reached = [i for i, tensor in enumerate(tensors) if _step(tensor) in steps]
    if not reached:
        return gradients
    hooks = [tensors[i].register_hook(partial(gradients.__setitem__, i)) for i in reached]
    hooks += [
        tensor.register_hook(lambda g: None if g is None else torch.zeros_like(g))
        for tensor in given
        if tensor.requires_grad
    ]
    try:
        torch.autograd.grad(target, [tensors[i] for i in reached], retain_graph=True, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return gradients


Step = tuple[Any, int]
"""A step of the graph, and which of its results."""


def _step(tensor: Tensor) -> Step:
    """The step of the graph that made a tensor."""
    return torch.autograd.graph.get_gradient_edge(tensor)[:2]


def _reached(target: Tensor, given: Sequence[Tensor]) -> set[Step]:
    """The steps of which the target is made without passing through what is given, with those that made that."""
    ends = {_step(tensor) for tensor in given if tensor.requires_grad}
    found, rest = set[Step](), [_step(target)]
    while rest:
        step = rest.pop()
        if step not in found:
            found.add(step)
            rest += [] if step in ends else [after for after in step[0].next_functions if after[0] is not None]
    return found
