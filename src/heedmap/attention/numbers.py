"""Token numbers: which token each element of a tensor belongs to.

Every token that begins somewhere (a word, a patch, a learned token, an output row of a convolution) has a number, which also
says its sample. A tensor's companion holds the number of each of its elements, -1 where an element is of no token (padding).
Rows that a mixer makes have new numbers; where they meet other tokens elementwise (a residual), they are these tokens.

Pictures of a batch may be packed, so that nothing says which is of which sample: each is then of an owner that is not known,
until its tokens meet others in one attention.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

Ids = Int[Tensor, "..."]
NOTHING = -1


def all_of(ids: Ids) -> Ids:
    """Each number in a companion once; of axes along which it is expanded, one entry is looked at."""
    for axis in range(ids.dim()):
        if ids.stride(axis) == 0 and ids.shape[axis] > 1:
            ids = ids.narrow(axis, 0, 1)
    found = ids.unique()
    return found[found >= 0]


class Numbers:
    """All token numbers of one run.

    Attributes:
        batch: number of samples.
        owner: of each number, the sample that it is of; from ``batch`` on, an owner that was not known when it began.
        space: of each number, which call of :meth:`new` made it.
        made: how each space was made: ``"leaf"``, ``"learned"`` or ``"mixer"``.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.owner = self.space = self._same = torch.zeros(0, dtype=torch.int64)
        self.made: list[str] = []
        self._samples = torch.arange(batch)
        self._used = torch.zeros(0, dtype=torch.bool)

    def unknown(self, count: int) -> Tensor:
        """As many owners of which the samples are not known yet."""
        start = len(self._samples)
        self._samples = torch.arange(start + count).index_copy(0, torch.arange(start), self._samples)
        return torch.arange(start, start + count)

    @property
    def sample(self) -> Tensor:
        """Of each number, the sample that it is of; from ``batch`` on where that is not known."""
        return self._samples[self.owner]

    def unite(self, samples: Tensor) -> bool:
        """Makes all of these, -1 apart, one sample; False where several of them are known."""
        several = self._samples[samples[samples >= 0]].unique()
        if len(several) < 2:
            return True
        if int(several[1]) < self.batch:
            return False
        self._samples[torch.isin(self._samples, several)] = several[0]
        return True

    def new(self, sample: Tensor, made: str) -> Ids:
        """New numbers, in the shape of ``sample``, which says whose they are (-1: of no token)."""
        start, real = len(self.owner), sample >= 0
        count = int(real.sum())
        ids = torch.full(sample.shape, NOTHING, dtype=torch.int64)
        ids[real] = torch.arange(start, start + count)
        self.owner = torch.cat([self.owner, sample[real].reshape(-1).long()])
        self.space = torch.cat([self.space, torch.full((count,), len(self.made))])
        self._same = torch.cat([self._same, torch.arange(start, start + count)])
        self._used = torch.cat([self._used, torch.zeros(count, dtype=torch.bool)])
        self.made.append(made)
        return ids

    def first(self, ids: Ids) -> Ids:
        """The numbers under which the tokens first appeared."""
        return torch.where(ids < 0, NOTHING, self._same[ids.clamp(min=0)]) if len(self._same) else ids

    def of_sample(self, ids: Ids) -> Ids:
        """The sample of each number, -1 of none."""
        return torch.where(ids < 0, NOTHING, self._samples[self.owner[ids.clamp(min=0)]]) if len(self.owner) else ids

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

    def use(self, ids: Ids) -> None:
        """These tokens ask or are asked: what is added to them from now on becomes them, however old it is."""
        self._used[ids[ids >= 0]] = True

    def _is_one(self, a: Ids, b: Ids) -> bool:
        """Makes the tokens one; False where that would make several tokens of one space one, or of two samples."""
        pairs = torch.stack([torch.maximum(a, b), torch.minimum(a, b)], 1).unique(dim=0)
        new, old = pairs.T
        distinct = len(new.unique()) == len(new) and len(old.unique()) == len(old)
        apart = not bool((self.space[new] == self.space[old]).any())
        samples = torch.stack([self.of_sample(new), self.of_sample(old)], 1).unique(dim=0)
        if not distinct or not apart or not all(map(self.unite, samples)):
            return False
        added = self._used[new] & ~self._used[old] & self._is_made(old)
        new, old = torch.where(added, old, new), torch.where(added, new, old)
        to = torch.arange(len(self._same))
        to[new] = old
        self._same = to[self._same]
        return True

    def _is_made(self, ids: Ids) -> Tensor:
        """Which numbers are of rows that a mixer made."""
        return torch.tensor([made == "mixer" for made in self.made])[self.space[ids]]
