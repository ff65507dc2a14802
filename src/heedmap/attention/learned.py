"""Rows that no input made, from where they are looked up: latent tokens, global tokens, padding.

One that stands beside tokens as it was looked up (a class token) is a token from there on. What has been through layers before
must be one from its beginning, so that its query, its key and its value are the same token's: the model runs once more then.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from heedmap.attention import moves
from heedmap.attention.tape import _forget

REPEATS = {"expand", "expand_as", "repeat", "tile"}


class Origin(NamedTuple):
    """Which look-up made a tensor; whether it has been through anything that does more than move it."""

    lookup: int
    changed: bool


class LearnedRows:
    """What is known of tensors that no input made.

    Args:
        batch: number of samples.
        tokens: the look-ups, by their number, whose rows are tokens.

    Attributes:
        met: of the others those whose rows were found to be tokens, after they had been changed.
    """

    def __init__(self, batch: int, tokens: frozenset[int] = frozenset()) -> None:
        self.batch, self.tokens, self.met = batch, tokens, set[int]()
        self._count = 0
        self._origins: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}

    def of(self, tensor: Tensor) -> Origin | None:
        """Where a tensor's rows come from; None: not from one look-up."""
        entry = self._origins.get(id(tensor))
        return None if entry is None else entry[1]

    def begins(self, name: str, operands: Iterable[Tensor], result: Tensor) -> bool:
        """Remember what a function of this name made; whether tokens begin there."""
        begun = name == "embedding" or (name in REPEATS and result.dim() == 3 and result.shape[0] == self.batch)
        self._count += begun
        before = {origin for t in operands if (origin := self.of(t)) is not None}
        if not begun and len({origin.lookup for origin in before}) != 1:
            return False
        moved = name in moves.DATA or name in moves.SAME
        origin = Origin(self._count, False) if begun else max(before)._replace(changed=max(before).changed or not moved)
        self._origins[id(result)] = weakref.ref(result, partial(_forget, self._origins, id(result))), origin
        return begun and self._count in self.tokens and result.dim() == 3 and result.shape[0] == self.batch

    def meet(self, tensors: Iterable[Tensor]) -> None:
        """These, which stand beside each other, are tokens; of one look-up (of places) that is there twice, from here on."""
        origins = [origin for tensor in tensors if (origin := self.of(tensor)) is not None]
        times = Counter(origin.lookup for origin in origins)
        self.met |= {origin.lookup for origin in origins if origin.changed and times[origin.lookup] == 1}
