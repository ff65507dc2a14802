"""A product of two tensors by its axes' letters, as einsum names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from heedmap.attention import operations as ops
from heedmap.attention.moves import TorchCall

Letters = tuple[str, str, str]
UNKNOWN: Letters = ("", "", "")
LEADING = "αβγδεζηθικλμνξοπρςστυφχψ"
"""Names of leading axes, of places, and of an ellipsis's: letters that no model uses."""
ELLIPSIS = "ABCDEFGH"
"""Names of the axes of an ellipsis, in an equation that stands for itself."""


@dataclass(frozen=True, eq=False)
class Multiplied(TorchCall):
    """A product as the model called it.

    Attributes:
        pair: the two that were multiplied; where their letters are not known, all operands.
        letters: of the axes of both and of the result; empty where they are not known.
    """

    pair: tuple[Tensor, ...]
    letters: Letters

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


def multiplied(call: TorchCall) -> Multiplied:
    """The call of a product with its letters."""
    name, is_einsum = call.name, call.func is ops.EINSUM
    pair = tuple(call.tensors[:2] if name == "linear" else call.tensors[-2:])
    if name == "__rmatmul__":
        pair = pair[::-1]
    if len(pair) != 2 or name == "tensordot" or (is_einsum and len(call.tensors) != 2):
        letters = None
    elif name == "linear":
        letters = of_linear(*pair)
    elif is_einsum:
        letters = labels(call.args[0], *pair)
    else:
        letters = of_matmul(*pair)
    return Multiplied(call.func, call.args, call.kwargs, call.result, call.tensors, pair, letters or UNKNOWN)


def of_linear(x: Tensor, weight: Tensor) -> Letters:
    """The axes' letters of x weightᵀ."""
    lead = LEADING[: x.dim() - 1]
    return (f"{lead}k", "nk", f"{lead}n") if weight.dim() == 2 else (f"{lead}k", "k", lead)


def of_convolution(x: Tensor) -> Letters:
    """The axes' letters of a convolution of x, (batch, channels, *places), whose kernel has one place."""
    places, of_kernel = LEADING[: x.dim() - 2], ELLIPSIS[: x.dim() - 2]
    return f"bk{places}", f"nk{of_kernel}", f"bn{places}"


def labels(equation: str, left: Tensor, right: Tensor) -> Letters | None:
    """Of an einsum of two tensors the axes' letters, also those of "…"; None where a letter stands twice in one."""
    given, arrow, out = equation.replace(" ", "").partition("->")
    sides = given.split(",")
    if len(sides) != 2:
        return None
    sides = [
        side.replace("...", LEADING[: tensor.dim() - len(side.replace("...", ""))]) if "..." in side else side
        for side, tensor in zip(sides, (left, right), strict=True)
    ]
    longest = max(sides, key=len)
    out = out.replace("...", "".join(c for c in longest if c in LEADING))
    if not arrow:
        out = "".join(sorted(c for c in set(sides[0] + sides[1]) if (sides[0] + sides[1]).count(c) == 1))
    return None if any(len(set(side)) < len(side) for side in (*sides, out)) else (sides[0], sides[1], out)


def of_matmul(left: Tensor, right: Tensor) -> Letters:
    """The axes' letters of left @ right; leading axes are told from the end."""
    count = max(left.dim(), right.dim()) - 2
    names = LEADING[:count]
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


# -- equations of attention -------------------------------------------------------------------------------------------


Axes = tuple[int, ...]


def _operands(equation: object, dims: int) -> tuple[str, str, str] | None:
    """The letters of both operands and of the result, which has ``dims`` axes; an ellipsis has letters of its own."""
    if not isinstance(equation, str) or "->" not in equation:
        return None
    inputs, output = equation.replace(" ", "").split("->")
    parts = (*inputs.split(","), output)
    if "..." in equation:
        if not all(part.startswith("...") for part in parts):
            return None
        parts = tuple(ELLIPSIS[: dims - len(output) + 3] + part[3:] for part in parts)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def value_axes(equation: object, dims: int) -> tuple[Axes, Axes, Axes] | None:
    """Permutations that bring A, v and o of ``"bhij,bjhd->bihd"`` to (batch, heads, rows, columns); None: not A v.

    ``dims``: number of axes of o.
    """
    letters = _operands(equation, dims)
    if letters is None:
        return None
    probs, value, out = letters
    shared = [c for c in probs if c in value and c in out]
    keys = [c for c in probs if c in value and c not in out]
    queries = [c for c in probs if c not in value and c in out]
    features = [c for c in value if c not in probs and c in out]
    if not (len(keys) == len(queries) == len(features) == 1 and len(shared) in (1, 2)) or probs[-1] != keys[0]:
        return None
    rows, columns, depth = queries[0], keys[0], features[0]
    return (
        tuple(probs.index(c) for c in (*shared, rows, columns)),
        tuple(value.index(c) for c in (*shared, columns, depth)),
        tuple(out.index(c) for c in (*shared, rows, depth)),
    )


def score_axes(equation: object, dims: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(batch axis, row axis) of q and of k in ``"bihd,bjhd->bhij"``; None where the equation is no q kᵀ."""
    letters = _operands(equation, dims)
    if letters is None or len(letters[2]) != dims:
        return None
    query, key, out = letters
    rows, columns = out[-2], out[-1]
    if rows in key or columns in query or rows not in query or columns not in key:
        return None
    batch = out[0]
    if batch not in query or batch not in key:
        return None
    return (query.index(batch), query.index(rows)), (key.index(batch), key.index(columns))
