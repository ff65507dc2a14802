"""Backward passes: autograd's own account of a graph, the products of a whole pass at once, many scalars of one output."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

T = TypeVar("T")


def reached(starts: Iterable[T], onward: Callable[[T], Iterable[T]]) -> Iterator[T]:
    """All that is reached from the starts, these included, each once."""
    rest, seen = list(starts), set[T]()
    while rest:
        one = rest.pop()
        if one not in seen:
            seen.add(one)
            yield one
            rest += onward(one)


def ancestors(*tensors: Tensor, through: Callable[[Any], bool] = lambda node: True) -> Iterator[Any]:
    """The nodes of autograd that tensors were made by, each once; what is behind a node only where ``through`` says so."""

    def behind(node: Any) -> Iterable[Any]:
        return (further for further, _ in node.next_functions if further is not None) if through(node) else ()

    return reached((tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None), behind)


def pulled(
    outputs: Sequence[Tensor],
    vectors: Sequence[Callable[[], Tensor]],
    ends: Sequence[Tensor],
    keep: Sequence[Callable[[Tensor], Any]],
) -> list[Any]:
    """What is kept of the gradient of each end; None of ends that no output depends on. The graph stays.

    A vector is made when the backward pass comes to its output, and a gradient is given to ``keep`` as soon as it is whole. So
    beside the graph it takes a few tensors, however many outputs and ends there are.

    Args:
        outputs: tensors of a graph; one that is listed twice has the sum of its vectors.
        vectors: what makes the vector of each, of its shape.
        ends: leaves of the graph.
        keep: what is to be kept of the gradient of each.
    """
    kept: list[Any] = [None] * len(ends)

    def add(vector: Callable[[], Tensor], gradient: Tensor) -> Tensor:
        return gradient + vector()

    def take(place: int, gradient: Tensor | None) -> None:
        if gradient is not None:  # else the way to the end has no gradient (quantised weights)
            kept[place] = keep[place](gradient)

    with ExitStack() as hooks:
        for output, vector in zip(outputs, vectors, strict=True):
            hooks.enter_context(output.register_hook(partial(add, vector)))
        for place, end in enumerate(ends):
            hooks.enter_context(end.register_hook(partial(take, place)))
        for end in {id(end): end for end in ends}.values():
            hooks.enter_context(end.register_hook(_emptied))
        nothing = [_nothing(output) for output in outputs]
        torch.autograd.grad(outputs, ends, nothing, retain_graph=True, allow_unused=True)
    return kept


def _emptied(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else _nothing(gradient)


def _nothing(tensor: Tensor) -> Tensor:
    """Zeros in the shape of a tensor, which take no memory."""
    return tensor.new_zeros(()).expand_as(tensor)


def noises(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Normal noise in the shape, the dtype and the place of each of these tensors; not to be written to.

    One is drawn for all of a kind, and each begins one number further on: drawing for each takes as long as running the model.
    """
    longest = max((tensor.numel() for tensor in tensors), default=0) + len(tensors)
    kinds = {(tensor.dtype, tensor.device): tensor for tensor in tensors}
    drawn = {kind: tensor.new_empty(longest).normal_() for kind, tensor in kinds.items()}
    return [drawn[t.dtype, t.device][i : i + t.numel()].view(t.shape) for i, t in enumerate(tensors)]


FEW = 3
"""So few scalars are pulled back each by itself."""


