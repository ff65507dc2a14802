"""What the recorder knows of a tensor: what it was computed from, and whether it is still an attention matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from heedmap.attention import operations as ops
from heedmap.attention.attention import Place, RowTensor
from heedmap.attention.beginnings import Step


@dataclass(eq=False)
class Source:
    """Where content comes from.

    Attributes:
        kind: ``"input"`` (indices, not yet features), ``"leaf"``, ``"attention"``, ``"unfollowed"`` or ``"tower"`` (what is
            made of it is not followed until it meets other content).
        name: the input's name; of an unfollowed attention, why it could not be followed.
        shape: of a leaf.
        spatial: whether the leaf is (batch, channels, *places) rather than (batch, rows, features).
        first: of a leaf, whether no other leaf lies between it and the input.
        attention: index of the attention.
        tensor: the leaf itself, where leaves are traced.
        says: of a leaf, how many things each of its rows can say: the size of its vocabulary, else its number of features; of a
            tower's input, its number of values.
        tower: of a leaf, whether it is where a tower that is not followed ends.
        place: of an unfollowed attention, where the model calls it.
        made_of: of a leaf, the sources of what it is made of.
    """

    kind: str
    name: str
    shape: tuple[int, ...] = ()
    spatial: bool = False
    attention: int = -1
    tensor: Tensor | None = None
    first: bool = False
    says: int = 0
    tower: bool = False
    place: Place | None = None
    made_of: frozenset[int] = frozenset()

    @property
    def rows(self) -> int:
        """Number of rows of a leaf."""
        return prod(self.shape[2:] if self.spatial else self.shape[1:2])

    def touched(self, gradient: Tensor) -> Tensor:
        """Which rows of the leaf have a gradient, (batch, rows)."""
        if self.spatial:
            return (gradient != 0).any(1).reshape(len(gradient), self.rows)
        return (gradient != 0).reshape(len(gradient), self.rows, -1).any(-1)


def attentions_among(sources: Sequence[Source], indices: Iterable[int]) -> frozenset[int]:
    """The indices of the attentions among some of the sources."""
    return frozenset(sources[i].attention for i in indices if sources[i].kind == "attention")


class Product(NamedTuple):
    """A product q kᵀ: its sides (kept only for the probe), their sources, and the two operands, without gradient."""

    query: RowTensor | None
    key: RowTensor | None
    query_sources: frozenset[int]
    key_sources: frozenset[int]
    operands: tuple[Tensor, Tensor]


NONE = (0, 0)


class Tag(NamedTuple):
    """What is known of a tensor: its sources, the products q kᵀ in it, whether it is (made of) a softmax, its tower's step."""

    sources: frozenset[int]
    products: tuple[Product, ...] = ()
    softmax: str = ""  # "" no, "whole" still an attention matrix, "turned" its transpose, "derived" no longer one
    learned: tuple[int, int] = NONE  # rows (on the last axis but one) before and after the others that no input made
    step: Step | None = None


EMPTY = Tag(frozenset())


def is_plain(tag: Tag) -> bool:
    """Whether no more than sources and a step is known: no product, no softmax, no learned rows."""
    return not tag.products and not tag.softmax and tag.learned == NONE


def scores(products: tuple[Product, ...]) -> Product | None:
    """The product that is q kᵀ: both sides are content where any is; else the first (learned queries)."""
    both = [p for p in products if p.query_sources and p.key_sources]
    return next(iter(both or products), None)


def learned_rows(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tags: Sequence[tuple[Tensor, Tag]], result: Tensor
) -> tuple[int, int]:
    """How many rows before and after the others no input made: a memory or a prefix that was put beside keys and values."""
    if func in ops.CONCATENATES:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        if axis not in (-2, result.dim() - 2):
            return NONE
        # an empty tensor may have one axis
        tags = [(tensor, tag) for tensor, tag in tags if tensor.dim() == result.dim()]
        made = [i for i, (_, tag) in enumerate(tags) if tag.sources]
        if not made:
            return NONE
        before = sum(tensor.shape[-2] for tensor, _ in tags[: made[0]]) + tags[made[0]][1].learned[0]
        return before, sum(tensor.shape[-2] for tensor, _ in tags[made[-1] + 1 :]) + tags[made[-1]][1].learned[1]
    moved = func in ops.KEEPS_ATTENTION or func in ops.RESHAPES_ATTENTION or func in ops.SLICES_ATTENTION
    first = next(((tensor, tag) for tensor, tag in tags if tag.sources), (result, EMPTY))
    if moved and result.dim() > 1 and first[0].dim() > 1 and result.shape[-2:] == first[0].shape[-2:]:
        return first[1].learned
    return NONE


