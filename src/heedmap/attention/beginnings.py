"""Where tokens begin that are no rows of an input: learned rows, copies that are tokens of their own, what a tower made.

A run is told where they begin, and finds out more; what it finds the next run is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from heedmap.attention import moves
from heedmap.attention.backward import reached
from heedmap.attention.numbers import Ids, OfTensors, distinct, once

Own = frozenset[tuple[int, int]]
"""Calls by their number, each with an axis of its result along which copies are tokens of their own."""


class Begun(NamedTuple):
    """Where tokens begin.

    Attributes:
        tokens: leaves, by their index among the sources, after which convolutions are mixers; else those before the first
            attention belong to what its tokens begin with.
        learned: look-ups, by their number, of which the rows are tokens.
        properties: leaves that say of tokens when or where they are, and are none themselves.
        renewed: attentions, by the number of calls before them, whose rows are new tokens: they have no residual connection.
        parted: those from which on copies of tokens are tokens of their own: they go separate ways.
        copied: where copies are tokens of their own.
        copies: whether attention is given copies of what it reads, because the model writes to that in place later.
    """

    tokens: frozenset[int] = frozenset()
    learned: frozenset[int] = frozenset()
    properties: frozenset[int] = frozenset()
    renewed: frozenset[int] = frozenset()
    parted: frozenset[int] = frozenset()
    copied: Own = frozenset()
    copies: bool = False


# -- learned rows -----------------------------------------------------------------------------------------------------


class Origin(NamedTuple):
    """Which look-up made a tensor; whether it has been through anything that does more than move it."""

    lookup: int
    changed: bool


REPEATS = {"expand", "expand_as", "repeat", "tile"}
"""Functions that give each sample the learned rows."""


class LearnedRows:
    """Tensors that no input made, from where they are looked up: latent tokens, global tokens, padding.

    One that stands beside tokens as it was looked up (a class token) is a token from there on. What has been through layers
    before must be one from its beginning, so that its query, its key and its value are the same token's: the model runs once more
    then.

    Args:
        batch: number of samples.
        tokens: the look-ups, by their number, whose rows are tokens.

    Attributes:
        met: of the others those whose rows were found to be tokens, after they had been changed.
    """

    def __init__(self, batch: int, tokens: frozenset[int]) -> None:
        self.batch, self.tokens, self.met = batch, tokens, set[int]()
        self._count = 0
        self._origins = OfTensors[Origin]()

    def of(self, tensor: Tensor) -> Origin | None:
        """Where a tensor's rows come from; None: not from one look-up."""
        return self._origins.get(tensor)

    def begins(self, name: str, operands: Iterable[Tensor], result: Tensor) -> bool:
        """Remember what a function of this name made; whether tokens begin there."""
        begun = name == "embedding" or (name in REPEATS and result.dim() == 3 and result.shape[0] == self.batch)
        self._count += begun
        before = {origin for t in operands if (origin := self.of(t)) is not None}
        if not begun and len({origin.lookup for origin in before}) != 1:
            return False
        moved = name in moves.DATA or name in moves.SAME
        last = Origin(self._count, False) if begun else max(before)
        self._origins[result] = last if begun or moved else last._replace(changed=True)
        return begun and self._count in self.tokens and result.dim() == 3 and result.shape[0] == self.batch

    def meet(self, tensors: Iterable[Tensor]) -> None:
        """These, which stand beside each other, are tokens; of one look-up (of places) that is there twice, from here on."""
        origins = [origin for tensor in tensors if (origin := self.of(tensor)) is not None]
        times = Counter(origin.lookup for origin in origins)
        self.met |= {origin.lookup for origin in origins if origin.changed and times[origin.lookup] == 1}


# -- copies -----------------------------------------------------------------------------------------------------------


DRAWS = 6
"""Of so many rows of a token it is looked where they were copied."""
COPIES = {*moves.DATA, *moves.LISTS, *moves.MEETS}
"""Functions that may copy tokens."""


