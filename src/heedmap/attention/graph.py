"""What autograd knows of how tensors were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor


def ancestors(*tensors: Tensor, through: Callable[[Any], bool] = lambda node: True) -> Iterator[Any]:
    """The nodes of autograd that tensors were made by, each once; what is behind a node only where ``through`` says so."""
    rest, seen = [tensor.grad_fn for tensor in tensors], set[Any]()
    while rest:
        node = rest.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if through(node):
            rest += [further for further, _ in node.next_functions]
