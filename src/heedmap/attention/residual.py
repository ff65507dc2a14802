"""Where a model adds to its tokens: the residual connections around attention and around what follows it.

A residual connection is a sum of two tensors of one shape, (batch, tokens, features). Around attention one of the two, the
branch, was computed from the attention, and the other, what is passed by, was not. Around what follows it both were, and what is
passed by is a state: the result of a residual connection, or a norm of it.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from heedmap.attention import operations as ops
from heedmap.attention.tags import attentions_among
from heedmap.attention.tape import Tape


@dataclass(frozen=True, eq=False)
class Residual:
    """One residual connection, result = passed + branch.

    Attributes:
        attention: the attention that the branch was computed from, or after which it comes.
        around: whether it is around that attention, not around what follows.
        passed, branch, result: (batch, tokens, features), as the model has them.
        is_state: whether ``passed`` is the result of the residual connection before, or its norm.
        batch_axis: which of the first two axes is the batch; None: it is not known.
        edge: where autograd has the gradient of ``passed``; None: it carries none.
        gradient: of ``passed``, once it was taken.
    """

    attention: int
    around: bool
    passed: Float[Tensor, "batch tokens features"]
    branch: Float[Tensor, "batch tokens features"]
    result: Float[Tensor, "batch tokens features"]
    is_state: bool
    batch_axis: int | None = 0
    edge: GradientEdge | None = None
    gradient: Float[Tensor, "batch tokens features"] | None = None


Operand = tuple[Tensor, frozenset[int], bool, GradientEdge | None]
"""Of a sum: the tensor, the attentions that it was computed from, whether it is a state, and its place in autograd's graph."""


class Sum(NamedTuple):
    """What a sum is: the attention of its branch, whether it is around it, and which operand is passed by."""

    attention: int
    around: bool
    passed: int

    @property
    def branch(self) -> int:
        """The other operand."""
        return 1 - self.passed


class ResidualTape(Tape):
    """A recorder that keeps the residual connections too.

    Attributes:
        residuals: in order of execution.
        norms: number of a residual connection → the first norm of its result.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.residuals: list[Residual] = []
        self.norms: dict[int, Tensor] = {}
        self._states: dict[int, weakref.ref[Tensor]] = {}

    def seen(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As the recorder does; a sum's operands are looked at before they may be written to."""
        in_place = func in ops.ADDITIONS_IN_PLACE
        operands = self._operands(args) if (in_place or func in ops.ADDITIONS) and not kwargs else []
        known = self._sum(operands) if operands else None
        if known is not None:
            args = self.passing(known, args, in_place)
        if in_place:
            operands = [(tensor.clone(), *rest) for tensor, *rest in operands]  # type: ignore[misc]
        result = super().seen(func, args, kwargs)
        if known is not None and isinstance(result, Tensor):
            self._see(known, operands, result)
        elif func in ops.NORMS and isinstance(result, Tensor) and args and self._is_state(args[0]):
            self._states[id(result)] = weakref.ref(result)
            if self.residuals and args[0] is self.residuals[-1].result:
                self.norms.setdefault(len(self.residuals) - 1, result)
        return result

    def passing(self, known: Sum, args: tuple[Any, ...], in_place: bool) -> tuple[Any, ...]:
        """The operands of a residual connection, before it is computed; for recorders that pass something else by."""
        return args

    def _operands(self, args: tuple[Any, ...]) -> list[Operand]:
        """Both operands of a sum of tensors of one shape; else none."""
        if len(args) != 2 or not all(isinstance(t, Tensor) and t.dim() > 2 for t in args):
            return []
        if args[0].shape != args[1].shape:
            return []
        edges = [get_gradient_edge(t) if t.requires_grad else None for t in args]
        return [
            (t, attentions_among(self.sources, self.tag(t).sources), self._is_state(t), e)
            for t, e in zip(args, edges, strict=True)
        ]

    def _is_state(self, tensor: Any) -> bool:
        reference = self._states.get(id(tensor))
        return reference is not None and reference() is tensor

    def _sum(self, operands: list[Operand]) -> Sum | None:
        """What a sum is; None: no residual connection."""
        (_, of_a, is_a, _), (_, of_b, is_b, _) = operands
        latest = max(of_a ^ of_b, default=None)
        if latest is not None:
            passed = 1 if latest in of_a else 0
            tensor, is_branch_state = operands[passed][0], operands[1 - passed][2]
            if is_branch_state and not self.tag(tensor).sources:  # positions are added to tokens
                return None
            return Sum(latest, True, passed)
        return Sum(max(of_a), False, 0 if is_a else 1) if of_a and is_a != is_b else None

    def _see(self, known: Sum, operands: list[Operand], result: Tensor) -> None:
        (passed, _, is_state, edge), (branch, *_) = operands[known.passed], operands[known.branch]
        axis = self._batch_axis(branch, known.attention)
        is_state = is_state or not known.around
        residual = Residual(known.attention, known.around, passed, branch, result, is_state, axis, edge)
        self.residuals.append(residual)
        self._states[id(result)] = weakref.ref(result)

    def _batch_axis(self, branch: Tensor, attention: int) -> int | None:
        """Which of the first two axes is the batch; of as many samples as tokens, by what of o the first entry comes from."""
        sizes = branch.shape[:2]
        if sizes[0] != sizes[1] or sizes[0] != self.batch:
            return list(sizes).index(self.batch) if self.batch in sizes else None
        if self.batch == 1 or not branch.requires_grad:
            return 0 if self.batch == 1 else None
        recorded, first = self.attentions[attention], torch.zeros_like(branch)
        first[0] = torch.randn_like(branch[0])
        with torch._C.DisableTorchFunction():  # no rule, and no recorder, is for this
            (pulled,) = torch.autograd.grad(branch, recorded.out, first, retain_graph=True, allow_unused=True)
        if pulled is None:
            return None
        touched = recorded.touched(pulled)
        only = [not bool(touched.movedim(axis, 0)[1:].any()) for axis in (0, 1)]
        return only.index(True) if sum(only) == 1 else None


def pushed(
    out: Tensor, branch: Tensor, tangent: Float[Tensor, "batch heads rows features"], layout: Any
) -> Float[Tensor, "batch tokens features"]:
    """What the branch of an attention makes of other tokens than its output ``out``: J t, J the branch's Jacobian.

    Args:
        out: o of the attention, in the model's own layout.
        branch: computed from it.
        tangent: t, (batch, heads, rows, features).
        layout: of ``out``.
    """
    tokens = laid_back(out, tangent, layout)
    with torch.enable_grad():
        cotangent = torch.zeros_like(branch).requires_grad_()
        (pulled,) = torch.autograd.grad(branch, out, cotangent, create_graph=True)
        (made,) = torch.autograd.grad(pulled, cotangent, tokens)
    return made.detach()


def laid_back(out: Tensor, tokens: Float[Tensor, "batch heads rows features"], layout: Any) -> Tensor:
    """Tokens in the model's own layout, as those of the output ``out`` of an attention stand in it."""
    with torch.enable_grad():
        placed = torch.zeros_like(out).requires_grad_()
        (tensor,) = torch.autograd.grad(layout.apply(placed), placed, tokens.to(out.dtype))
    return tensor
