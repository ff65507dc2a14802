"""A region of the forward pass, in which tokens mix in many small steps, and the mixer that is found in it.

A scan over time, a product of chunks or a triangular solve mixes tokens step by step, and no step is a mixer by itself. Each is a
node; the region's result is the first tensor through which everything that its steps mixed goes on. It is linear in some of what
goes in, all else taken as given.

State-space layers, gated linear recurrences, delta rules: o_i = Σ_j c_ij, c_ij = C_i (Π_{j<t≤i} A_t) B_j x_j (Gu and Dao,
arXiv 2312.00752; Dao and Gu, arXiv 2405.21060). The values are found by what they do: o is linear in them, they carry
tokens to other rows, and nothing of o is left without them. ⟨∂y/∂o_i, c_ij⟩ is x_j · ∂⟨∂y/∂o_i, o_i⟩/∂x_j over their elements,
one product with a Jacobian for each row, in blocks of rows.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from heedmap.attention.backward import reached
from heedmap.attention.mixers import Mixer
from heedmap.attention.moves import is_constant_along
from heedmap.attention.numbers import Ids, Numbers, are_one, once

Key = tuple[object, ...]
"""Where in the model's source a tensor goes into a region: the same for all turns of a loop."""


class Entry(NamedTuple):
    """A tensor whose elements are of one token each, where it goes into a region.

    Attributes:
        key: where in the source.
        tensor: a copy for this one use, so that a gradient to it is by this way only.
        given: the model's own tensor.
        ids: companion, in the tensor's shape; None: a matrix of two tokens each.
        read: what of the model it was made of, of one token each, with their companions: for the proof.
        sources: of the tensor.
    """

    key: Key
    tensor: Tensor
    given: Tensor
    ids: Ids | None
    read: tuple[tuple[Tensor, Ids], ...]
    sources: frozenset[int]


@dataclass(eq=False)
class Node:
    """One step of a region.

    Attributes:
        order: number of the call, and of the result among several.
        parents: the steps whose results it takes.
        entries: what else it takes of tokens.
        mixes: whether tokens meet in it.
        kind: ``"add"``, ``"move"``, ``"write"`` (in place) or ``""``.
        labels: of its result's elements, the row that they are of; -1: of none, or of many.
        pieces: the connected pieces of mixing that it is made of.
        heads: of a softmax over tokens that it makes or takes; None: of none.
        result: kept only while a region's end is looked for.
    """

    order: tuple[int, int]
    parents: tuple[Node, ...]
    entries: tuple[Entry, ...]
    mixes: bool
    kind: str
    labels: Ids
    pieces: frozenset[int]
    heads: int | None = None
    result: Tensor | None = None

    def before(self) -> list[Node]:
        """The node and all those that it is made of, in order."""
        return sorted(reached([self], lambda node: node.parents), key=lambda node: node.order)


class Mixed(NamedTuple):
    """Companion of a tensor within a region: the row that each element is of, of a matrix also the other; -1: not of one."""

    one: Ids
    other: Ids | None
    node: Node


class Pieces:
    """Which pieces of mixing have become one, by their numbers."""

    def __init__(self) -> None:
        self._same: list[int] = []

    def new(self) -> int:
        """A new piece."""
        self._same.append(len(self._same))
        return self._same[-1]

    def first(self, pieces: Iterable[int]) -> frozenset[int]:
        """The numbers that these pieces now have."""
        return frozenset(map(self._root, pieces))

    def joined(self, pieces: Iterable[int]) -> int:
        """One piece of all these."""
        roots = sorted(self.first(pieces))
        for root in roots[1:]:
            self._same[root] = roots[0]
        return roots[0]

    def _root(self, piece: int) -> int:
        while self._same[piece] != piece:
            piece = self._same[piece]
        return piece


def result_of(nodes: Sequence[Node], piece: int, pieces: Pieces) -> Node | None:
    """The first node through which all goes on that a piece of mixing made, among those before a region's end, in order."""
    last = {id(parent): node.order for node in nodes for parent in node.parents}
    tainted = [node for node in nodes if piece in pieces.first(node.pieces)]
    mixing = max(node.order for node in tainted if node.mixes)
    open_until = (-1, 0)
    for node in tainted:
        if node.order >= mixing and open_until <= node.order:
            return node
        open_until = max(open_until, last.get(id(node), (-1, 0)))
    return None


