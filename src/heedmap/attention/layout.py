"""Where the input's tokens are in their stream: found by pulling rows back to the leaves, not configured.

For each bit of the row number, a cotangent that is non-zero in the rows with that bit is pulled back from a stream's
first attention to its leaves. A leaf row's pattern of non-zero gradients spells the number of the one row that it became;
a leaf row that answers to a bit and to its complement went into several rows: tokens mix before the first attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from heedmap.attention.flow import Graph, Stream
from heedmap.attention.record import Side
from heedmap.attention.tape import Source, Tape
from heedmap.errors import MixingError

Positions = Int[Tensor, "batch tokens"]


@dataclass(eq=False)
class Part:
    """One segment of a stream.

    Attributes:
        leaf: index of the leaf among the tape's sources.
        name: of the input that the leaf comes from.
        positions: (batch, tokens), the row of the stream that each token became; -1: none.
        grid: (rows, columns) of an image's patches.
        kind_hint: ``"image"`` where the leaf has two spatial axes, else ``"tokens"``.
    """

    leaf: int
    name: str
    positions: Positions
    grid: tuple[int, int] | None
    kind_hint: str


def entry(tape: Tape, graph: Graph, stream: Stream) -> tuple[int, str] | None:
    """(attention, side) by which a stream first enters attention with a graph to its leaves; None: learned tokens."""
    for edge in graph.edges:
        sides = tape.attentions[edge.attention].sides
        candidates = (("queries", edge.stream, edge.query_state), ("values", edge.source, edge.value_state))
        for name, index, state in candidates:
            if index == stream.index and not state and name in sides and sides[name].tensor.requires_grad:
                return edge.attention, name
    return None


def trace(tape: Tape, graph: Graph, stream: Stream, check: bool = True) -> dict[int, Positions]:
    """For each leaf of the stream, the row that each of its rows became, (batch, leaf rows); -1: none.

    With ``check=False`` a leaf that mixes is assumed to be the last tokens of its stream, in order.

    Raises:
        MixingError: a leaf row went into several rows.
    """
    start = entry(tape, graph, stream)
    leaves = [i for i in sorted(stream.leaves) if _rows_of(tape.sources[i], tape.batch) is not None]
    if start is None or not leaves:
        return {}
    try:
        return _traced(tape, stream, start, leaves)
    except MixingError:
        if check:
            raise
        return _assumed(tape, stream, leaves)


def _assumed(tape: Tape, stream: Stream, leaves: list[int]) -> dict[int, Positions]:
    sizes = {leaf: _rows_of(tape.sources[leaf], tape.batch) or 0 for leaf in leaves}
    fitting = [leaf for leaf, size in sizes.items() if size <= stream.tokens]
    return {
        leaf: torch.arange(stream.tokens - sizes[leaf], stream.tokens).expand(tape.batch, -1) for leaf in fitting[-1:]
    }


def _traced(tape: Tape, stream: Stream, start: tuple[int, str], leaves: list[int]) -> dict[int, Positions]:
    side = tape.attentions[start[0]].sides[start[1]]
    cotangent = torch.randn_like(side.tensor)
    numbers = torch.arange(stream.tokens, device=side.tensor.device)
    found: dict[int, Positions] = {}
    for bit in range(max(1, (stream.tokens - 1).bit_length())):
        is_set = (numbers >> bit) & 1 == 1
        hit, missed = (_pulled(tape, side, cotangent, rows, leaves) for rows in (is_set, ~is_set))
        for leaf in leaves:
            if (hit[leaf] & missed[leaf]).any():
                row = int((hit[leaf] & missed[leaf])[0].int().argmax())
                raise MixingError(_mixed(tape, leaf, row, *start))
            before = found.get(leaf, torch.zeros_like(hit[leaf], dtype=torch.int64))
            here = before + (hit[leaf].long() << bit)
            found[leaf] = torch.where(hit[leaf] | missed[leaf], here, -1)
    return {leaf: positions for leaf, positions in found.items() if bool((positions >= 0).any())}


def _mixed(tape: Tape, leaf: int, row: int, attention: int, side: str) -> str:
    return (
        f"the {side} of attention {attention} mix tokens of {tape.sources[leaf].name!r} before any attention was seen "
        f"(token {row} reaches several rows): an attention or mixing layer in between is not recorded, so a map would be "
        "wrong; explain a model whose attention is softmax(q kᵀ) v between token-wise layers (or probe=False, at your risk)"
    )


def pull(outputs: list[Tensor], leaves: list[Tensor], cotangents: list[Tensor]) -> list[Tensor | None]:
    """Vector–Jacobian products; None for leaves that no output depends on."""
    return list(torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True, allow_unused=True))


def masked(side: Side, cotangent: Tensor, rows: Tensor) -> Tensor:
    """``cotangent`` where ``rows``, (tokens,) or (batch, tokens), is True, in the layout of ``side``."""
    tensor = side.tensor
    row_axis, batch_axis = side.row_axis % tensor.dim(), side.batch_axis % tensor.dim()
    shape = [1] * tensor.dim()
    shape[row_axis] = tensor.shape[row_axis]
    if rows.dim() == 2:
        shape[batch_axis] = tensor.shape[batch_axis]
        rows = rows.repeat_interleave(tensor.shape[batch_axis] // rows.shape[0], 0)
        rows = rows if batch_axis < row_axis else rows.T
    return cotangent * rows.reshape(shape)


def _pulled(tape: Tape, side: Side, cotangent: Tensor, rows: Tensor, leaves: list[int]) -> dict[int, Tensor]:
    """For each leaf, which of its rows have a gradient, (batch, leaf rows)."""
    if not rows.any():
        gradients: list[Tensor | None] = [None] * len(leaves)
    else:
        tensors = [tape.sources[i].tensor for i in leaves]
        gradients = pull([side.tensor], tensors, [masked(side, cotangent, rows)])  # type: ignore[arg-type]
    return {i: touched(tape.sources[i], g, tape.batch) for i, g in zip(leaves, gradients, strict=True)}


def touched(source: Source, gradient: Tensor | None, batch: int) -> Tensor:
    """Which rows of a leaf have a gradient, (batch, leaf rows)."""
    rows = _rows_of(source, batch)
    assert rows is not None
    assert source.tensor is not None
    if gradient is None:
        return torch.zeros(batch, rows, dtype=torch.bool, device=source.tensor.device)
    if source.spatial:
        return (gradient != 0).any(1).reshape(batch, rows)
    return (gradient != 0).reshape(batch, rows, -1).any(-1)


def _rows_of(source: Source, batch: int) -> int | None:
    """Number of rows of a leaf; None where it has no batch of rows."""
    if len(source.shape) < 2 or source.shape[0] != batch:
        return None
    places = source.shape[2:] if source.spatial else source.shape[1:2]
    return int(torch.Size(places).numel())


def parts(tape: Tape, positions: dict[int, Positions]) -> list[Part]:
    """The segments of a stream, one for each input, in the order of their first row."""
    found: dict[str, Part] = {}
    for leaf, rows in positions.items():
        name = tape.sources[leaf].name
        if name not in found:
            found[name] = part(tape.sources[leaf], leaf, rows)
    return sorted(found.values(), key=lambda p: int(p.positions[p.positions >= 0].min()))


def part(source: Source, leaf: int, positions: Positions) -> Part:
    """A segment; where several leaf rows (pixels) became one token, that token once."""
    two_axes = source.spatial and len(source.shape) == 4
    grid = (source.shape[2], source.shape[3]) if two_axes else None
    first = positions[0][positions[0] >= 0]
    tokens = first.unique()
    if len(tokens) < len(first):
        order = list(dict.fromkeys(first.tolist()))
        if grid is not None:
            image = positions[0].reshape(grid)
            grid = (len(image[:, 0].unique()), len(image[0].unique()))
            grid = grid if grid[0] * grid[1] == len(order) else None
        positions = torch.tensor(order, device=positions.device).expand(len(positions), -1)
    return Part(leaf, source.name, positions, grid, "image" if two_axes else "tokens")


def is_static(positions: Positions) -> bool:
    """Whether a segment is one run of rows in order, in every sample: then it is so for any number of words."""
    steps = torch.arange(positions.shape[1], device=positions.device)
    return bool((positions == positions[:1, :1] + steps).all() and (positions >= 0).all())
