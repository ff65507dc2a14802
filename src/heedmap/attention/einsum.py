"""Reading einsum equations of attention: which letter is the batch, the heads, the queries, the keys."""

from __future__ import annotations

Axes = tuple[int, ...]
LEADING = "ABCDEFGH"
"""Names of the axes of an ellipsis."""


def _operands(equation: object, dims: int) -> tuple[str, str, str] | None:
    """The letters of both operands and of the result, which has ``dims`` axes; an ellipsis has letters of its own."""
    if not isinstance(equation, str) or "->" not in equation:
        return None
    inputs, output = equation.replace(" ", "").split("->")
    parts = (*inputs.split(","), output)
    if "..." in equation:
        if not all(part.startswith("...") for part in parts):
            return None
        parts = tuple(LEADING[: dims - len(output) + 3] + part[3:] for part in parts)
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