def with_own(node: Node, nodes: Sequence[Node]) -> Node:
    """The result with what is added to it of the same tokens (D x), before anything else is done with it."""
    found, at = node, node
    own = frozenset[int]().union(*(e.sources for n in node.before() for e in n.entries))
    while True:
        readers = [n for n in nodes if any(p is at for p in n.parents)]
        if len(readers) != 1 or readers[0].kind not in ("add", "move") or len(readers[0].parents) != 1:
            return found
        at = readers[0]
        if any(not e.sources <= own for e in at.entries):
            return found
        found = at if at.kind == "add" else found


def meet(numbers: Numbers, a: Ids, b: Ids) -> bool:
    """Whether different tokens that were made together stand at the same place."""
    a, b = torch.broadcast_tensors(a, b)
    if are_one(a, b):
        return False
    one, other = map(numbers.first, once(a, b))
    both = (one >= 0) & (other >= 0) & (one != other)
    return bool(both.any()) and bool((numbers.space[one[both]] == numbers.space[other[both]]).any())


def filled(a: Ids, b: Ids) -> Ids:
    """``a``; where it is of no row, ``b``."""
    a, b = torch.broadcast_tensors(a, b)
    if are_one(a, b):
        return a
    one, other = once(a, b)
    return torch.where(one < 0, other, one).expand(a.shape)


def later(a: Ids, b: Ids) -> Ids:
    """Of two companions whose tokens differ that of the one that lacks none; else the later token."""
    a, b = torch.broadcast_tensors(a, b)
    holes = [bool((x < 0).any()) for x in (a, b)]
    if holes[0] != holes[1]:
        return b if holes[0] else a
    return torch.maximum(a, b)


# -- the mixer --------------------------------------------------------------------------------------------------------


MOST = 5
"""How many places in the source the values of one region may come from."""
DRAWS = 3
TOLERANCE = 2e-4
"""Of sums, relative to what is summed: scans are often computed in float32 whatever the model's dtype."""


