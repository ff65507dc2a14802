"""Relevance rules as autograd functions: forward is the operation itself, backward takes and returns relevance.

A rule is given the operation as a function of the tensors that carry relevance, everything else bound to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from heedmap.errors import MissingRuleError

Operation = Callable[..., Tensor]
Divide = Callable[[Tensor, Tensor], Tensor]
"""(relevance, z) → relevance / z, kept finite where z is near 0."""

TINY = 1e-9


def plus_tiny(relevance: Tensor, z: Tensor) -> Tensor:
    """The authors' division: ε = 1e-9 is added whatever the sign of z, and 0 / 0 is 0."""
    divisor = z + TINY
    return torch.where(z == 0, 0.0, relevance / torch.where(divisor == 0, TINY, divisor))


def stabilised(relevance: Tensor, z: Tensor) -> Tensor:
    """The ε of the ε-rule, 1e-9 with the sign of z."""
    return relevance / (z + TINY * torch.where(z < 0, -1.0, 1.0))


def pulled(
    operation: Operation, tensors: tuple[Tensor, ...], cotangent: Callable[[Tensor], Tensor]
) -> tuple[Tensor, ...]:
    """The products of ``cotangent`` (of the result) with the operation's Jacobians at ``tensors``."""
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in tensors]
        result = operation(*leaves)
        return torch.autograd.grad(result, leaves, cotangent(result.detach()))


def run(operation: Operation, *tensors: Tensor) -> Tensor:
    """The operation's result, in memory of its own: autograd lets no view made here be written to."""
    result = operation(*tensors)
    return result.clone() if result._is_view() or any(result is t for t in tensors) else result


def in_proportion(
    divide: Divide, share: float, relevance: Tensor, operation: Operation, tensors: tuple[Tensor, ...]
) -> list[Tensor]:
    """x ⊙ Jᵀ(R / z) of each tensor, with z = the result; see :class:`Proportional`."""
    gradients = pulled(operation, tensors, lambda z: divide(relevance, z))
    return [share * x * g for x, g in zip(tensors, gradients, strict=True)]


def conserved(samples: Samples, relevance: Tensor, operation: Operation, summands: tuple[Tensor, ...]) -> list[Tensor]:
    """In proportion, then each part rescaled; see :class:`ConservingSum`."""
    parts = in_proportion(plus_tiny, 1.0, relevance, operation, summands)
    sums = [samples.sums(p, like=relevance) for p in parts]
    whole = samples.sums(relevance, like=relevance)
    both = sums[0].abs() + sums[1].abs()
    return [
        samples.scale(part, plus_tiny(plus_tiny(total.abs(), both) * whole, total), like=relevance)
        for part, total in zip(parts, sums, strict=True)
    ]


def handed(ctx: Any, relevance: Tensor) -> Sequence[Tensor]:
    """What falls on the tensors: by the rule of the operation, or by that of the sum it is a part of (``heedmap.lrp.sums``)."""
    if ctx.handed is not None:
        return ctx.handed(ctx, relevance)
    return ctx.rule(relevance, ctx.operation, ctx.saved_tensors)


class Identity(Function):
    """What falls on the result falls on the inputs, a ``share`` on each, whatever was done: activations, norms, factors, masks.

    On an input that was broadcast falls the sum.
    """

    @staticmethod
    def forward(ctx: Any, operation: Operation, share: float, *tensors: Tensor) -> Tensor:
        """The operation's own result."""
        ctx.shapes, ctx.share = [t.shape for t in tensors], share
        return run(operation, *tensors)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The share of it."""
        return None, None, *(relevance[0].sum_to_size(shape) * ctx.share for shape in ctx.shapes)


class Proportional(Function):
    """R_x = x ⊙ Jᵀ(R / z) with z = the result: to each input in proportion to what it added to z.

    For operations linear in each input, with the others fixed. For a linear map, ``share`` = 1, it is the ε-rule, where the
    bias takes its share; for a sum too. Products of two inputs count everything twice, and take 1/2.
    """

    @staticmethod
    def forward(ctx: Any, operation: Operation, divide: Divide, share: float, *tensors: Tensor) -> Tensor:
        """The operation's own result."""
        ctx.operation, ctx.rule, ctx.handed = operation, partial(in_proportion, divide, share), None
        ctx.save_for_backward(*tensors)
        return run(operation, *tensors)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The inputs' relevance."""
        return None, None, None, *handed(ctx, relevance[0])