class Pulls:
    """The gradients of scalars at some tensors, one scalar of each sample after the other.

    From the last attention up to the logits each row is computed by itself. So one backward pass of the sum of all scalars to the
    lowest tensor through which every way to the attentions leads (the state after the last attention) gives each row the gradient
    of its own scalar. From there each scalar needs a backward pass of its own: the head with its vocabulary, and the last layer's
    feed-forward, are left out of it.

    Args:
        logits: (batch, places, vocabulary), that the scalars were read from: of all rows, or of the last ones.
        values: (batch, steps), the scalars, attached to the graph.
        places: (batch, steps), the place of the logits that each was read from. Scalars of one sample at one place are equal.
        tensors: where the gradients are wanted.
    """

    def __init__(
        self,
        logits: Float[Tensor, "batch places vocabulary"],
        values: Float[Tensor, "batch steps"],
        places: Int[Tensor, "batch steps"],
        tensors: Sequence[Tensor],
    ) -> None:
        self.values, self.places, self.tensors = values, places.to(values.device), list(tensors)
        self.edge: GradientEdge | None = None
        self.rows: Tensor | None = None
        if values.shape[1] > FEW and self._share(logits):
            self.values = values.detach()  # what lies above the common tensor is not needed any more

    def at(self, step: int) -> tuple[Tensor | None, ...]:
        """∂(scalar ``step``)/∂(tensor) of each tensor, in its shape; None where it does not depend on it."""
        if self.edge is None or self.rows is None:
            return torch.autograd.grad(self._total(step), self.tensors, retain_graph=True, allow_unused=True)
        start = alone(self.rows, self.places[:, step])
        return torch.autograd.grad([self.edge], self.tensors, [start], retain_graph=True, allow_unused=True)

    def _share(self, logits: Tensor) -> bool:
        """Finds the lowest common tensor; without one that has the logits' places, or where rows mix, there is none."""
        last = values_once(self.values, self.places).sum()
        for node in reversed(list(cuts(logits, self.tensors))):
            edge = GradientEdge(node, 0)
            rows = torch.autograd.grad(last, [edge], retain_graph=True)[0]
            places = self.places + rows.shape[1] - logits.shape[1]
            if all(torch.equal(alone(rows, places[:, n]), self._own(edge, n)) for n in (0, places.shape[1] - 1)):
                self.edge, self.rows, self.places = edge, rows, places
            return self.edge is not None
        return False

    def _total(self, step: int) -> Tensor:
        return self.values[:, step].sum()

    def _own(self, edge: GradientEdge, step: int) -> Tensor:
        return torch.autograd.grad(self._total(step), [edge], retain_graph=True)[0]


def alone(rows: Tensor, place: Tensor) -> Tensor:
    """The row at each sample's place; all others zero."""
    samples = torch.arange(len(rows), device=rows.device)
    kept = torch.zeros_like(rows)
    kept[samples, place] = rows[samples, place]
    return kept


def values_once(values: Tensor, places: Tensor) -> Tensor:
    """The scalars, of those at one place only the first."""
    earlier = (places[:, :, None] == places[:, None]).tril(-1).any(-1)
    return values.masked_fill(earlier, 0.0)


def cuts(logits: Tensor, ends: Sequence[Tensor]) -> Iterator[Any]:
    """The nodes of the graph, from the logits down, through which every way from them to the ends leads, with their rows."""
    last = {get_gradient_edge(tensor).node for tensor in ends if tensor.requires_grad}
    below = _below(logits, last)
    asked = Counter(child for children in below.values() for child in children)
    arrived: Counter[Any] = Counter()
    ready, open_edges = [get_gradient_edge(logits).node], 0
    while ready:
        node = ready.pop()
        open_edges -= arrived.pop(node, 0)
        if node in last:
            return
        if not open_edges and _has_rows(node, logits):  # all open edges ended in it: every way leads through it
            yield node
        for child in below[node]:
            arrived[child] += 1
            open_edges += 1
            if arrived[child] == asked[child]:
                ready.append(child)


def _below(logits: Tensor, last: set[Any]) -> dict[Any, list[Any]]:
    """Each node that leads to an end, with the nodes below it that do; an edge is listed as often as it is there."""
    children = {
        node: [] if node in last else [child for child, _ in node.next_functions if child is not None]
        for node in ancestors(logits, through=lambda node: node not in last)
    }
    above: dict[Any, list[Any]] = defaultdict(list)
    for node, below in children.items():
        for child in below:
            above[child].append(node)
    leads = set(reached(last & children.keys(), above.__getitem__))
    return {node: [c for c in below if c in leads] for node, below in children.items() if node in leads}


def _has_rows(node: Any, logits: Tensor) -> bool:
    """Whether what the node made is one tensor with the samples of the logits, and at least their places, first."""
    made = node._input_metadata
    if len(made) != 1 or len(made[0].shape) <= 2:
        return False
    samples, places = made[0].shape[:2]
    return bool(samples == logits.shape[0] and places >= logits.shape[1])