def joined(
    products: Sequence[tuple[Product, ...]], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
) -> tuple[Product, ...]:
    """The one product of scores that were put together: of groups of keys side by side, or of queries one after another.

    Rows stay rows: the features of queries that ask several groups of keys stand beside each other.
    """
    if any(len(of_part) != 1 for of_part in products):
        return ()
    axis = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    columns, rows = axis in (-1, result.dim() - 1), axis in (-2, result.dim() - 2)
    parts = [of_part[0] for of_part in products]
    if not (columns or rows):
        return ()
    query = _beside([p.query for p in parts], -1 if columns else -2)
    key = _beside([p.key for p in parts], -2 if columns else -1)
    asks = frozenset().union(*(p.query_sources for p in parts))
    asked = frozenset().union(*(p.key_sources for p in parts))
    return (Product(query, key, asks, asked, parts[0].operands),)


def _beside(sides: Sequence[RowTensor | None], axis: int) -> RowTensor | None:
    """Tensors with one row a token as one, joined at their rows (-2) or their features (-1)."""
    if any(side is None or side.batch_axis != 0 for side in sides):
        return None
    tensors = [side.tensor.movedim(side.row_axis, -2) for side in sides if side is not None]
    alike = len({(t.shape[:-2], t.shape[-1] if axis == -2 else t.shape[-2]) for t in tensors}) == 1
    return RowTensor(torch.cat(tensors, axis), 0, -2) if alike else None


def softmax_after(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tagged: list[tuple[Tensor, Tag]], result: Tensor
) -> str:
    """What a softmax among the arguments is after ``func``: whole, derived or gone."""
    soft = [(tensor, tag) for tensor, tag in tagged if tag.softmax]
    others = [tag for _, tag in tagged if not tag.softmax and tag.sources]
    if not soft or (others and func not in ops.KEEPS_ATTENTION):
        return ""
    if len(soft) > 1 or soft[0][1].softmax == "derived":
        return "derived"
    before, kind = soft[0][0], soft[0][1].softmax
    if (
        func in ops.KEEPS_ATTENTION
        or func in ops.SCALES_ATTENTION
        or (kind == "whole" and func in ops.SLICES_ATTENTION)
    ):
        return kind
    if func in ops.RESHAPES_ATTENTION and result.shape[-1:] == before.shape[-1:]:
        return kind if kind == "whole" or result.shape[-2:] == before.shape[-2:] else "derived"
    if func in ops.PERMUTES_ATTENTION:
        if is_turned(before, result):
            return "whole" if kind == "turned" else "derived"
        if result.stride(-1) == before.stride(-1) and result.shape[-1] == before.shape[-1]:
            return kind if kind == "whole" or result.shape[-2] == before.shape[-2] else "derived"
    return "derived"


def is_turned(before: Tensor, result: Tensor) -> bool:
    """Whether a permutation exchanged the last two axes."""
    places = [(t.shape[axis], t.stride(axis)) for t, axis in ((before, -2), (before, -1), (result, -1), (result, -2))]
    return places[:2] == places[2:] and places[0] != places[1]


def turned(products: tuple[Product, ...]) -> tuple[Product, ...]:
    """The products of a transposed matrix: what was asked asks, (k qᵀ)ᵀ = q kᵀ."""
    return tuple(
        Product(p.key, p.query, p.key_sources, p.query_sources, (p.operands[1].mT, p.operands[0].mT)) for p in products
    )


def writes(func: Any, args: tuple[Any, ...], result: Tensor) -> bool:
    """Whether ``func`` wrote to its first argument."""
    return bool(args and result is args[0]) or ops.writes_in_place(func)


def softmax_kind(tag: Tag, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> str:
    """What the result of a softmax is: over the keys on the last axis, or of k qᵀ over the last axis but one."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if axis in (-1, result.dim() - 1):
        return "whole"
    return "turned" if tag.products and axis in (-2, result.dim() - 2) else ""


def pointwise(args: tuple[Any, ...], result: Tensor) -> bool:
    """Whether a convolution is a linear map of each place by itself: a kernel of size 1 that keeps all places."""
    tensors = [a for a in args[:2] if isinstance(a, Tensor)]
    return len(tensors) == 2 and all(n == 1 for n in tensors[1].shape[2:]) and tensors[0].shape[2:] == result.shape[2:]


def only_cuts(func: Any, args: tuple[Any, ...], result: Tensor) -> bool:
    """Whether a map is cut into blocks that do not overlap: each place is still there, once."""
    return func is torch.nn.functional.unfold and bool(args) and result.numel() == args[0].numel()
