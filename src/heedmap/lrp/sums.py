"""A sum of linear maps is one linear map, of their inputs side by side: W₁x₁ + W₂x₂ = [W₁ W₂] (x₁, x₂).

The z⁺-rules divide by the contributions to an output: those of all its maps. And x + W₁x₁ + W₂x₂, where nothing else reads
x + W₁x₁, is a sum of two, x and that one map. So the heads of an attention may be projected together, apart, or apart and added
to the residual one by one. The other rules give the same either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from heedmap.lrp.functions import ConservingSum, Proportional, ZPlus, plus_tiny

Node = Any
"""A node of autograd's graph; that of a rule is what the rule has as ``ctx``. None: what takes no relevance."""

Step = tuple[Node, int]
"""A sum of linear maps and of something else, and the place of the maps: 0 or 1."""

SUMS: tuple[Any, ...] = (ConservingSum._backward_cls, Proportional._backward_cls)


def join(values: Tensor, wanted: Sequence[Tensor] = ()) -> None:
    """Have all sums of linear maps that ``values`` were computed from hand relevance down as one map.

    Args:
        values: the target's.
        wanted: whose relevance is asked for: a sum among them stays one by itself.
    """
    graph, done = _Graph(values.grad_fn, [t.grad_fn for t in wanted]), set[Node]()
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


class _Graph:
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
    return isinstance(node, SUMS) and len(node.next_functions) == 2


def _adds(node: Node) -> bool:
    """Whether a sum is a + b, of one shape: no difference, and no broadcast."""
    a, b = node.saved_tensors
    return a.shape == b.shape and torch.equal(node.operation(a, b), a + b)


def _by_itself(linear: Sequence[Node], node: Node, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """What a sum of linear maps hands to both of its operands."""
    return _whole(node, _as_one(linear, relevance))


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


def _whole(node: Node, relevance: Tensor) -> tuple[Tensor, Tensor]:
    return relevance, relevance


def _as_one(linear: Sequence[Node], relevance: Tensor) -> Tensor:
    """What is to fall on each of the maps, so that each takes the share of its contributions."""
    maps = [node for node in linear if _is_linear(node)]
    for node in linear:
        node.handed = _whole
    kinds = [torch.stack(kind).sum(0) for kind in zip(*map(ZPlus.contributions, maps), strict=True)]
    for node in maps:
        node.sums = kinds
    samples, z = maps[0].samples, kinds[0] + kinds[1]
    if samples is None:
        return relevance
    wanted, got = (samples.sums(t, like=relevance) for t in (relevance, z * plus_tiny(relevance, z)))
    return samples.scale(relevance, plus_tiny(wanted, got), like=relevance)