@dataclass(eq=False)
class Scan(Mixer):
    """A mixer that is a region.

    Attributes:
        entries: its values, each with the numbers of its tokens.
        made: its output, in the graph in which the values are.
    """

    entries: tuple[tuple[Tensor, Ids], ...] = ()
    made: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def rebuilt_from(self) -> list[Tensor | None]:
        """Its values."""
        return [tensor for tensor, _ in self.entries]

    @property
    def cells(self) -> int:
        """Numbers of Ā."""
        return self.batch * self.queries * self.keys

    @property
    def row(self) -> int:
        """Numbers that one row takes while it is computed."""
        return sum(t.numel() for t, _ in self.entries) + self.made.numel()

    @property
    def parts(self) -> int:
        """Heads: the first of the axes of features, where there are several; else one."""
        return _parts(self.made, self.ids)[0]

    @cached_property
    def _head(self) -> Tensor:
        """The head of each element of the output, in a shape that broadcasts to it."""
        axis = _features(self.made, self.ids)[0] if self.parts > 1 else 0
        shape = [-1 if a == axis else 1 for a in range(self.made.dim())]
        return torch.arange(self.parts, device=self.made.device).reshape(shape)

    @cached_property
    def _heads_reached(self) -> list[Tensor] | None:
        """The one head that each element of each value reaches; None: some reach several.

        One that reaches two heads reaches both halves of them by a bit in which their numbers differ.
        """
        values = [t for t, _ in self.entries]
        noise = torch.randn(self.made.shape, generator=torch.Generator().manual_seed(0), dtype=self.made.dtype)
        found = [torch.zeros_like(t, dtype=torch.int64) for t in values]
        for bit in range((self.parts - 1).bit_length()):
            halves = [noise.to(self.made.device) * ((self._head >> bit & 1) == side) for side in (0, 1)]
            backs = [torch.autograd.grad(self.made, values, g, retain_graph=True, allow_unused=True) for g in halves]
            for heads, zero, one in zip(found, *backs, strict=True):
                if zero is not None and one is not None and bool(((zero != 0) & (one != 0)).any()):
                    return None
                if one is not None:
                    heads += (one != 0).long() << bit
        return found

    def block(self, gradient: Tensor, rows: Sequence[int], at: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """Ā of some rows, (batch, rows, columns): a product for each row, of all heads at once where no two share a value.

        Args:
            gradient: ∂y/∂o.
            rows: of the stream that asks.
            at: of the output's elements, sample · tokens + row; -1: none.
            columns: of the values' elements, sample · tokens + column; -1: none.
        """
        at = at.expand(gradient.shape).to(gradient.device)
        own = torch.where(at < 0, -1, at % max(1, self.queries))
        of_rows = torch.stack([gradient * (own == row) for row in rows]).to(self.made.dtype)
        if self._heads_reached is not None:
            total = self._pulled(of_rows, columns, self._heads_reached).clamp(min=0).sum(-1)
        else:
            each = (self._pulled(of_rows * (self._head == h), columns) for h in range(self.parts))
            total = functools.reduce(torch.add, (of_head.clamp(min=0)[..., 0] for of_head in each))
        return (total / self.parts).unflatten(1, (self.batch, self.keys)).transpose(0, 1)

    def _pulled(self, cotangents: Tensor, columns: Sequence[Tensor], heads: Sequence[Tensor] | None = None) -> Tensor:
        """⟨cotangent, c_·j⟩ of each cotangent and column, (cotangents, batch · columns, heads); without ``heads`` of one."""
        values, size = [t for t, _ in self.entries], self.batch * self.keys
        apart = 1 if heads is None else self.parts
        total = torch.zeros(len(cotangents), (size + 1) * apart, dtype=self.dtype, device=self.made.device)
        for i, (back, value, where) in enumerate(
            zip(pulled(self.made, values, cotangents), values, columns, strict=True)
        ):
            terms = (back * value.detach()).flatten(1).to(self.dtype)
            index = torch.where(where < 0, size, where).expand(value.shape).to(total.device) * apart
            total.index_add_(1, (index if heads is None else index + heads[i]).flatten(), terms)
        return total.unflatten(1, (size + 1, apart))[:, :-1]


def heads_of(out: Tensor, ids: Ids) -> set[int]:
    """How many heads a region's result has, for a softmax of which it is made; none, where another axis could be theirs."""
    parts, *others = _parts(out, ids)
    return set() if parts in others else {parts}


def _parts(out: Tensor, ids: Ids) -> list[int]:
    """The sizes of the axes of features, with the heads first: where there is one such axis, one head."""
    sizes = [out.shape[a] for a in _features(out, ids)]
    return sizes if len(sizes) > 1 else [1, *sizes]


def _features(out: Tensor, ids: Ids) -> list[int]:
    return [a for a in range(out.dim()) if out.shape[a] > 1 and is_constant_along(ids, [a])]


def pulled(out: Tensor, values: Sequence[Tensor], cotangents: Tensor) -> list[Tensor]:
    """Products of the transposed Jacobian with several cotangents, (cotangents, \\*shape) for each value."""

    def back(cotangent: Tensor, batched: bool) -> list[Tensor]:
        found = torch.autograd.grad(
            out, list(values), cotangent, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )
        lead = (len(cotangent),) if batched else ()
        return [v.new_zeros(*lead, *v.shape) if g is None else g for g, v in zip(found, values, strict=True)]

    try:
        return back(cotangents, batched=True)
    except RuntimeError:  # an operation that has no batched backward
        each = [back(cotangent, batched=False) for cotangent in cotangents]
        return [torch.stack(own) for own in zip(*each, strict=True)]


# -- which entries are the values -------------------------------------------------------------------------------------


class Values(NamedTuple):
    """Which of what goes into a region is its values, by key.

    Attributes:
        taken: those by which its contributions are computed.
        read: with those that are factors of the same terms (B_j, of B_j x_j): what the values were made of.
    """

    taken: frozenset[Key] = frozenset()
    read: frozenset[Key] = frozenset()


def values_of(node: Node, entries: Sequence[Entry], numbers: Numbers) -> Values | None:
    """The entries in which a region's result is linear, and of which it is the whole sum; None: there are none."""
    out = node.result
    assert out is not None
    entries = [e for e in entries if e.tensor.requires_grad and e.ids is not None]
    if not entries or not out.requires_grad:
        return None
    keys = list(dict.fromkeys(e.key for e in entries))
    totals, sums = _shares(out, entries, keys)
    carrying = _carrying(node, entries, numbers)
    same = {k: {o for j, o in enumerate(keys) if _near(sums[i], sums[j], totals[1])} for i, k in enumerate(keys)}
    for count in range(1, min(MOST, len(keys)) + 1):
        for chosen in combinations(range(len(keys)), count):
            found = frozenset(keys[i] for i in chosen)
            if found & carrying and _near(sums[list(chosen)].sum(0), totals[0], totals[1]):
                taken = _completed(out, entries, found, carrying)
                if taken is not None:
                    factors = frozenset(o for k in found & carrying for o in same[k] & carrying)
                    return Values(taken, taken | factors)
    return None


def _near(a: Tensor, b: Tensor, size: Tensor) -> bool:
    return bool(((a - b).abs() <= TOLERANCE * size).all())


def _shares(out: Tensor, entries: Sequence[Entry], keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
    """⟨g, o⟩ and the size of what is summed, of random g, (2, draws); ⟨Jᵀg, x⟩ by key, (keys, draws)."""
    totals, sums = [], []
    for _ in range(DRAWS):
        g = torch.randn_like(out)
        own = dict.fromkeys(keys, 0.0)
        for entry, b in zip(entries, _back(out, entries, g), strict=True):
            own[entry.key] += 0.0 if b is None else float((b.double() * entry.tensor.detach().double()).sum())
        sums.append([own[k] for k in keys])
        product = g.double() * out.detach().double()
        totals.append((float(product.sum()), float(product.square().sum().sqrt())))
    return torch.tensor(totals).T, torch.tensor(sums).T


def _back(out: Tensor, entries: Sequence[Entry], g: Tensor | None, graph: bool = False) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(
        out, [e.tensor for e in entries], g, retain_graph=True, allow_unused=True, create_graph=graph
    )


def _carrying(node: Node, entries: Sequence[Entry], numbers: Numbers) -> set[Key]:
    """The keys of entries whose tokens reach rows that are not their own.

    That is so where a token reaches two rows, which differ in a bit of their numbers; or one that is another token of its kind.
    """
    out, found = node.result, set[Key]()
    assert out is not None
    labels = numbers.first(node.labels)
    kind = numbers.space[labels[labels >= 0].unique()].unique()
    tokens = [numbers.first(e.ids).expand(e.tensor.shape) for e in entries if e.ids is not None]
    alike = [torch.isin(numbers.space[ids.clamp(min=0)], kind) & (ids >= 0) for ids in tokens]
    for bit in _bits([labels[labels >= 0], *(ids[of] for ids, of in zip(tokens, alike, strict=True))]):
        halves = [((labels >> bit & 1) == wanted) & (labels >= 0) for wanted in (0, 1)]
        backs = [_back(out, entries, torch.randn_like(out) * half.to(out.device)) for half in halves]
        for entry, ids, of, *back in zip(entries, tokens, alike, *backs, strict=True):
            if entry.key in found:
                continue
            reach = [(b != 0).cpu() if b is not None else torch.zeros_like(of) for b in back]
            both = set(ids[reach[0]].unique().tolist()) & set(ids[reach[1]].unique().tolist())
            away = any(bool((r & of & ((ids >> bit & 1) != wanted)).any()) for wanted, r in enumerate(reach))
            if away or both - {-1}:
                found.add(entry.key)
    return found


def _bits(numbers: Sequence[Tensor]) -> list[int]:
    """The bits in which some of these numbers differ."""
    whole = torch.cat([n.reshape(-1).unique() for n in numbers]).unique()
    differing = functools.reduce(int.__or__, (whole ^ whole[:1]).tolist(), 0)
    return [bit for bit in range(differing.bit_length()) if differing >> bit & 1]


def _completed(
    out: Tensor, entries: Sequence[Entry], chosen: frozenset[Key], carrying: set[Key]
) -> frozenset[Key] | None:
    """The chosen keys, and all others with which they are a sum, too small to be missed; None: the result is not linear in them.

    What carries nothing to other rows must be a term of the sum, no factor of what is carried (C_i).
    """
    meets = _meets(out, entries, chosen)
    if meets & chosen or _meets(out, entries, chosen - carrying) & carrying:
        return None
    for key in dict.fromkeys(e.key for e in entries):
        if key not in meets | chosen and not _meets(out, entries, chosen | {key}) & (chosen | {key}):
            chosen = chosen | {key}
    return chosen


def _meets(out: Tensor, entries: Sequence[Entry], chosen: frozenset[Key]) -> frozenset[Key]:
    """The keys of the entries on which the gradient of the chosen ones depends: their factors; all, where none can say."""
    own = [e for e in entries if e.key in chosen]
    if not own:
        return frozenset()
    with torch.enable_grad():
        back = [b for b in _back(out, own, torch.randn_like(out), graph=True) if b is not None and b.requires_grad]
        if not back:
            return frozenset()
        product = torch.stack([(b * torch.randn_like(b)).sum().to(out.dtype) for b in back]).sum()
        try:
            again = _back(product, entries, None)
        except RuntimeError:  # an operation that has no second derivative: fused attention
            return frozenset(e.key for e in entries)
    return frozenset(e.key for e, a in zip(entries, again, strict=True) if a is not None and bool((a != 0).any()))
