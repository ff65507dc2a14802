"""Libra gradients: a backward pass in which what balances the parts of a product is held constant.

The gradient of each operation is autograd's own, but: the softmax of an attention, the deviation of a norm and the gate of an
activation x · g(x) are constants, and of a product of two tensors that both carry a gradient, each takes half of its own. Then x
times its gradient, summed over any cut through the model, is the target less what its biases add.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedmap.attention.backward import ancestors
from heedmap.errors import MissingRuleError
from heedmap.lrp import operations as ops
from heedmap.lrp.functions import Operation

SOFTMAX = frozenset({"Softmax"})
SQUASHING = frozenset({"Sigmoid", "Tanh", "Erf"})
"""Nodes of autograd that make a gate of what is multiplied by it."""

ELEMENTWISE = frozenset({"Mul", "Div", "Add", "Sub", "Rsub", "Neg", "Pow", "NanToNum"}) | ops.MOVES


@dataclass(frozen=True)
class Libra:
    """The rules of the mode (:class:`~heedmap.lrp.mode.RelevanceMode`) for Libra gradients; forward is the operation itself.

    Attributes:
        copies: whether operations are given copies, because the model overwrites in place what their backward needs.
    """

    copies: bool = False

    def _saved(self, x: Tensor) -> Tensor:
        return x.clone() if self.copies else x

    def read_again(self, x: Tensor) -> None:
        """Gradients of what several operations read are summed."""

    def passed(self, x: Tensor, operation: Operation) -> Tensor:
        """A factor, a mask, a scale: its gradient."""
        return operation(self._saved(x))

    def activated(self, function: Callable[..., Any], x: Tensor, operation: Operation) -> Tensor:
        """An activation or a norm of one tensor: x · g(x) with g constant, where it is that; else its gradient.

        Raises:
            MissingRuleError: it centres tokens with a deviation that is not seen.
        """
        if function in ops.CENTRED:
            raise MissingRuleError(
                f"Libra gradients have no rule for {getattr(function, '__name__', function)}; choose a method that needs none "
                "('generic', 'input_x_gradient', …)"
            )
        x = self._saved(x)
        if function not in ops.GATED:
            return operation(x)
        gated = x * gate(x, operation)
        return gated.contiguous() if function in ops.LAID_OUT else gated

    def norm(self, x: Tensor, operation: Operation, frozen: Operation) -> Tensor:
        """A norm with its deviation held constant."""
        return frozen(self._saved(x))

    def linear(
        self, x: Tensor, weight: Tensor, operation: Operation, linear: Operation, pixels: bool = False
    ) -> Tensor:
        """A linear map: its gradient."""
        return operation(self._saved(x))

    def reduced(self, x: Tensor, operation: Operation) -> Tensor:
        """A linear operation of one tensor: its gradient."""
        return operation(self._saved(x))

    def sum(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """a ± b: its gradient."""
        return operation(a, b)

    def product(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product: of attention and its values with A constant, else half to each."""
        a, b = self._saved(a), self._saved(b)
        if a.is_leaf or made_by(a, SOFTMAX):
            return operation(a.detach(), b)
        return operation(halved(a), halved(b))

    def factor(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """a · b, element by element: where one is a gate, it is constant; else half to each."""
        a, b = self._saved(a), self._saved(b)
        if not (a.requires_grad and b.requires_grad):
            return operation(a, b)
        gates = [made_by(t, SQUASHING) for t in (a, b)]
        if gates == [True, False]:
            return operation(a.detach(), b)
        if gates == [False, True]:
            return operation(a, b.detach())
        return operation(halved(a), halved(b))

    def softmax(self, x: Tensor, operation: Operation, axis: int) -> Tensor:
        """A softmax: its gradient, unless it is an attention's (:meth:`product`)."""
        return self._saved(operation(self._saved(x)))


def halved(x: Tensor) -> Tensor:
    """x, with half of its gradient."""
    half = x * 0.5
    return half + half.detach()


def gate(x: Tensor, operation: Operation) -> Tensor:
    """g(x) of y = x · g(x), element by element; where x is 0, the slope, which is g(0). No gradient."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        y = operation(at)
        zero = at.detach() == 0
        divided = y.detach() / torch.where(zero, 1.0, at.detach())
        if not bool(zero.any()):
            return divided
        (slope,) = torch.autograd.grad(y.sum(), at)
    return torch.where(zero, slope, divided)


def made_by(tensor: Tensor, nodes: Collection[str]) -> bool:
    """Whether one of these nodes of autograd made ``tensor``, but for moves, factors and sums since."""
    return any(_name(node) in nodes for node in ancestors(tensor, through=lambda node: _name(node) in ELEMENTWISE))


def _name(node: Any) -> str:
    name: str = node.name().rpartition("::")[2].removesuffix("Backward0").removesuffix("Backward1")
    return name
