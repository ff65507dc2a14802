"""A product of two tensors by its axes' letters, as einsum names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from heedmap.attention import moves

Letters = tuple[str, str, str]
UNKNOWN: Letters = ("", "", "")


@dataclass(frozen=True, eq=False)
class Multiplied:
    """A product as the model called it.

    Attributes:
        func, args, kwargs: the call.
        result: what it gave.
        pair: the two that were multiplied; where their letters are not known, all operands.
        letters: of the axes of both and of the result; empty where they are not known.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Tensor
    pair: tuple[Tensor, ...]
    letters: Letters

    @property
    def name(self) -> str:
        """Of the function."""
        return moves.name_of(self.func)

    @property
    def summed(self) -> list[str]:
        """The letters over which it sums."""
        a, b, out = self.letters
        return [c for c in a if c in b and c not in out]

    @property
    def sizes(self) -> dict[str, int]:
        """Of each letter."""
        a, b, out = self.letters
        shapes = (*self.pair[0].shape, *self.pair[1].shape, *self.result.shape)
        return dict(zip(a + b + out, shapes, strict=True))

    @property
    def turned(self) -> Multiplied:
        """With the second of the pair as the first."""
        a, b, out = self.letters
        return replace(self, pair=(self.pair[1], self.pair[0]), letters=(b, a, out))


class Roles(NamedTuple):
    """The letters of A v: of blocks and heads, of the rows that ask, of the keys, of the features; empty: it has no such axis."""

    lead: str
    row: str
    key: str
    feature: str

    def order(self, out: str) -> tuple[int, ...]:
        """The permutation of the result to (…, rows, features)."""
        return tuple(out.index(c) for c in (*self.lead, *self.row, *self.feature))


def roles(letters: Letters) -> Roles | None:
    """Of A v the roles of its letters, the last axis of rows being a block's; None: it is no such product."""
    a, b, out = letters
    summed = [c for c in a if c in b and c not in out]
    asks = [c for c in a if c in out and c not in b]
    features = [c for c in b if c in out and c not in a]
    if len(summed) != 1 or len(features) > 1:
        return None
    lead = [c for c in out if c not in asks[-1:] and c not in features]
    return Roles("".join(lead), "".join(asks[-1:]), summed[0], "".join(features))


def multiplied(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor, operands: list[Tensor], einsum: bool
) -> Multiplied:
    """The call of a product with its letters."""
    name = moves.name_of(func)
    pair = tuple(operands[:2] if name == "linear" else operands[-2:])
    if name == "__rmatmul__":
        pair = pair[::-1]
    letters: Letters | None = None
    if len(pair) != 2 or name == "tensordot" or (einsum and len(operands) != 2):
        letters = None
    elif name == "linear":
        letters = of_linear(*pair)
    elif einsum:
        letters = labels(args[0], *pair)
    else:
        letters = of_matmul(*pair)
    return Multiplied(func, args, kwargs, result, pair, letters or UNKNOWN)


def of_linear(x: Tensor, weight: Tensor) -> Letters:
    """The axes' letters of x weightᵀ."""
    lead = "".join(map(chr, range(0x3B1, 0x3B1 + x.dim() - 1)))
    return (f"{lead}k", "nk", f"{lead}n") if weight.dim() == 2 else (f"{lead}k", "k", lead)


def of_convolution(x: Tensor) -> Letters:
    """The axes' letters of a convolution of x, (batch, channels, *places), whose kernel has one place."""
    places = "".join(map(chr, range(0x3B1, 0x3B1 + x.dim() - 2)))
    return f"bk{places}", "nk" + "".join(map(chr, range(0x41, 0x41 + x.dim() - 2))), f"bn{places}"


def labels(equation: str, left: Tensor, right: Tensor) -> Letters | None:
    """Of an einsum of two tensors the axes' letters, also those of "…"; None where a letter stands twice in one."""
    given, arrow, out = equation.replace(" ", "").partition("->")
    sides = given.split(",")
    if len(sides) != 2:
        return None
    more = "".join(c for c in map(chr, range(0x3B1, 0x3C9)))
    sides = [
        side.replace("...", more[: tensor.dim() - len(side.replace("...", ""))]) if "..." in side else side
        for side, tensor in zip(sides, (left, right), strict=True)
    ]
    longest = max((side for side in sides), key=len)
    out = out.replace("...", "".join(c for c in longest if c in more))
    if not arrow:
        out = "".join(sorted(c for c in set(sides[0] + sides[1]) if (sides[0] + sides[1]).count(c) == 1))
    return None if any(len(set(side)) < len(side) for side in (*sides, out)) else (sides[0], sides[1], out)


def of_matmul(left: Tensor, right: Tensor) -> Letters:
    """The axes' letters of left @ right; leading axes are told from the end."""
    lead = "".join(map(chr, range(0x3B1, 0x3C9)))
    count = max(left.dim(), right.dim()) - 2
    names = lead[:count]
    a = (names[count - (left.dim() - 2) :] if left.dim() > 2 else "") + ("mk" if left.dim() > 1 else "k")
    b = (names[count - (right.dim() - 2) :] if right.dim() > 2 else "") + ("kn" if right.dim() > 1 else "k")
    return a, b, names + ("m" if left.dim() > 1 else "") + ("n" if right.dim() > 1 else "")


def in_order(tensor: Tensor, has: str, wanted: str, sizes: dict[str, int]) -> Tensor:
    """``tensor``, whose axes are ``has``, with the axes ``wanted``; one that it lacks, or has once only, is expanded."""
    kept = [has.index(c) for c in wanted if c in has]
    rest = [i for i in range(len(has)) if i not in kept]
    ordered = tensor.permute(*rest, *kept)
    for _ in rest:
        ordered = ordered[0]
    for place, letter in enumerate(wanted):
        if letter not in has:
            ordered = ordered.unsqueeze(place)
    return ordered.expand([sizes.get(c, ordered.shape[i]) for i, c in enumerate(wanted)])
