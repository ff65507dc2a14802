"""Vector–Jacobian products of a whole pass, of which neither the vectors nor the products are all there at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor


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

    hooks = [output.register_hook(partial(add, vector)) for output, vector in zip(outputs, vectors, strict=True)]
    hooks += [end.register_hook(partial(take, place)) for place, end in enumerate(ends)]
    hooks += [end.register_hook(_emptied) for end in {id(end): end for end in ends}.values()]
    try:
        nothing = [_nothing(output) for output in outputs]
        torch.autograd.grad(outputs, ends, nothing, retain_graph=True, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def _emptied(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else _nothing(gradient)


def _nothing(tensor: Tensor) -> Tensor:
    """Zeros in the shape of a tensor, which take no memory."""
    return tensor.new_zeros(()).expand_as(tensor)
