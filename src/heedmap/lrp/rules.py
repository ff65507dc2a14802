"""Which rule an operation has: in the named rule sets of relevance propagation (LRP), and for Libra gradients.

A mode (:class:`heedmap.lrp.mode.RelevanceMode`) asks :class:`Rules` or :class:`Libra` for each operation that runs under it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heedmap.attention.backward import ancestors
from heedmap.attention.operations import found
from heedmap.errors import MissingRuleError
from heedmap.lrp.functions import (
    MOVES,
    DeepTaylorSoftmax,
    Identity,
    Operation,
    Samples,
    Shared,
    ZBox,
    ZPlus,
    conserved,
    in_proportion,
    node_name,
    plus_tiny,
    stabilised,
)

PIXEL_CHANNELS = 4
"""A convolution of at most so many channels reads pixels."""


@dataclass(frozen=True)
class RuleSet:
    """One rule for each kind of operation.

    Attributes:
        linear: ``"zplus"``, ``"zplus_apart"``, ``"zplus_conserving"`` or ``"epsilon"``.
        sums: ``"conserving"`` or ``"proportional"``.
        pixels: of a convolution that reads pixels: ``"zbox"``, or as ``linear``.
        softmax: ``"identity"`` or ``"taylor"``.
        norms: of norms that centre or add a bias: ``"identity"``, or ``"epsilon"`` with the deviation held constant.
        starts_with_value: whether the target's value is what is handed down; else 1.
        clones: whether a tensor that several operations read gets x · (R / (x + ε)), R the sum of what they hand down,
            as the authors' layer for copies has it; else R.
    """

    linear: str
    sums: str
    pixels: str = "zbox"
    softmax: str = "identity"
    norms: str = "identity"
    starts_with_value: bool = False
    clones: bool = True


RULES = {
    "chefer": RuleSet("zplus", "conserving"),
    "chefer_orig": RuleSet("zplus_apart", "proportional"),
    "chefer_detr": RuleSet("zplus_conserving", "conserving"),
    "attn_lrp": RuleSet(
        "epsilon", "proportional", "epsilon", softmax="taylor", norms="epsilon", starts_with_value=True, clones=False
    ),
}
"""Rule sets by name.

