"""Relevance rules as autograd functions: forward is the operation itself, backward takes and returns relevance.

A rule is given the operation as a function of the tensors that carry relevance, everything else bound to it. A sum of linear maps
is one linear map, of their inputs side by side (:func:`join_sums`): W₁x₁ + W₂x₂ = [W₁ W₂] (x₁, x₂).
"""

from __future__ import annotations

from collections import Counter
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
    """R_x = x ⊙ Jᵀ(R / z) with z = the result: to each tensor in proportion to what it added to z.

    For operations linear in each tensor, with the others fixed. For a linear map, ``share`` = 1, it is the ε-rule, where the
    bias takes its share; for a sum too. Products of two tensors count everything twice, and take 1/2.
    """
    gradients = pulled(operation, tensors, lambda z: divide(relevance, z))
    return [share * x * g for x, g in zip(tensors, gradients, strict=True)]


def conserved(samples: Samples, relevance: Tensor, operation: Operation, summands: tuple[Tensor, ...]) -> list[Tensor]:
    """The authors' rule for a + b: in proportion, then each part rescaled to |R_a| / (|R_a| + |R_b|) of the whole.

    Of each sample by itself, where the authors take the sums over the whole batch.
    """
    parts = in_proportion(plus_tiny, 1.0, relevance, operation, summands)
    sums = [samples.sums(p, like=relevance) for p in parts]
    whole = samples.sums(relevance, like=relevance)
    both = sums[0].abs() + sums[1].abs()
    return [
        samples.scale(part, plus_tiny(plus_tiny(total.abs(), both) * whole, total), like=relevance)
        for part, total in zip(parts, sums, strict=True)
    ]


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


class Shared(Function):
    """What falls on the result is shared among the tensors by a rule: :func:`in_proportion`, or of a sum :func:`conserved`."""

    @staticmethod
    def forward(ctx: Any, operation: Operation, rule: Callable[..., list[Tensor]], *tensors: Tensor) -> Tensor:
        """The operation's own result."""
        ctx.operation, ctx.rule, ctx.handed = operation, rule, None
        ctx.save_for_backward(*tensors)
        return run(operation, *tensors)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """The tensors' relevance: by the rule, or by that of the sum that they are a part of (:func:`join_sums`)."""
        if ctx.handed is not None:
            return None, None, *ctx.handed(ctx, relevance[0])
        return None, None, *ctx.rule(relevance[0], ctx.operation, ctx.saved_tensors)


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


RULES = (Identity, Shared, ZPlus, ZBox, DeepTaylorSoftmax)
"""Every rule; their backward nodes are the only ones, beside :data:`MOVES`, that a graph may have."""

MOVES = {
    "Embedding", "View", "UnsafeView",
    "ReshapeAlias", "Transpose", "Permute", "T", "Expand", "Unsqueeze", "Squeeze", "Slice", "Select",
    "Index", "IndexSelect", "IndexPut", "IndexAdd", "IndexCopy", "IndexFill", "Cat", "Stack", "Split", "SplitWithSizes",
    "Unbind", "Clone", "ToCopy", "Alias", "ConstantPadNd", "ReflectionPad1D", "ReflectionPad2D", "Repeat",
    "RepeatInterleave", "Gather", "Scatter", "ScatterAdd", "MaskedFill", "MaskedScatter", "MaskedSelect", "Where",
    "CopyBackwards", "CopySlices", "Unfold", "Im2Col", "Roll", "Flip", "AsStrided", "Diagonal",
    "Tril", "Triu", "Max", "Amax", "Min", "Amin", "Sort", "Topk", "MaxPool2DWithIndices", "MaxPool3DWithIndices",
    "AdaptiveMaxPool2D", "AccumulateGrad", "PixelShuffle", "PixelUnshuffle",
    "UnsafeSplit", "Fill", "Zero", "SliceScatter", "SelectScatter",
}  # fmt: skip
"""Autograd's nodes that move, drop, copy or choose entries: to them relevance is what a gradient is."""


def node_name(node: Any) -> str:
    """What autograd calls a node, as :data:`MOVES` has it."""
    name: str = node.name().rpartition("::")[2].removesuffix("Backward0").removesuffix("Backward1")
    return name


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


Node = Any
"""A node of autograd's graph; that of a rule is what the rule has as ``ctx``. None: what takes no relevance."""

Step = tuple[Node, int]
"""A sum of linear maps and of something else, and the place of the maps: 0 or 1."""


def join_sums(values: Tensor, wanted: Sequence[Tensor] = ()) -> None:
    """Have all sums of linear maps that ``values`` were computed from hand relevance down as one map.

    The z⁺-rules divide by the contributions to an output: those of all its maps. And x + W₁x₁ + W₂x₂, where nothing else reads
    x + W₁x₁, is a sum of two, x and that one map. So the heads of an attention may be projected together, apart, or apart and
    added to the residual one by one. The other rules give the same either way.

    Args:
        values: the target's.
        wanted: whose relevance is asked for: a sum among them stays one by itself.
    """
    graph, done = _SumGraph(values.grad_fn, [t.grad_fn for t in wanted]), set[Node]()
    for node in graph.reads:
        if node in done or not _is_of_two(node):
            continue
        steps = list(graph.steps(node))
        if len(steps) > 1:
            linear = [n for step, place in steps for n in graph.linear[graph.operands(step)[place]]]
            node.handed = partial(_beside_residual, linear, steps[0][1], steps[1:])
            done |= {*linear, *(step for step, _ in steps)}
        elif graph.linear[node]:
            _, *linear = graph.linear[node]
            node.handed = partial(_by_itself, linear)
            done |= {*linear}


