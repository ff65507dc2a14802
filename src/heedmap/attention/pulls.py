"""Gradients of many scalars of one output, each at a row of its own: what lies above the last mixing is pulled back once for all.

From the last attention up to the logits each row is computed by itself. So one backward pass of the sum of all scalars to the
lowest tensor through which every way to the attentions leads (the state after the last attention) gives each row the gradient of
its own scalar. From there each scalar needs a backward pass of its own: the head with its vocabulary, and the last layer's
feed-forward, are left out of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

FEW = 3
"""So few scalars are pulled back each by itself."""


class Pulls:
    """The gradients of scalars at some tensors, one scalar of each sample after the other.

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
    start = get_gradient_edge(logits).node
    below = _below(start, last)
    asked = Counter(child for children in below.values() for child in children)
    arrived: Counter[Any] = Counter()
    ready, open_edges = [start], 0  # where all open edges end in one node, every way leads through it
    while ready:
        node = ready.pop()
        open_edges -= arrived.pop(node, 0)
        if node in last:
            return
        if not open_edges and _has_rows(node, logits):
            yield node
        for child in below[node]:
            arrived[child] += 1
            open_edges += 1
            if arrived[child] == asked[child]:
                ready.append(child)


def _below(start: Any, last: set[Any]) -> dict[Any, list[Any]]:
    """Each node that leads to an end, with the nodes below it that do; an edge is listed as often as it is there."""
    children: dict[Any, list[Any]] = {}
    rest = [start]
    while rest:
        node = rest.pop()
        if node in children:
            continue
        children[node] = [] if node in last else [child for child, _ in node.next_functions if child is not None]
        rest.extend(children[node])
    leads = set(last)
    for node in _lowest_first(start, children):
        if any(child in leads for child in children[node]):
            leads.add(node)
    return {node: [c for c in below if c in leads] for node, below in children.items() if node in leads}


def _lowest_first(start: Any, children: dict[Any, list[Any]]) -> list[Any]:
    """The nodes, each after all below it."""
    order, seen, stack = [], set(), [(start, iter(children[start]))]
    seen.add(start)
    while stack:
        node, rest = stack[-1]
        child = next((c for c in rest if c not in seen), None)
        if child is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(child)
            stack.append((child, iter(children[child])))
    return order


def _has_rows(node: Any, logits: Tensor) -> bool:
    """Whether what the node made is one tensor with the samples of the logits, and at least their places, first."""
    made = node._input_metadata
    if len(made) != 1 or len(made[0].shape) <= 2:
        return False
    samples, places = made[0].shape[:2]
    return bool(samples == logits.shape[0] and places >= logits.shape[1])
