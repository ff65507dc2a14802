"""Token numbers: which token each element of a tensor belongs to.

Every token that begins somewhere (a word, a patch, a learned token, an output row of a convolution) has a number, which also
says its sample. A tensor's companion holds the number of each of its elements, -1 where an element is of no token (padding).
Rows that a mixer makes have new numbers; where they meet other tokens elementwise (a residual), they are these tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

Ids = Int[Tensor, "..."]
NOTHING = -1


class Numbers:
    """All token numbers of one run.

    Attributes:
        batch: number of samples.
        sample: of each number, the sample that it is of.
        space: of each number, which call of :meth:`new` made it.
        made: how each space was made: ``"leaf"``, ``"learned"`` or ``"mixer"``.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.sample = self.space = self._same = torch.zeros(0, dtype=torch.int64)
        self.made: list[str] = []

    def new(self, sample: Tensor, made: str) -> Ids:
        """New numbers, in the shape of ``sample``, which says whose they are (-1: of no token)."""
        start, real = len(self.sample), sample >= 0
        count = int(real.sum())
        ids = torch.full(sample.shape, NOTHING, dtype=torch.int64)
        ids[real] = torch.arange(start, start + count)
        self.sample = torch.cat([self.sample, sample[real].reshape(-1).long()])
        self.space = torch.cat([self.space, torch.full((count,), len(self.made))])
        self._same = torch.cat([self._same, torch.arange(start, start + count)])
        self.made.append(made)
        return ids

    def first(self, ids: Ids) -> Ids:
        """The numbers under which the tokens first appeared."""
        return torch.where(ids < 0, NOTHING, self._same[ids.clamp(min=0)]) if len(self._same) else ids

    def of_sample(self, ids: Ids) -> Ids:
        """The sample of each number, -1 of none."""
        return torch.where(ids < 0, NOTHING, self.sample[ids.clamp(min=0)]) if len(self.sample) else ids

    def joined(self, a: Ids, b: Ids) -> Ids | None:
        """The companion of two that meet elementwise; None: different tokens meet. Rows that were new become the others."""
        a, b = torch.broadcast_tensors(a, b)
        if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
            return a
        one, other = self.first(a), self.first(b)
        both = (one >= 0) & (other >= 0) & (one != other)
        if bool(both.any()) and not self._is_one(one[both], other[both]):
            return None
        return a if not bool(((one < 0) & (other >= 0)).any()) else torch.where(one < 0, b, a)

    def _is_one(self, a: Ids, b: Ids) -> bool:
        """Makes the tokens one; False where that would make several tokens of one space one, or of two samples."""
        pairs = torch.stack([torch.maximum(a, b), torch.minimum(a, b)], 1).unique(dim=0)
        new, old = pairs.T
        distinct = len(new.unique()) == len(new) and len(old.unique()) == len(old)
        apart = not bool((self.space[new] == self.space[old]).any())
        if not distinct or not apart or bool((self.sample[new] != self.sample[old]).any()):
            return False
        to = torch.arange(len(self._same))
        to[new] = old
        self._same = to[self._same]
        return True