Chefer, Gur, Wolf, CVPR 2021, arXiv 2012.09838: ``chefer`` its z⁺ and conserving sums, ``chefer_orig`` its LRP baselines,
``chefer_detr`` as used on DETR. Achtibat et al., ICML 2024, arXiv 2402.05602: ``attn_lrp``, ε-rule, uniform products, softmax by
Taylor.
"""


@dataclass(frozen=True)
class Rules:
    """The rules of a set on tensors; every method gives the operation's own result.

    Attributes:
        set: which rules.
        samples: how the sums of each sample are taken.
        share_constants: whether what is added and carries no relevance (position embeddings) takes a share of it.
        copies: whether rules keep copies of what they need in the backward pass, because the model overwrites it in place.
    """

    set: RuleSet
    samples: Samples
    share_constants: bool = False
    copies: bool = False

    def _saved(self, x: Tensor) -> Tensor:
        return x.clone() if self.copies else x

    def read_again(self, x: Tensor) -> None:
        """Another operation reads ``x``."""
        if not self.set.clones:
            return
        value = self._saved(x.detach())
        version = value._version

        def copied(relevance: Tensor) -> Tensor:
            if value._version != version:
                raise RuntimeError("a tensor that several operations read was modified by an in-place operation")
            return value * plus_tiny(relevance, value)

        x.register_hook(copied)

    def passed(self, x: Tensor, operation: Operation) -> Tensor:
        """An operation on one tensor that is no more than a nonlinearity, a norm, a factor or a mask."""
        return Identity.apply(operation, 1.0, x)

    def activated(self, function: Callable[..., Any], x: Tensor, operation: Operation) -> Tensor:
        """A function of torch on one tensor, an activation or a norm: as :meth:`passed`, whichever it is."""
        return self.passed(x, operation)

    def norm(self, x: Tensor, operation: Operation, frozen: Operation) -> Tensor:
        """A norm over tokens' features; ``frozen`` is the same with its deviation held constant, linear but for its bias."""
        if self.set.norms == "identity":
            return self.passed(x, operation)
        return self._in_proportion(frozen, x)

    def linear(
        self, x: Tensor, weight: Tensor, operation: Operation, linear: Operation, pixels: bool = False
    ) -> Tensor:
        """A linear map; ``linear`` (x, weight) is the same without bias."""
        kind = self.set.pixels if pixels else self.set.linear
        if kind == "epsilon":
            return self._in_proportion(operation, x)
        x = self._saved(x)
        if kind == "zbox":
            return ZBox.apply(x, weight, operation, linear)
        samples = self.samples if kind == "zplus_conserving" else None
        return ZPlus.apply(x, weight, operation, linear, samples, kind == "zplus_apart")

    def product(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product of two tensors that both carry relevance, or of attention and its values."""
        return self._in_proportion(operation, a, b, share=0.5)

    def reduced(self, x: Tensor, operation: Operation) -> Tensor:
        """A linear operation of one tensor: sums, means, averages, interpolation."""
        return self._in_proportion(operation, x)

    def _in_proportion(self, operation: Operation, *tensors: Tensor, share: float = 1.0) -> Tensor:
        divide = stabilised if self.set.linear == "epsilon" else plus_tiny
        rule = partial(in_proportion, divide, share)
        return Shared.apply(operation, rule, *map(self._saved, tensors))

    def sum(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """a ± b, element by element, broadcast."""
        if not (a.requires_grad and b.requires_grad) and not self._shares(a, b):
            return self._with_constant(operation, a, b)
        if self.set.sums == "conserving":
            return Shared.apply(operation, partial(conserved, self.samples), self._saved(a), self._saved(b))
        return self._in_proportion(operation, a, b)

    def _shares(self, *tensors: Tensor) -> bool:
        """Whether a constant among them takes its share: no mask, and in z⁺ sets no bias."""
        least = 1 if self.set.linear == "epsilon" else 2
        return self.share_constants and all(t.dim() >= least and bool(t.isfinite().all()) for t in tensors)

    def factor(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        """a · b, element by element, broadcast: half to each, or all to the one that carries relevance."""
        if not (a.requires_grad and b.requires_grad):
            return self._with_constant(operation, a, b)
        return Identity.apply(operation, 0.5, a, b)

    def softmax(self, x: Tensor, operation: Operation, axis: int) -> Tensor:
        """A softmax over ``axis``."""
        if self.set.softmax == "taylor":
            return self._saved(DeepTaylorSoftmax.apply(self._saved(x), operation, axis))
        return self.passed(x, operation)

    def _with_constant(self, operation: Operation, a: Tensor, b: Tensor) -> Tensor:
        if a.requires_grad:
            return self.passed(a, lambda t: operation(t, b))
        return self.passed(b, lambda t: operation(a, t))


EVERYWHERE = (torch, F, Tensor, torch.special)
"""Where torch has its functions."""

GATED = found(EVERYWHERE, "gelu silu mish hardswish rms_norm normalize local_response_norm")
"""Activations by a gate, and norms that do not centre: y = x · g(x)."""

LAID_OUT = found(EVERYWHERE, "rms_norm")
"""Of these, those whose result is contiguous whatever they were given; a view of another shape may be taken of it."""

CENTRED = found(EVERYWHERE, "instance_norm")
"""Norms whose mean and deviation are not seen."""

SQUASHING = frozenset({"Sigmoid", "Tanh", "Erf"})
"""Nodes of autograd that make a gate of what is multiplied by it."""

ELEMENTWISE = frozenset({"Mul", "Div", "Add", "Sub", "Rsub", "Neg", "Pow", "NanToNum"}) | MOVES


@dataclass(frozen=True)
class Libra:
    """The rules for Libra gradients: a backward pass in which what balances the parts of a product is held constant.

    The gradient of each operation is autograd's own, but: the softmax of an attention, the deviation of a norm and the gate of an
    activation x · g(x) are constants, and of a product of two tensors that both carry a gradient, each takes half of its own.
    Then x times its gradient, summed over any cut through the model, is the target less what its biases add.

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
        if function in CENTRED:
            raise MissingRuleError(
                f"Libra gradients have no rule for {getattr(function, '__name__', function)}; choose a method that needs none "
                "('generic', 'input_x_gradient', …)"
            )
        x = self._saved(x)
        if function not in GATED:
            return operation(x)
        gated = x * gate(x, operation)
        return gated.contiguous() if function in LAID_OUT else gated

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
        if a.is_leaf or made_by(a, {"Softmax"}):
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
    return any(
        node_name(node) in nodes for node in ancestors(tensor, through=lambda node: node_name(node) in ELEMENTWISE)
    )
