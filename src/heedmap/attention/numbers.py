"""Token numbers: which token each element of a tensor belongs to.

Every token that begins somewhere (a word, a patch, a learned token, an output row of a convolution) has a number, which also
says its sample. A tensor's companion holds the number of each of its elements, -1 where an element is of no token (padding).
Rows that a mixer makes have new numbers; where they meet other tokens elementwise (a residual), they are these tokens.

Pictures of a batch may be packed, so that nothing says which is of which sample: each is then of an owner that is not known,
until its tokens meet others in one attention.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Ids = Int[Tensor, "..."]
NOTHING = -1
LARGE = 4096
"""Companions with more numbers are made smaller before they are kept or sorted, where that is quick."""


def all_of(ids: Ids) -> Ids:
    """Each number in a companion once."""
    (ids,) = once(ids) if ids.numel() <= LARGE else thinned(ids)
    found = ids.unique()
    return found[1:] if len(found) and int(found[0]) < 0 else found


class Numbers:
    """All token numbers of one run.

    Attributes:
        batch: number of samples.
        owner: of each number, the sample that it is of; from ``batch`` on, an owner that was not known when it began.
        space: of each number, which call of :meth:`new` made it.
        made: how each space was made: ``"leaf"``, ``"learned"`` or ``"mixer"``.
        changes: how often numbers were made, or became others.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.owner = self.space = torch.zeros(0, dtype=torch.int64)
        self._same = torch.tensor([NOTHING])  # of each number the first of its token; the last entry is that of -1
        self.made: list[str] = []
        self.changes = 0
        self._samples = torch.arange(batch)
        self._used = torch.zeros(0, dtype=torch.bool)
        self._before = torch.zeros(0, dtype=torch.int64)
        self._beside = set[int]()

    def unknown(self, count: int) -> Tensor:
        """As many owners of which the samples are not known yet."""
        start = len(self._samples)
        self._samples = torch.arange(start + count).index_copy(0, torch.arange(start), self._samples)
        return torch.arange(start, start + count)

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
        self.changes += 1
        start, real = len(self.owner), sample >= 0
        owner = sample[real].long()
        count = len(owner)
        fresh = torch.arange(start, start + count)
        ids = torch.full(sample.shape, NOTHING).masked_scatter_(real, fresh)
        self.owner = torch.cat([self.owner, owner])
        self.space = torch.cat([self.space, torch.full((count,), len(self.made))])
        self._same = torch.cat([self._same[:-1], fresh, self._same[-1:]])
        self._used = torch.cat([self._used, torch.zeros(count, dtype=torch.bool)])
        self._before = torch.cat([self._before, torch.full((count,), NOTHING)])
        self.made.append(made)
        return ids

    def of_samples(self, samples: Int[Tensor, " entries"], shape: Sequence[int], made: str) -> Ids:
        """New numbers in a shape, of which each entry of the first axis is of one sample."""
        return self.new(samples.reshape(-1, *[1] * (len(shape) - 1)).expand(shape), made)

    def first(self, ids: Ids) -> Ids:
        """The numbers under which the tokens first appeared."""
        return each(self._same.__getitem__, ids)

    def of_sample(self, ids: Ids) -> Ids:
        """The sample of each number, -1 of none."""
        if not len(self.owner):
            return ids
        return each(lambda n: torch.where(n < 0, NOTHING, self._samples[self.owner[n]]), ids)

    def joined(self, a: Ids, b: Ids) -> Ids | None:
        """The companion of two that meet elementwise; None: different tokens meet. Rows that were new become the others."""
        a, b = torch.broadcast_tensors(a, b)
        if are_one(a, b):
            return a
        small = once(a, b)
        if torch.equal(*small):
            return a
        one, other = map(self.first, small)
        both = (one >= 0) & (other >= 0) & (one != other)
        if bool(both.any()) and (new := self._instead(one, other, both)) is not None:
            return new.expand(a.shape)
        if bool(both.any()) and not self._is_one(one[both], other[both]):
            return None
        if not bool(((one < 0) & (other >= 0)).any()):
            return a
        return torch.where(one < 0, small[1], small[0]).expand(a.shape)

    def renew(self, new: Ids, old: Ids) -> None:
        """Each of these tokens stands in the place of an old one: where the old one is added again, it stays the new one."""
        self._before[new[new >= 0]] = self.first(old[new >= 0])

    def stand_beside(self, new: Ids) -> bool:
        """Whether to any of these tokens, which stand in the place of old ones, the old ones were added again."""
        return not self._beside.isdisjoint(self.space[new[new >= 0]].tolist())

    @property
    def renewed(self) -> tuple[Ids, Ids]:
        """The tokens that stand in the place of others, and these."""
        (new,) = (self._before >= 0).nonzero(as_tuple=True)
        return new, self.first(self._before[new])

    def _instead(self, one: Ids, other: Ids, differ: Tensor) -> Ids | None:
        """The new tokens, where new and old ones meet; None: others meet."""
        for new, old in ((one, other), (other, one)):
            if bool((self.first(self._before[new[differ]]) == old[differ]).all()):
                self._beside |= set(self.space[new[differ]].unique().tolist())
                return torch.where(new < 0, old, new)
        return None

    def is_copied(self, a: Ids, b: Ids) -> bool:
        """Whether ``a`` are copies of tokens, each beside several tokens of ``b``, of which each stands beside one."""
        one, other = map(self.first, once(*torch.broadcast_tensors(a, b)))
        real = (one >= 0) & (other >= 0)
        copies, to = distinct(torch.stack([one[real], other[real]], 1))[0].T
        same = self.of_sample(copies) == self.of_sample(to)
        return len(copies.unique()) < len(copies) == len(to.unique()) and bool((same & (copies != to)).all())

    def use(self, ids: Ids) -> None:
        """These tokens ask or are asked: what is added to them from now on becomes them, however old it is."""
        self._used[ids[ids >= 0]] = True

    def are_used(self, ids: Ids) -> bool:
        """Whether any of these tokens asked, or was asked."""
        return bool(self._used[self.first(all_of(ids))].any())

    def _is_one(self, a: Ids, b: Ids) -> bool:
        """Makes the tokens one; False where that would make several tokens of one space one, or of two samples."""
        new, old = distinct(torch.stack([torch.maximum(a, b), torch.minimum(a, b)], 1))[0].T
        once = len(new.unique()) == len(new) and len(old.unique()) == len(old)
        apart = not bool((self.space[new] == self.space[old]).any())
        samples = distinct(torch.stack([self.of_sample(new), self.of_sample(old)], 1))[0]
        if not once or not apart or not all(map(self.unite, samples)):
            return False
        added = self._used[new] & ~self._used[old] & self.are_made(old, "mixer")
        new, old = torch.where(added, old, new), torch.where(added, new, old)
        to = torch.arange(len(self._same))
        to[-1], to[new] = NOTHING, old
        self.changes += 1
        self._same = to[self._same]
        return True

    def are_alone(self, ids: Ids) -> bool:
        """Whether no other token became one of these."""
        became = self._same[:-1][self._same[:-1] != torch.arange(len(self.owner))]
        return not bool(torch.isin(became, ids).any())

    def are_made(self, ids: Ids, how: str) -> Tensor:
        """Which numbers are of spaces that were made so."""
        return torch.tensor([made == how for made in self.made])[self.space[ids]]