class ConservingSum(Function):
    """The authors' rule for a + b: :class:`Proportional`, then each part rescaled to |R_a| / (|R_a| + |R_b|) of the whole.

    Of each sample by itself, where the authors take the sums over the whole batch.
    """

    @staticmethod
    def forward(ctx: Any, operation: Operation, samples: Samples, a: Tensor, b: Tensor) -> Tensor:
        """a + b."""
        ctx.operation, ctx.rule, ctx.handed = operation, partial(conserved, samples), None
        ctx.save_for_backward(a, b)
        return run(operation, a, b)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The relevance of a and of b."""
        return None, None, *handed(ctx, relevance[0])


class ZPlus(Function):
    """The αβ-rule with α = 1, β = 0: relevance follows the positive contributions x⁺w⁺ and x⁻w⁻; the bias takes none.

    With ``apart``, each of the two kinds of contribution is divided by its own sum, so that both hand on all the
    relevance (the older of the authors' two definitions). With ``samples``, the result is rescaled to
    each sample's sum.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        operation: Operation,
        linear: Operation,
        samples: Samples | None,
        apart: bool,
    ) -> Tensor:
        """The operation's own result; ``linear`` (x, weight) is the operation without bias."""
        ctx.linear, ctx.samples, ctx.apart, ctx.sums = linear, samples, apart, None
        ctx.save_for_backward(x, weight)
        return run(operation, x)

    @staticmethod
    def kinds(ctx: Any) -> list[tuple[Tensor, Tensor]]:
        """(x⁺, w⁺) and (x⁻, w⁻)."""
        x, weight = ctx.saved_tensors
        return [(x.clamp(min=0), weight.clamp(min=0)), (x.clamp(max=0), weight.clamp(max=0))]

    @staticmethod
    def contributions(ctx: Any) -> list[Tensor]:
        """The sums of both kinds of contribution to each output."""
        return [ctx.linear(x, weight) for x, weight in ZPlus.kinds(ctx)]

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The relevance of x; where the map is a part of a sum of maps, ``ctx.sums`` has the contributions to the whole."""
        kinds = ZPlus.kinds(ctx)
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_() for x, _ in kinds]
            made = [ctx.linear(leaf, weight) for leaf, (_, weight) in zip(leaves, kinds, strict=True)]
        sums = ctx.sums or [part.detach() for part in made]
        divisors = sums if ctx.apart else [sums[0] + sums[1]]
        handed = [plus_tiny(relevance[0], z) for z in divisors] * (1 if ctx.apart else 2)
        positive, negative = (
            x * torch.autograd.grad(part, leaf, share)[0]
            for (x, _), leaf, part, share in zip(kinds, leaves, made, handed, strict=True)
        )
        result = positive + negative
        if ctx.samples is not None and ctx.sums is None:
            wanted, got = (ctx.samples.sums(t, like=relevance[0]) for t in (relevance[0], result))
            result = ctx.samples.scale(result, plus_tiny(wanted, got), like=relevance[0])
        return result, None, None, None, None, None


class ZBox(Function):
    """The zᴮ-rule for a first layer: inputs are bounded, here by each sample's least and greatest pixel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, operation: Operation, linear: Operation) -> Tensor:
        """The operation's own result; ``linear`` (x, weight) is the operation without bias."""
        ctx.linear = linear
        ctx.save_for_backward(x, weight)
        return run(operation, x)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The relevance of x."""
        x, weight = ctx.saved_tensors
        inner = tuple(range(1, x.dim()))
        low, high = torch.zeros_like(x) + x.amin(inner, keepdim=True), torch.zeros_like(x) + x.amax(inner, keepdim=True)
        terms = [(x, weight, 1.0), (low, weight.clamp(min=0), -1.0), (high, weight.clamp(max=0), -1.0)]
        z = sum(sign * ctx.linear(t, w) for t, w, sign in terms) + TINY
        result = torch.zeros_like(x)
        for t, w, sign in terms:
            (gradient,) = pulled(lambda v, w=w: ctx.linear(v, w), (t,), lambda _: relevance[0] / z)
            result = result + sign * t * gradient
        return result, None, None, None


class DeepTaylorSoftmax(Function):
    """AttnLRP's softmax (eq. 13): R_x = x ⊙ (R − softmax(x) Σ R), its first order at x; the bias takes the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operation: Operation, axis: int) -> Tensor:
        """The softmax."""
        probs = run(operation, x)
        ctx.axis = axis
        ctx.save_for_backward(x, probs)
        return probs

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The relevance of x; a masked entry (x = −∞) has none."""
        x, probs = ctx.saved_tensors
        result = x * (relevance[0] - probs * relevance[0].sum(ctx.axis, keepdim=True))
        return torch.where(probs > 0, result, 0.0), None, None


class NoRule(Function):
    """An operation without a rule: it runs, but no relevance can be handed down through it."""

    @staticmethod
    def forward(ctx: Any, result: Tensor, reason: str, *tensors: Tensor) -> Tensor:
        """The operation's own result."""
        ctx.reason = reason
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """MissingRuleError."""
        raise MissingRuleError(ctx.reason)


RULES = (Identity, Proportional, ConservingSum, ZPlus, ZBox, DeepTaylorSoftmax)
"""Every rule; their backward nodes are the only ones, beside those that move entries, that a graph may have."""


class BatchAxisError(Exception):
    """Which axis of a tensor is the batch cannot be told; hand down one sample at a time."""


class Samples:
    """Knows the batch size, and finds the batch axis by it.

    The axis is the first, of that size or a multiple of it (heads folded into the batch), or the second, of that size
    (sequence first). With one sample there is nothing to find.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        """While only one sample at a time has any relevance: a tensor's sum is that sample's."""
        before, self.batch = self.batch, 1
        try:
            yield
        finally:
            self.batch = before

    def sums(self, relevance: Tensor, like: Tensor) -> Float[Tensor, " batch"]:
        """The sum of each sample; ``like`` is a tensor of that layout where ``relevance`` itself may be broadcast."""
        if self.batch == 1:
            return relevance.sum()[None]
        axis = self._axis(relevance, like)
        return relevance.movedim(axis, 0).reshape(self.batch, -1).sum(1)

    def scale(self, relevance: Tensor, factors: Float[Tensor, " batch"], like: Tensor) -> Tensor:
        """``relevance`` times each sample's factor."""
        if self.batch == 1:
            return relevance * factors
        axis = self._axis(relevance, like)
        factors = factors.repeat_interleave(relevance.shape[axis] // self.batch)
        return relevance * factors.reshape([-1 if i == axis else 1 for i in range(relevance.dim())])

    def _axis(self, relevance: Tensor, like: Tensor) -> int:
        shape = like.shape
        fits = [0] * (shape[0] % self.batch == 0) + [1] * (len(shape) > 1 and shape[1] == self.batch)
        if len(fits) != 1 or relevance.dim() != like.dim() or relevance.shape[fits[0]] != shape[fits[0]]:
            raise BatchAxisError(f"a tensor of shape {tuple(shape)} in a batch of {self.batch}")
        return fits[0]