class _SumGraph:
    """What a target was computed from.

    Attributes:
        reads: how many nodes hand relevance to each; a node is before what it alone reads.
        linear: by node, the linear maps and their sums that it is made of; empty where it is anything else.
    """

    def __init__(self, top: Node, wanted: Sequence[Node]) -> None:
        self.reads, stack = Counter[Node]([top]), [top]
        while stack:
            for node in filter(None, _below(stack.pop())):
                stack += [] if node in self.reads else [node]
                self.reads[node] += 1
        self.reads.update(node for node in wanted if node in self.reads)
        self.linear: dict[Node, tuple[Node, ...]] = {None: ()}
        for node in reversed(list(self.reads)):
            self.linear[node] = self._made_of(node)

    def _made_of(self, node: Node) -> tuple[Node, ...]:
        if _is_linear(node):
            return (node,)
        parts = [self.linear[n] for n in self.operands(node)] if _is_of_two(node) else []
        return (node, *parts[0], *parts[1]) if parts and all(parts) and _adds(node) else ()

    def operands(self, node: Node) -> list[Node]:
        """What a node alone reads, copied or not; None where something else reads it."""
        return [self._alone(n) for n in _below(node)]

    def _alone(self, node: Node) -> Node:
        while self.reads[node] == 1 and (node.name() == "CloneBackward0" or _writes(node)):
            (node,) = _below(node)
        return node if self.reads[node] == 1 else None

    def steps(self, node: Node) -> Iterator[Step]:
        """The sums of (x + W₁x₁) + W₂x₂ …, the last one first."""
        while _is_of_two(node):
            operands = self.operands(node)
            linear = [bool(self.linear[n]) for n in operands]
            if sum(linear) != 1 or not _adds(node):
                return
            yield node, linear.index(True)
            node = operands[linear.index(False)]


def _below(node: Node) -> list[Node]:
    """What a node hands relevance to; what is written over takes none."""
    below = [further for further, _ in node.next_functions]
    return below[1:] if _writes(node) else below


def _writes(node: Node) -> bool:
    """Whether it is a copy to where something else was."""
    return bool(node.name().endswith("CopyBackwards"))


def _is_linear(node: Node) -> bool:
    return isinstance(node, ZPlus._backward_cls)


def _is_of_two(node: Node) -> bool:
    shared: Any = Shared._backward_cls
    return isinstance(node, shared) and len(node.next_functions) == 2


def _adds(node: Node) -> bool:
    """Whether a sum is a + b, of one shape: no difference, and no broadcast."""
    a, b = node.saved_tensors
    return a.shape == b.shape and torch.equal(node.operation(a, b), a + b)


def _by_itself(linear: Sequence[Node], node: Node, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """What a sum of linear maps hands to both of its operands."""
    return _all_of_it(node, _as_one(linear, relevance))


def _beside_residual(
    linear: Sequence[Node], place: int, further: list[Step], node: Node, relevance: Tensor
) -> tuple[Tensor, Tensor]:
    """What the last of the sums x + W₁x₁ + W₂x₂ … hands to its operands: by its rule for x and the one map."""
    first, at = further[-1]
    added = torch.stack([step.saved_tensors[p] for step, p in ((node, place), *further)]).sum(0)
    on_x, on_linear = node.rule(relevance, torch.add, (first.saved_tensors[1 - at], added))
    on_linear = _as_one(linear, on_linear)
    for step, p in further:
        step.handed = partial(_ordered, on_linear, p)
    return _ordered(on_linear, place, node, on_x)


def _ordered(on_linear: Tensor, place: int, node: Node, on_x: Tensor) -> tuple[Tensor, Tensor]:
    return (on_x, on_linear) if place else (on_linear, on_x)


def _all_of_it(node: Node, relevance: Tensor) -> tuple[Tensor, Tensor]:
    return relevance, relevance


def _as_one(linear: Sequence[Node], relevance: Tensor) -> Tensor:
    """What is to fall on each of the maps, so that each takes the share of its contributions."""
    maps = [node for node in linear if _is_linear(node)]
    for node in linear:
        node.handed = _all_of_it
    kinds = [torch.stack(kind).sum(0) for kind in zip(*map(ZPlus.contributions, maps), strict=True)]
    for node in maps:
        node.sums = kinds
    samples, z = maps[0].samples, kinds[0] + kinds[1]
    if samples is None:
        return relevance
    wanted, got = (samples.sums(t, like=relevance) for t in (relevance, z * plus_tiny(relevance, z)))
    return samples.scale(relevance, plus_tiny(wanted, got), like=relevance)