def each(function: Callable[[Tensor], Tensor], ids: Ids) -> Tensor:
    """What an elementwise function gives for ``ids``, computed once along axes along which they are expanded."""
    (small,) = once(ids)
    return function(small) if small is ids else function(small).expand(ids.shape)


def once(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one shape, with the first entry only of axes along which all of them are expanded."""
    given = list(tensors)
    for axis, size in enumerate(given[0].shape):
        if size > 1 and all([t.stride(axis) == 0 for t in given]):
            given = [t.narrow(axis, 0, 1) for t in given]
    return given


def are_one(a: Ids, b: Ids) -> bool:
    """Whether two companions of one shape are one in memory."""
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def stored(ids: Ids) -> int:
    """How many numbers there are without the axes along which they are expanded."""
    return math.prod([size for size, stride in zip(ids.shape, ids.stride(), strict=True) if stride])


def compact(ids: Ids) -> Ids:
    """``ids``, expanded along all axes along which they are the same throughout."""
    (small,) = once(ids)
    for axis, size in enumerate(small.shape):
        first, last = (small.narrow(axis, at, min(size, 1)) for at in (0, max(0, size - 1)))
        if size > 1 and torch.equal(first, last) and bool((small == first).all()):
            small = first
    return small.expand(ids.shape)


def runs(axis: int, *several: Ids) -> Int[Tensor, " starts"]:
    """Where along an axis companions of one shape differ from what stands before, anywhere; with its beginning."""
    size = several[0].shape[axis]
    differs = torch.zeros(size, dtype=torch.bool)
    differs[:1] = True
    for ids in several:
        if size > 1 and ids.stride(axis) != 0:
            changes = ids.narrow(axis, 1, size - 1) != ids.narrow(axis, 0, size - 1)
            differs[1:] |= changes.movedim(axis, 0).unsqueeze(-1).flatten(1).any(1)
    return differs.nonzero()[:, 0]


def thinned(*several: Ids) -> list[Ids]:
    """Companions of one shape without what in all of them is as what stands before it."""
    found = once(*several)
    for axis in range(found[0].dim()):
        starts = runs(axis, *found)
        found = [ids.index_select(axis, starts) for ids in found] if len(starts) < found[0].shape[axis] else found
    return found


def distinct(rows: Int[Tensor, "rows columns"]) -> tuple[Int[Tensor, "distinct columns"], Int[Tensor, " rows"]]:
    """The different rows of whole numbers from -1, in order, and which of them each row is.

    As ``rows.unique(dim=0, return_inverse=True)``, which compares rows one by one and takes many times as long: here as many
    columns as fit into one number are sorted at once.
    """
    which, span = rows.new_zeros(len(rows)), int(rows.max()) + 2 if rows.numel() else 1
    told, columns, at = rows[:1], rows.shape[1], 0
    fits = max(1, int((62 - len(rows).bit_length()) / math.log2(max(2, span))))
    while at < columns:
        for column in rows.T[at : at + fits]:
            which = which * span + column + 1
        which, before, at = which.unique(return_inverse=True)[1], at // fits, min(at + fits, columns)
        if before & (before + 1) == 0 or at == columns:  # most are told apart by their first columns
            last = which.new_zeros(int(which.max()) + 1 if len(which) else 0)
            last[which] = torch.arange(len(rows), device=rows.device)
            told = rows[last]
            if at < columns and torch.equal(told[which], rows):
                break
    return told, which


def rows_reached(rows: Ids, reached: Bool[Tensor, ...], batch: int, tokens: int) -> Bool[Tensor, "batch tokens"]:
    """Which rows of a stream have an element that is reached; ``rows``: sample · tokens + row of each element, -1: none."""
    for axis, size in enumerate(rows.shape):
        if size > 1 and rows.stride(axis) == 0:
            rows, reached = rows.narrow(axis, 0, 1), reached.any(axis, keepdim=True)
    found = torch.zeros(batch * tokens + 1, dtype=torch.bool, device=reached.device)
    found[rows.to(reached.device)[reached]] = True
    return found[:-1].reshape(batch, tokens)


# -- what is kept of tensors ------------------------------------------------------------------------------------------

T = TypeVar("T")


class OfTensors(Generic[T]):
    """What is known of each of some tensors, for as long as these live."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[Tensor], T]] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        return id(tensor) in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def __setitem__(self, tensor: Tensor, known: T) -> None:
        key, kept = id(tensor), self._kept
        kept[key] = weakref.ref(tensor, lambda _: kept.pop(key, None)), known

    def get(self, tensor: Tensor) -> T | None:
        """Of a tensor; None: nothing is known."""
        entry = self._kept.get(id(tensor))
        return None if entry is None else entry[1]

    def forget(self, tensor: Tensor) -> None:
        """Nothing is known of a tensor from now on."""
        self._kept.pop(id(tensor), None)
