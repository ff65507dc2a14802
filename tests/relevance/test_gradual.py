"""Gradients of a whole pass, one after the other: they are those of one call of autograd, and few are there at once."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from heedmap.attention.backward import pulled

LAYERS = 12


def passed() -> tuple[list[Tensor], list[Tensor]]:
    """Leaves, and what was read of all those before; the first leaf is read in each layer."""
    torch.manual_seed(0)
    leaves, read = [torch.randn(3, 5, dtype=torch.float64, requires_grad=True)], []
    state = leaves[0].clone()
    for _ in range(LAYERS):
        read.append(torch.sin(state))
        leaves.append(torch.randn(3, 5, dtype=torch.float64, requires_grad=True))
        state = state * leaves[-1] + leaves[0]
    return leaves, read


def test_they_are_those_of_autograd() -> None:
    leaves, read = passed()
    outputs, ends = [*read, read[3]], [*leaves, leaves[1]]
    vectors = [torch.randn_like(output) for output in outputs]
    expected = torch.autograd.grad(outputs, ends, vectors, retain_graph=True, allow_unused=True)
    found = pulled(outputs, [partial(torch.Tensor.clone, v) for v in vectors], ends, [torch.Tensor.clone] * len(ends))
    assert expected[LAYERS] is None
    for gradient, wanted in zip(found, expected, strict=True):
        assert (gradient is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-12)
    assert all(leaf.grad is None for leaf in leaves)
    assert all(not tensor._backward_hooks for tensor in (*outputs, *ends))


def test_a_gradient_is_whole_before_the_next_vector_of_an_earlier_layer_is_made() -> None:
    leaves, read = passed()
    order: list[tuple[str, int]] = []

    def vector(layer: int) -> Tensor:
        order.append(("vector", layer))
        return torch.ones(3, 5, dtype=torch.float64)

    def keep(layer: int, gradient: Tensor) -> None:
        order.append(("gradient", layer))

    pulled(read, [partial(vector, n) for n in range(LAYERS)], leaves, [partial(keep, n) for n in range(LAYERS + 1)])
    for layer in range(1, LAYERS):
        assert order.index(("vector", layer)) < order.index(("gradient", layer)) < order.index(("vector", layer - 1))
    assert order[-1] == ("gradient", 0)