class Copies:
    """The calls of a run that copied tokens, and which copies ask in one attention: each of these is a token of its own.

    Object queries that are one token again and again are so. Where they were made is looked for by autograd; in the next run they
    are what a mixer makes there of the token.

    Args:
        own: where copies are tokens of their own.

    Attributes:
        found: where they should be, since a token asks twice.
    """

    def __init__(self, own: Own) -> None:
        self.own, self.found = own, set[tuple[int, int]]()
        self._count = 0
        self._made: list[tuple[int, Tensor]] = []

    def call(self, name: str, operands: Iterable[Tensor], result: object) -> int | None:
        """The number of a call whose result has more elements than one of its operands; the same in each run."""
        if name not in COPIES or not isinstance(result, Tensor):
            return None
        if result.numel() <= min((t.numel() for t in operands), default=result.numel()):
            return None
        self._count += 1
        return self._count

    def keep(self, call: int, result: Tensor) -> None:
        """Remember what a call made of tokens."""
        self._made.append((call, result))

    def places(self, call: int, ids: Ids) -> Ids | None:
        """For each element which copy it is, where copies are tokens of their own, in the shape of ``ids``, their companion.

        None: they are none, or there are tokens among them that have no copy.
        """
        place: Ids = torch.zeros(1, dtype=torch.int64)
        for axis, size in enumerate(ids.shape):
            if (call, axis) in self.own:
                place = place * size + torch.arange(size).reshape(-1, *[1] * (ids.dim() - 1 - axis))
        if place.numel() < 2:
            return None
        place = place.expand(ids.shape)
        pairs = distinct(torch.stack(once(ids, place), -1).flatten(0, -2))[0]
        _, counts = pairs[pairs[:, 0] >= 0, 0].unique(return_counts=True)
        return place if bool((counts > 1).all()) else None

    def look(self, asks: Tensor, sides: Sequence[Tensor], queries: Ids) -> None:
        """Note where the copies of a token that asks in several rows were made.

        Args:
            asks: (…, rows, features) or, where there are ``sides``, (…, rows, keys) that is made of them.
            sides: what asks is one of them: that of which a row depends on least.
            queries: the tokens that ask, (entries, rows).
        """
        if not asks.requires_grad:
            return
        ordered = queries.sort(-1).values
        again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        entry = int(again.any(1).nonzero()[0])
        rows = (queries[entry] == ordered[entry, 1:][again[entry]][0]).nonzero()[:, 0]
        alike = (queries == queries[entry]).all(1).to(asks.device)  # the heads, and copies of the row in the batch
        drawn = [self._reached(asks, sides, alike, int(row)) for row in rows[torch.randperm(len(rows))[:DRAWS]]]
        for call, result in self._made:
            for axis in range(result.dim()):
                indices = [of_row.get((call, axis)) for of_row in drawn]
                if None not in indices and len(set(indices)) > 1:
                    self.found.add((call, axis))

    def _reached(self, asks: Tensor, sides: Sequence[Tensor], alike: Tensor, row: int) -> dict[tuple[int, int], int]:
        """The one index, on an axis of what a call made, on which this row depends; where there is one."""
        chosen = torch.zeros_like(asks).flatten(0, -3)
        chosen[alike, row] = torch.randn_like(chosen[alike, row])
        asks, chosen = _least(asks, sides, chosen.reshape(asks.shape))
        gradients = torch.autograd.grad(asks, [t for _, t in self._made], chosen, retain_graph=True, allow_unused=True)
        found = dict[tuple[int, int], int]()
        for (call, result), gradient in zip(self._made, gradients, strict=True):
            for axis in range(result.dim()) if gradient is not None else ():
                (index,) = (gradient != 0).movedim(axis, 0).flatten(1).any(1).nonzero(as_tuple=True)
                if len(index) == 1:
                    found[call, axis] = int(index)
        return found


def _least(asks: Tensor, sides: Sequence[Tensor], chosen: Tensor) -> tuple[Tensor, Tensor]:
    """What asks, and a gradient of it, of its elements on which the chosen ones depend."""
    of = [side for side in sides if side.requires_grad]
    if not of:
        return asks, chosen
    gradients = torch.autograd.grad(asks, of, chosen, retain_graph=True, allow_unused=True)
    depends = [(side, g != 0) for side, g in zip(of, gradients, strict=True) if g is not None and bool(g.any())]
    side, where = min(depends, key=lambda pair: float(pair[1].double().mean()))
    return side, torch.randn_like(side) * where


# -- ends of towers ---------------------------------------------------------------------------------------------------

Step = tuple[frozenset[int], int]
"""The sources of what a step made, and its number among the steps that made something of these."""


class Steps:
    """What a tower that is not followed did in one run, step by step: where the keys and values that other content asks for part.

    A decoder that asks a tower's tokens makes keys and values of them, layer by layer, of the tower's tokens alone. So the tokens
    meet no other content before the attention, and end nowhere. The latest step from which all these keys and values come made
    the tokens that are asked; in the next run, the tower ends there.

    Args:
        ends: steps at which towers end.
    """

    def __init__(self, ends: frozenset[Step] = frozenset()) -> None:
        self.ends = ends
        self._counts: Counter[frozenset[int]] = Counter()
        self._before: dict[Step, frozenset[Step]] = {}
        self._asked: dict[Step, None] = {}

    def made(self, sources: frozenset[int], of: Iterable[Step | None]) -> Step:
        """The next step: it made something of what other steps had made."""
        self._counts[sources] += 1
        step = sources, self._counts[sources]
        self._before[step] = frozenset(s for s in of if s is not None)
        return step

    def ask(self, made: Iterable[Step | None]) -> None:
        """Other content asks for what these steps made."""
        self._asked.update((step, None) for step in made if step is not None)

    def parting(self) -> frozenset[Step]:
        """For each tower, or several together, the latest step from which all that is asked for comes."""
        histories: dict[frozenset[int], list[set[Step]]] = {}
        for step in self._asked:
            histories.setdefault(step[0], []).append(set(reached([step], self._before.__getitem__)))
        shared = [set.intersection(*of_tower) for of_tower in histories.values()]
        latest = (next((step for step in reversed(self._before) if step in steps), None) for steps in shared)
        return frozenset(step for step in latest if step is not None)
