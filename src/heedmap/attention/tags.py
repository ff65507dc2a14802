"""What the recorder knows of a tensor: what it was computed from, and whether it is still an attention matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from heedmap.attention import operations as ops
from heedmap.attention.record import Side


@dataclass(eq=False)
class Source:
    """Where content comes from.

    Attributes:
        kind: ``"input"`` (indices, not yet features), ``"leaf"``, ``"attention"`` or ``"unfollowed"``.
        name: the input's name; of an unfollowed attention, why it could not be followed.
        shape: of a leaf.
        spatial: whether the leaf is (batch, channels, *places) rather than (batch, rows, features).
        first: of a leaf, whether no other leaf lies between it and the input.
        attention: index of the attention.
        tensor: the leaf itself, where leaves are traced.
    """

    kind: str
    name: str
    shape: tuple[int, ...] = ()
    spatial: bool = False
    attention: int = -1
    tensor: Tensor | None = None
    first: bool = False


class Product(NamedTuple):
    """A product q kᵀ: its sides (kept only for the probe), their sources, and the two operands, without gradient."""

    query: Side | None
    key: Side | None
    query_sources: frozenset[int]
    key_sources: frozenset[int]
    operands: tuple[Tensor, Tensor]


class Tag(NamedTuple):
    """What is known of a tensor: its sources, the products q kᵀ in it, and whether it is (made of) a softmax."""

    sources: frozenset[int]
    products: tuple[Product, ...] = ()
    softmax: str = ""  # "" no, "whole" still an attention matrix, "derived" no longer one


EMPTY = Tag(frozenset())


def scores(products: tuple[Product, ...]) -> Product | None:
    """The product that is q kᵀ: both sides are content where any is; else the first (learned queries)."""
    both = [p for p in products if p.query_sources and p.key_sources]
    return next(iter(both or products), None)


def softmax_after(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], found: list[tuple[Tensor, Tag]], result: Tensor
) -> str:
    """What a softmax among the arguments is after ``func``: whole, derived or gone."""
    soft = [(t, tag) for t, tag in found if tag.softmax]
    others = [tag for _, tag in found if not tag.softmax and tag.sources]
    if not soft or (others and func not in ops.KEEPS_ATTENTION):
        return ""
    if len(soft) > 1 or soft[0][1].softmax == "derived":
        return "derived"
    before = soft[0][0]
    if func in ops.KEEPS_ATTENTION or func in ops.SCALES_ATTENTION or func in ops.SLICES_ATTENTION:
        return "whole"
    if func in ops.RESHAPES_ATTENTION and result.shape[-1:] == before.shape[-1:]:
        return "whole"
    if (
        func in ops.PERMUTES_ATTENTION
        and result.stride(-1) == before.stride(-1)
        and result.shape[-1] == before.shape[-1]
    ):
        return "whole"
    return "derived"


def writes(func: Any, args: tuple[Any, ...], result: Tensor) -> bool:
    """Whether ``func`` wrote to its first argument."""
    if func in ops.WRITES_IN_PLACE or (args and result is args[0]):
        return True
    name = getattr(func, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def is_last_axis(args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> bool:
    """Whether a softmax ran over the last axis."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return axis is not None and axis in (-1, result.dim() - 1)


def pointwise(args: tuple[Any, ...], result: Tensor) -> bool:
    """Whether a convolution is a linear map of each place by itself: a kernel of size 1 that keeps all places."""
    tensors = [a for a in args[:2] if isinstance(a, Tensor)]
    return len(tensors) == 2 and all(n == 1 for n in tensors[1].shape[2:]) and tensors[0].shape[2:] == result.shape[2:]
