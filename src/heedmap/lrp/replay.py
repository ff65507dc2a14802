"""The same forward pass once more, under the rules: the relevance of every attention matrix and of every leaf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from heedmap.attention.attention import Layout
from heedmap.attention.backward import ancestors
from heedmap.attention.forward import call
from heedmap.attention.residual import ResidualTape
from heedmap.attention.tape import Tape
from heedmap.errors import GradientError, MissingRuleError
from heedmap.lrp.functions import BatchAxisError, NoRule, Samples, join_sums
from heedmap.lrp.mode import RelevanceMode, foreign
from heedmap.lrp.rules import RULES, Libra, Rules

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ForwardCall:
    """A forward pass that can be run again.

    Attributes:
        model: in the state in which it was recorded.
        inputs: what it was called with.
        batch: batch size.
        value: output → the target's value for each sample, (batch,).
        heads_first: see :class:`~heedmap.attention.tape.Tape`.
        tape: makes the recorder of a run.
        copies: see :class:`~heedmap.attention.tape.Tape`.
        answered: some numbers of what the model returned, where nothing else has looked whether it does so again.
    """

    model: nn.Module
    inputs: Mapping[str, Any]
    batch: int
    value: Callable[[Any], Float[Tensor, " batch"]]
    heads_first: bool = False
    tape: Callable[..., Tape] = Tape
    copies: bool = False
    answered: Sequence[Tensor] = ()

    def run(self, tape: Tape) -> Any:
        """The output of one more pass under a recorder, with the random numbers of every pass."""
        return call(self.model, self.inputs, tape)

    def valued(self, tape: Tape) -> tuple[Any, Float[Tensor, " batch"]]:
        """The same, and the target's values."""
        output = self.run(tape)
        with tape:
            return output, self.value(output)


@dataclass(frozen=True, eq=False)
class Relevances:
    """What relevance fell where.

    Attributes:
        attentions: by index, on A: (batch, heads, queries, keys), in float32 at least.
        leaves: by index among the tape's sources, in the leaf's own shape.
    """

    attentions: dict[int, Float[Tensor, "batch heads queries keys"]]
    leaves: dict[int, Tensor]


def propagate(replay: ForwardCall, rules: str, share_constants: bool = False, inputs: bool = True) -> Relevances:
    """Run the model under a rule set and hand the target's relevance down to its attentions and its input.

    Args:
        replay: the forward pass.
        rules: a name in :data:`heedmap.lrp.rules.RULES`.
        share_constants: whether what is added and does not depend on the input, such as position embeddings, takes
            relevance in proportion to its size.
        inputs: whether to go on to the inputs themselves; else down to where rows of features begin: a backbone is left out.

    Raises:
        MissingRuleError: an operation without a rule, a custom autograd function, a tensor overwritten while a rule needs it,
            or no relevance passes at all.
        GradientError: relevance is not finite.
    """
    tape, handed = _with_copies_if_needed(partial(_handed_down, replay, rules, share_constants, inputs))
    if not all(bool(r.isfinite().all()) for r in handed.values() if r is not None):
        raise GradientError(
            "relevance is not finite (NaN or infinity): half precision is too small for it; try float32"
        )
    by_attention = {}
    for a in tape.attentions:
        relevance = handed.get(("A", a.index))
        if relevance is not None:
            layout = a.probs_layout or Layout(None, replay.batch, replay.heads_first)
            by_attention[a.index] = layout.apply(relevance)[..., a.columns].to(a.dtype)
    return Relevances(by_attention, {i: r for (kind, i), r in handed.items() if kind == "x" and r is not None})


Handed = dict[tuple[str, int], Tensor | None]
"""Relevance of ("A", attention) and ("x", leaf)."""


def _handed_down(
    replay: ForwardCall, rules: str, share_constants: bool, inputs: bool, copies: bool
) -> tuple[Tape, Handed]:
    chosen, samples = RULES[rules], Samples(replay.batch)
    mode = RelevanceMode(Rules(chosen, samples, share_constants, copies), constant=True)
    tape, values = _run(replay, mode, leaves=True, through=inputs)
    _check_graph(values)
    start = values.detach() if chosen.starts_with_value else torch.ones_like(values)
    probs = {("A", a.index): mode.attention_of(a.out) for a in tape.attentions}
    wanted = {key: p for key, p in probs.items() if p is not None and p.requires_grad}
    wanted |= {("x", index): leaf for index, leaf in _leaves(tape).items()}
    return tape, dict(zip(wanted, pulled(values, list(wanted.values()), start, samples), strict=True))


def _leaves(tape: Tape) -> dict[int, Tensor]:
    """The leaves to which something can be handed down, by index among the sources."""
    leaves = {i: s.tensor for i, s in enumerate(tape.sources) if s.kind == "leaf" and s.tensor is not None}
    return {i: leaf for i, leaf in leaves.items() if leaf.requires_grad}


