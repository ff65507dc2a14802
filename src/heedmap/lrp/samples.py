"""Sums of relevance of each sample, in tensors of whatever layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor


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
