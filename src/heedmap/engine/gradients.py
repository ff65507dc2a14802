"""What a recording and a target give a method: the gradient at each attention's output, and the rows that the target reads.

A backward pass gives the gradients of one target; of small models, where most of its time is not arithmetic, those of several at
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from heedmap.attention.attention import Attention
from heedmap.attention.flow import State
from heedmap.attention.forward import Recording, rows_of_one, rows_read
from heedmap.attention.places import not_finite
from heedmap.attention.returned import Rows
from heedmap.attention.scans import Scan
from heedmap.common.memory import ran_out
from heedmap.engine.narrow import tensors_of
from heedmap.errors import GradientError, TargetError
from heedmap.methods.method import Readout

NO_ATTENTION = "the target depends on no attention; choose one that is computed from the model's output"
NO_GRADIENT = (
    "no gradient flows from the target to the attention: weights are quantised without gradients, or the model or the target "
    "runs under torch.no_grad, detaches, or rounds (argmax); explain a floating-point model"
)

SMALL = 2**16
"""So many numbers attentions and the model give at most, where a batched backward pass was measured to be faster."""


class Pulled(NamedTuple):
    """Of one target.

    Attributes:
        gradients: ∂y/∂o by attention, (batch, heads, queries, features); absent where the target does not depend on it.
        readouts: by stream, what the target reads directly.
    """

    gradients: dict[int, Tensor]
    readouts: dict[int, Readout]


def pulled(recording: Recording, sources: frozenset[int], values: Sequence[Tensor], keep: bool) -> list[Pulled]:
    """The gradients of targets at the attention outputs, and the rows that they read of each stream.

    Args:
        recording: of the model.
        sources: what all the targets were computed from.
        values: of each target, (batch,).
        keep: whether the graph is needed afterwards.

    Raises:
        TargetError: one depends on no attention.
        GradientError: no gradient passes, it is not finite, or it is zero for a sample.
    """
    tape, graph = recording.tape, recording.graph
    states = graph.readouts(sources)
    if not states:
        raise TargetError(NO_ATTENTION)
    if not all(of_target.requires_grad for of_target in values):
        raise GradientError(NO_GRADIENT)
    beside = graph.read_beside(sources)
    several = len(states) > 1 or bool(beside) or recording.live is not None
    rows = [rows_read(recording, states, beside, of_target) if several else None for of_target in values]
    followed = [a for a in tape.attentions if recording.live is None or a.index in recording.live]
    keep = keep or any(isinstance(a, Scan) for a in followed)  # its rows are taken from the graph
    together = len(values) > 1 and is_small(recording)
    gradients = (_batched if together else _one_by_one)(followed, values, keep)
    dtype = tape.attentions[0].dtype
    return [
        Pulled(of_target, mean_readouts(rows_of_one(states, of_target) if read is None else read, dtype))
        for of_target, read in zip(gradients, rows, strict=True)
    ]


def is_small(recording: Recording) -> bool:
    """Whether a batched backward pass is faster than one for each target."""
    tensors = [*(a.out for a in recording.tape.attentions), *tensors_of(recording.output)]
    return recording.live is None and max(tensor.numel() for tensor in tensors) <= SMALL


def _one_by_one(attentions: Sequence[Attention], values: Sequence[Tensor], keep: bool) -> list[dict[int, Tensor]]:
    """∂y/∂o of each target; a backward pass each, to the attention outputs only."""
    outs = [a.out for a in attentions]
    found = []
    for number, of_target in enumerate(values):
        retain = keep or number + 1 < len(values)
        raw = torch.autograd.grad(of_target.sum(), outs, retain_graph=retain, allow_unused=True)
        found.append(checked_gradients(attentions, raw))
    return found


def _batched(attentions: Sequence[Attention], values: Sequence[Tensor], keep: bool) -> list[dict[int, Tensor]]:
    """The same in one backward pass; where the model has an operation that cannot be batched, one by one."""
    total = torch.stack([of_target.sum() for of_target in values])
    each = torch.eye(len(values), dtype=total.dtype, device=total.device)
    outs = [a.out for a in attentions]
    try:
        raw = torch.autograd.grad(total, outs, each, retain_graph=True, allow_unused=True, is_grads_batched=True)
    except RuntimeError as error:
        if ran_out(error):
            raise
        return _one_by_one(attentions, values, keep)
    return [
        checked_gradients(attentions, [None if g is None else g[number] for g in raw]) for number in range(len(values))
    ]


def checked_gradients(attentions: Sequence[Attention], raw: Sequence[Tensor | None]) -> dict[int, Tensor]:
    """∂y/∂o by attention, (batch, heads, queries, features), of gradients in the model's own layouts.

    Raises:
        TargetError: there is none.
        GradientError: one is not finite.
    """
    gradients = {a.index: a.layout.apply(g) for a, g in zip(attentions, raw, strict=True) if g is not None}
    if not gradients:
        raise TargetError(NO_ATTENTION)
    if not bool(torch.stack([torch.isfinite(g).all() for g in gradients.values()]).all()):
        raise GradientError(
            "the gradient of the target is not finite (NaN or infinity); "
            + (not_finite(attentions) or "try float32, or look for NaN in model or input")
        )
    return gradients


def mean_readouts(read: Mapping[int, tuple[State, Rows]], dtype: torch.dtype) -> dict[int, Readout]:
    """The mean of the rows that the target reads of each stream."""
    readouts = {}
    for stream, (state, rows) in read.items():
        weights = rows.to(dtype)[:, None]
        readouts[stream] = Readout(state, weights / weights.sum(-1, keepdim=True).clamp(min=1))
    samples = torch.stack([r.weights.sum((1, 2)) for r in readouts.values()]).sum(0) if readouts else torch.zeros(1)
    if not bool((samples > 0).all()):
        raise GradientError(
            "the target's gradient to the attention it reads is zero for a sample: it does not depend on the input there "
            "(a saturated probability? explain the logit instead)"
        )
    return readouts