def _run(replay: ForwardCall, mode: AbstractContextManager[Any], **options: bool) -> tuple[Any, Tensor]:
    """The forward pass under a mode (its rules): the recorder, and the target's values."""
    tape = replay.tape(replay.batch, heads_first=replay.heads_first, copies=replay.copies, **options)
    with torch.enable_grad(), mode:
        return tape, replay.valued(tape)[1]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Libra gradients of a target.

    Attributes:
        attentions: ∂y/∂o by index, (batch, heads, queries, features), in the model's own dtype.
        leaves: by index among the tape's sources, (x, ∂y/∂x), in the leaf's own shape.
    """

    attentions: dict[int, Float[Tensor, "batch heads queries features"]]
    leaves: dict[int, tuple[Tensor, Tensor]]


def libra(replay: ForwardCall, inputs: bool = True) -> Gradients:
    """Run the model under the rules of :class:`~heedmap.lrp.rules.Libra` and take the gradient at its attentions and leaves.

    Args:
        replay: the forward pass.
        inputs: as for :func:`propagate`.

    Raises:
        MissingRuleError: an operation without a rule, a custom autograd function, a tensor overwritten while its gradient needs
            it, or no gradient passes at all.
        GradientError: a gradient is not finite.
    """
    return _with_copies_if_needed(lambda copies: _libra(*_checked(replay, inputs, Libra(copies))))


def states(replay: ForwardCall, balanced: bool = True) -> ResidualTape:
    """Run the model and take the gradient at its residual connections around attention: ``gradient`` of these.

    Args:
        replay: the forward pass.
        balanced: whether Libra gradients are wanted; errors are then those of :func:`libra`.

    Raises:
        GradientError: a gradient is not finite.
    """
    replay = replace(replay, tape=ResidualTape)
    if balanced:
        return _with_copies_if_needed(lambda copies: _states(*_checked(replay, False, Libra(copies))))
    return _states(*_run(replay, nullcontext(), leaves=True, clone=True))


def _with_copies_if_needed(attempt: Callable[[bool], T]) -> T:
    """``attempt(False)``, or ``attempt(True)`` for a model that overwrites what a rule still needs: the rules keep copies."""
    try:
        return attempt(False)
    except RuntimeError as error:
        if not _is_overwritten(error):
            raise
    try:
        return attempt(True)
    except RuntimeError as error:
        if not _is_overwritten(error):
            raise
        raise MissingRuleError(
            "the model overwrites a tensor in place that is still needed to hand relevance down, so relevance would be wrong; "
            f"choose a method without relevance propagation ('generic', …). torch says: {str(error).splitlines()[0]}"
        ) from error


def _is_overwritten(error: RuntimeError) -> bool:
    return "inplace" in str(error) or "in-place" in str(error)


def _checked(replay: ForwardCall, inputs: bool, rules: Libra) -> tuple[Any, Tensor]:
    """The recorder, and the target's values, of a pass under Libra's rules."""
    tape, values = _run(replay, RelevanceMode(rules, constant=True), leaves=True, through=inputs, clone=True)
    if not values.requires_grad or _has_foreign_function(values):
        raise MissingRuleError(
            "no Libra gradient passes from the target to the input: it is a norm, a root or detached, or there is a custom "
            "autograd function on the way, for which there is no rule; choose another target, or a method that needs no rules "
            "('generic', 'input_x_gradient', …)"
        )
    return tape, values


def _gradients(values: Tensor, wanted: Sequence[Any]) -> Sequence[Tensor | None]:
    gradients = torch.autograd.grad(values, wanted, torch.ones_like(values), allow_unused=True)
    if not all(bool(g.isfinite().all()) for g in gradients if g is not None):
        raise GradientError("a gradient is not finite (NaN or infinity); try float32, or look for NaN in the model")
    return gradients


def _states(tape: ResidualTape, values: Tensor) -> ResidualTape:
    chosen = [r for r in tape.residuals if r.around and r.edge is not None]
    gradients = dict(zip(map(id, chosen), _gradients(values, [r.edge for r in chosen]), strict=True)) if chosen else {}
    tape.residuals = [replace(r, gradient=gradients.get(id(r))) for r in tape.residuals]
    return tape


def _libra(tape: Tape, values: Tensor) -> Gradients:
    leaves = _leaves(tape)
    wanted = [*(a.out for a in tape.attentions), *leaves.values()]
    gradients = _gradients(values, wanted)
    count = len(tape.attentions)
    of_attentions = zip(tape.attentions, gradients[:count], strict=True)
    of_leaves = zip(leaves.items(), gradients[count:], strict=True)
    return Gradients(
        {a.index: a.layout.apply(g) for a, g in of_attentions if g is not None},
        {i: (x.detach(), g) for (i, x), g in of_leaves if g is not None},
    )


def _has_foreign_function(values: Tensor) -> bool:
    """Whether an autograd function written in Python made a target; an operation without a rule says so itself."""
    return any(
        isinstance(node, BackwardCFunction) and not isinstance(node, NoRule._backward_cls) for node in ancestors(values)
    )


def pulled(values: Tensor, wanted: list[Tensor], start: Tensor, samples: Samples) -> list[Tensor | None]:
    """Relevance of each tensor; sample by sample where a rule cannot tell the samples of a tensor apart."""
    join_sums(values, wanted)
    try:
        return list(torch.autograd.grad(values, wanted, start, retain_graph=len(values) > 1, allow_unused=True))
    except BatchAxisError:
        pass
    total: list[Tensor | None] = [None] * len(wanted)
    with samples.one_by_one():
        for index in range(len(values)):
            only = torch.zeros_like(start)
            only[index] = start[index]
            parts = torch.autograd.grad(values, wanted, only, retain_graph=True, allow_unused=True)
            total = [p if t is None else t if p is None else t + p for t, p in zip(total, parts, strict=True)]
    return total


def _check_graph(values: Tensor) -> None:
    if not values.requires_grad:
        raise MissingRuleError(
            "no relevance passes from the target to the input: it is a norm or a root, which the rules hold constant, or it is "
            "detached; choose another target, or a method that needs no rules ('generic', …)"
        )
    name = foreign([values], set())
    if name:
        raise MissingRuleError(
            f"relevance propagation met {name}, an operation of autograd that it never saw run (a custom autograd function, "
            "or a compiled kernel), so it has no rule for it; choose a method that needs none ('generic', …)"
        )
