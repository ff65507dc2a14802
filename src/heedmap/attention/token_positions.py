"""Where the input's tokens are in their stream: found by pulling rows back to the leaves, not configured.

For each bit of the row number, a cotangent that is non-zero in the rows with that bit is pulled back from a stream's
first attention to its leaves. A leaf row's pattern of non-zero gradients spells the number of the one row that it became;
a leaf row that answers to a bit and to its complement went into several rows: tokens mix before the first attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heedmap.attention.attention import RowTensor
from heedmap.attention.flow import Graph, Stream
from heedmap.attention.tags import Source
from heedmap.attention.tape import Tape
from heedmap.errors import AttentionError, GradientError, MixingError

Positions = Int[Tensor, "batch tokens"]


class TokenRows(NamedTuple):
    """Rows at one place of the pass: what they are called, their tensor, and which of them a gradient of it touches."""

    name: str
    tensor: Tensor
    touched: Callable[[Tensor], Bool[Tensor, "batch rows"]]


@dataclass(eq=False)
class InputSpan:
    """One segment of a stream.

    Attributes:
        leaf: index of the leaf among the tape's sources.
        name: of the input that the leaf comes from.
        positions: (batch, tokens), the row of the stream that each token became; -1: none.
        grid: (rows, columns) of an image's patches.
        kind_hint: ``"image"`` where the leaf has two spatial axes, else ``"tokens"``.
        rows: (batch, rows of the leaf), the row of the stream that each of them became; -1: none.
    """

    leaf: int
    name: str
    positions: Positions
    grid: tuple[int, int] | None
    kind_hint: str
    rows: Positions


def _entry(tape: Tape, graph: Graph, stream: Stream) -> tuple[int, str] | None:
    """(attention, side) by which a stream first enters attention with a graph to its leaves; None: learned tokens."""
    for edge in graph.edges:
        sides = tape.attentions[edge.attention].sides
        candidates = (("queries", edge.stream, edge.query_state), ("values", edge.source, edge.value_state))
        for name, index, state in candidates:
            if index == stream.index and not state and name in sides and sides[name].tensor.requires_grad:
                return edge.attention, name
    return None


def located(tape: Tape, graph: Graph, check: bool) -> dict[int, dict[int, Positions]]:
    """For each stream and each of its leaves, the row that each row of the leaf became, (batch, leaf rows); -1: none.

    The rows that tokens of other streams became are traced too. With ``check=False`` a leaf that mixes is assumed to be the last
    tokens of its stream, in order.

    Raises:
        MixingError: a row of a leaf went into several rows, a token of another stream into several, or several into one.
        GradientError: no gradient tells which row a token of another stream became.
    """
    for stream in graph.streams:
        _trace_joins(tape, graph, stream)
    return {s.index: _trace(tape, graph, s, check) for s in graph.streams}


def _trace(tape: Tape, graph: Graph, stream: Stream, check: bool) -> dict[int, Positions]:
    """The same for one stream."""
    start = _entry(tape, graph, stream)
    leaves = [i for i in sorted(stream.leaves) if _has_rows(tape.sources[i], tape.batch)]
    if start is None or not leaves:
        return {}
    origins = [_of_leaf(tape.sources[leaf]) for leaf in leaves]
    try:
        places = _traced(tape, stream, start, origins)
    except MixingError:
        if check or any(tape.sources[leaf].tower for leaf in leaves):
            raise
        fitting = [leaf for leaf in leaves if tape.sources[leaf].rows <= stream.tokens]
        last = {leaf: torch.arange(stream.tokens - tape.sources[leaf].rows, stream.tokens) for leaf in fitting[-1:]}
        return {leaf: rows.expand(tape.batch, -1) for leaf, rows in last.items()}
    traced = {leaf: rows for leaf, rows in zip(leaves, places, strict=True) if bool((rows >= 0).any())}
    _check_towers(tape, start, traced)
    return traced


def _check_towers(tape: Tape, start: tuple[int, str], positions: Mapping[int, Positions]) -> None:
    """MixingError where a tower's token is in another sample than its own, or in a row that other content has a part in."""
    towers = [leaf for leaf in positions if tape.sources[leaf].tower]
    if not towers:
        return
    side, name = tape.attentions[start[0]].sides[start[1]], tape.sources[towers[0]].name
    cotangent, samples = torch.randn_like(side.tensor), torch.arange(tape.batch, device=side.tensor.device)
    origins = [_of_leaf(tape.sources[leaf]) for leaf in towers]
    for sample in range(tape.batch if tape.batch > 1 else 0):
        rows = (samples == sample)[:, None].expand(-1, side.tensor.shape[side.row_axis])
        for hit in _pulled(side, cotangent, rows, origins):
            if bool(hit[samples != sample].any()):
                raise MixingError(
                    f"the tokens that the model makes of {name!r} are not as many for each sample, so they cannot be told apart; "
                    "explain the samples one by one"
                )
    if _shared(positions, towers):
        raise MixingError(
            f"what the model makes of {name!r} is added to other tokens, or several of it to one, so it has no tokens of its "
            "own; a map would be wrong, so there is none"
        )


def _shared(positions: Mapping[int, Positions], towers: Sequence[int]) -> bool:
    """Whether a row that a tower's token became is also that of something else."""
    for leaf in towers:
        others = torch.cat([rows for other, rows in positions.items() if other != leaf] or [positions[leaf][:, :0]], 1)
        for token_rows, rest in zip(positions[leaf], others, strict=True):
            token_rows, rest = token_rows[token_rows >= 0], rest[rest >= 0]
            if bool(torch.isin(token_rows, rest).any()) or len(token_rows.unique()) < len(token_rows):
                return True
    return False


def trace_late(tape: Tape, stream: Stream, start: tuple[int, str], leaf: int) -> Positions:
    """The row that each row of one leaf became, which joins the stream right before the side ``start`` of an attention."""
    places = _traced(tape, stream, start, [_of_leaf(tape.sources[leaf])])[0]
    _check_towers(tape, start, {leaf: places})
    return places


BASE, HALF_BASE = 128, 16
"""Digits in which :func:`confirmed` spells the number of a row; each is a power of two, which float32, or float16, can hold."""


def confirmed(tape: Tape, graph: Graph, stream: Stream, parts: Sequence[InputSpan]) -> bool:
    """Whether the rows of leaves became the rows that ``parts`` says, in this run; quicker than :func:`located`.

    One random cotangent for all rows is pulled back, then the same with each row multiplied by 2^digit of its number: the
    gradient of a leaf row grows by just that power where it became that row alone.
    """
    start = _entry(tape, graph, stream)
    if not parts:
        return start is None or not any(_has_rows(tape.sources[i], tape.batch) for i in stream.leaves)
    if start is None:
        return False
    side, sources = tape.attentions[start[0]].sides[start[1]], [tape.sources[part.leaf] for part in parts]
    cotangent = torch.randn_like(side.rows(0, 1).tensor).expand_as(side.tensor)  # the same row for every token
    plain = _norms(side, cotangent, sources)
    wrong = [(norm == 0).any() for norm in plain]
    numbers, places = torch.arange(stream.tokens, device=side.tensor.device), 1
    tensors = (side.tensor, *(source.tensor for source in sources))
    base = HALF_BASE if any(t is not None and t.dtype == torch.float16 for t in tensors) else BASE
    while places < stream.tokens:
        digits = numbers // places % base - base // 2
        scaled = _norms(side, masked(side, cotangent, torch.exp2(digits)), sources)
        for part, norm, grown in zip(parts, plain, scaled, strict=True):
            wrong.append((torch.log2(grown / norm).round() != digits[part.rows]).any())
        places *= base
    return not bool(torch.stack(wrong).any())


def _norms(side: RowTensor, cotangent: Tensor, sources: Sequence[Source]) -> list[Float[Tensor, "batch rows"]]:
    """The largest entry of each leaf row's gradient."""
    leaves = [source.tensor for source in sources if source.tensor is not None]
    gradients = _gradients(side.tensor, leaves, cotangent)
    return [leaf_rows(s, g.abs(), largest=True).float() for s, g in zip(sources, gradients, strict=True)]


def _trace_joins(tape: Tape, graph: Graph, stream: Stream) -> None:
    """Find, for each stream that ``stream`` took in, the row that each of its tokens became."""
    if not stream.joins:
        return
    start = _entry(tape, graph, stream)
    if start is None:
        raise GradientError(
            f"no gradient passes to the attentions before the {stream.tokens} tokens of stream {stream.index}, which are "
            "made of theirs (detach or torch.no_grad in the model?), so relevance cannot be carried on"
        )
    attentions = [tape.attentions[max(join.state)] for join in stream.joins.values()]
    origins = [TokenRows(f"attention {a.index}", a.out, a.touched) for a in attentions]
    for join, places in zip(stream.joins.values(), _traced(tape, stream, start, origins), strict=True):
        for sample in places.tolist():
            taken = [row for row in sample if row >= 0]
            if len(set(taken)) < len(taken):
                raise MixingError(_merged(max(join.state), *start))
        join.places = places


def _inherited(graph: Graph, stream: Stream, known: Mapping[int, dict[int, Positions]]) -> dict[int, Positions]:
    """Where a stream's leaves are in it, those of the streams that it took in included."""
    by_leaf = dict(known[stream.index])
    for other, join in stream.joins.items():
        assert join.places is not None
        for leaf, rows in _inherited(graph, graph.streams[other], known).items():
            places = torch.where(rows >= 0, join.places.gather(1, rows.clamp(min=0)), -1)
            if bool((places >= 0).any()):
                by_leaf[leaf] = places
    return by_leaf


def _of_leaf(source: Source) -> TokenRows:
    assert source.tensor is not None
    return TokenRows(repr(source.name), source.tensor, source.touched)


def _traced(tape: Tape, stream: Stream, start: tuple[int, str], origins: list[TokenRows]) -> list[Positions]:
    """For each origin, the row of the stream that each of its rows became, (batch, its rows); -1: none."""
    side = tape.attentions[start[0]].sides[start[1]]
    cotangent = torch.randn_like(side.tensor)
    numbers = torch.arange(stream.tokens, device=side.tensor.device)
    seen = [o.touched(torch.zeros_like(o.tensor)) for o in origins]
    places = [torch.zeros_like(rows, dtype=torch.int64) for rows in seen]
    for bit in range(max(1, (stream.tokens - 1).bit_length())):
        is_set = (numbers >> bit) & 1 == 1
        hit, missed = (_pulled(side, cotangent, rows, origins) for rows in (is_set, ~is_set))
        for i, origin in enumerate(origins):
            if (hit[i] & missed[i]).any():
                row = int((hit[i] & missed[i])[0].int().argmax())
                raise MixingError(_mixed(origin.name, row, *start))
            places[i] = places[i] + (hit[i].long() << bit)
            seen[i] = hit[i] | missed[i]
    return [torch.where(s, p, -1) for s, p in zip(seen, places, strict=True)]


def _mixed(name: str, row: int, attention: int, side: str) -> str:
    return (
        f"the {side} of attention {attention} mix tokens of {name}, outside of recorded attention (token {row} reaches "
        "several rows): an attention or mixing layer in between is not recorded, so a map would be wrong; explain a model "
        "whose attention is softmax(q kᵀ) v between token-wise layers (or probe=False, at your risk)"
    )


def _merged(before: int, attention: int, side: str) -> str:
    return (
        f"the {side} of attention {attention} merge several tokens of attention {before} into one, so relevance cannot be "
        "carried from token to token; explain a model that keeps its tokens"
    )


def _gradients(output: Tensor, ends: list[Tensor], cotangent: Tensor) -> tuple[Tensor, ...]:
    """Of each end, zero where the output does not depend on it; the graph stays."""
    return torch.autograd.grad(output, ends, cotangent, retain_graph=True, materialize_grads=True)


def masked(side: RowTensor, cotangent: Tensor, rows: Tensor) -> Tensor:
    """``cotangent`` where ``rows``, (tokens,) or (batch, tokens), is True, in the layout of ``side``."""
    tensor = side.tensor
    row_axis, batch_axis = side.row_axis % tensor.dim(), side.batch_axis % tensor.dim()
    shape = [1] * tensor.dim()
    shape[row_axis] = tensor.shape[row_axis]
    if rows.dim() == 2:
        shape[batch_axis] = tensor.shape[batch_axis]
        heads = tensor.shape[batch_axis] // rows.shape[0]
        rows = rows.repeat(heads, 1) if side.heads_first else rows.repeat_interleave(heads, 0)
        rows = rows if batch_axis < row_axis else rows.T
    return cotangent * rows.reshape(shape).to(cotangent.dtype)


def _pulled(side: RowTensor, cotangent: Tensor, rows: Tensor, origins: list[TokenRows]) -> list[Tensor]:
    """For each origin, which of its rows have a gradient, (batch, its rows)."""
    if not rows.any():
        return [o.touched(torch.zeros_like(o.tensor)) for o in origins]
    gradients = _gradients(side.tensor, [o.tensor for o in origins], masked(side, cotangent, rows))
    return [o.touched(g) for o, g in zip(origins, gradients, strict=True)]


def became(source: Source, positions: Positions, tokens: int, gradient: Tensor) -> Bool[Tensor, "batch tokens"]:
    """The rows of a stream, of so many tokens, that the rows of a leaf with a gradient became."""
    touched = source.touched(gradient) & (positions >= 0)
    rows = touched.new_zeros(len(touched), tokens, dtype=torch.int64)
    return rows.scatter_add(1, positions.clamp(min=0), touched.long()) > 0


def leaf_rows(source: Source, relevance: Tensor, largest: bool = False) -> Float[Tensor, "batch rows"]:
    """Relevance in a leaf's shape, summed over the features of each of its rows; or the largest of them."""
    reduce = torch.Tensor.amax if largest else torch.Tensor.sum
    if source.spatial:
        return reduce(relevance, 1).flatten(1)
    return reduce(relevance.flatten(2), -1) if relevance.dim() > 2 else relevance


def _has_rows(source: Source, batch: int) -> bool:
    """Whether a leaf is a batch of rows."""
    return len(source.shape) > 1 and source.shape[0] == batch and source.rows > 0


def parts(tape: Tape, graph: Graph, known: Mapping[int, dict[int, Positions]]) -> dict[int, list[InputSpan]]:
    """The segments of each stream; ``known``: see :func:`located`."""
    return {s.index: _parts(tape, _inherited(graph, s, known)) for s in graph.streams}


def _parts(tape: Tape, positions: dict[int, Positions]) -> list[InputSpan]:
    """The segments of a stream, one for each input, in the order of their first row.

    Where several inputs became the same rows (words, their types, their times, a mask that is multiplied with them), the tokens
    are those of the input that can say most.
    """
    first: dict[tuple[str, int], int] = {}
    for leaf in positions:
        source = tape.sources[leaf]
        first.setdefault((source.name, leaf if source.tower else -1), leaf)
    kept: dict[int, Positions] = {}
    for leaf in sorted(first.values(), key=lambda leaf: -tape.sources[leaf].says):
        if not any(_are_same(rows, positions[leaf]) for rows in kept.values()):
            kept[leaf] = positions[leaf]
    made = [_part(tape.sources[leaf], leaf, rows) for leaf, rows in kept.items()]
    return sorted(made, key=lambda p: int(p.positions[p.positions >= 0].min()))


def _are_same(a: Positions, b: Positions) -> bool:
    """Whether two leaves became the same rows, one by one; where only one of them did, that is no contradiction."""
    if a.shape != b.shape:
        return False
    both = (a >= 0) & (b >= 0)
    return bool(both.any() and (a[both] == b[both]).all())


def _part(source: Source, leaf: int, positions: Positions) -> InputSpan:
    """A segment; where several leaf rows (pixels) became one token, that token once."""
    two_axes = source.spatial and len(source.shape) == 4
    grid = (source.shape[2], source.shape[3]) if two_axes else None
    rows, first = positions, positions[0][positions[0] >= 0]
    tokens = first.unique()
    if len(tokens) < len(first):
        order = list(dict.fromkeys(first.tolist()))
        if grid is not None:
            image = positions[0].reshape(grid)
            grid = (len(image[:, 0].unique()), len(image[0].unique()))
            grid = grid if grid[0] * grid[1] == len(order) else None
        positions = torch.tensor(order, device=positions.device).expand(len(positions), -1)
    return InputSpan(leaf, source.name, positions, grid, "image" if two_axes else "tokens", rows)


SegmentOrder = dict[int, list[tuple[int, int]]]
"""For each stream its segments, each one run of rows: (ordinal of the leaf among the leaves, rows before it)."""


def order_of(tape: Tape, parts: Mapping[int, Sequence[InputSpan]]) -> SegmentOrder | None:
    """The order of segments; there is none where one is not one run of rows, each of one row of its leaf."""
    ordinals = {leaf: n for n, leaf in enumerate(_leaves(tape))}
    order: SegmentOrder = {}
    for index, spans in parts.items():
        end, order[index] = 0, []
        for span in spans:
            source, count = tape.sources[span.leaf], span.positions.shape[1]
            if not _is_run(span.positions) or source.shape[-1] == 0 or source.rows != count:
                return None
            start = int(span.positions[0, 0])
            order[index].append((ordinals[span.leaf], start - end))
            end = start + count
    return order


def laid_out(tape: Tape, graph: Graph, order: SegmentOrder) -> dict[int, list[InputSpan]]:
    """The segments of each stream, by their order and the lengths that this run's leaves have.

    Raises:
        AttentionError: a stream has fewer tokens.
    """
    leaves, parts = _leaves(tape), dict[int, list[InputSpan]]()
    for index, segments in order.items():
        end, parts[index] = 0, []
        for ordinal, gap in segments:
            source = tape.sources[leaves[ordinal]]
            start, end = end + gap, end + gap + source.rows
            positions = torch.arange(start, end).expand(tape.batch, -1)
            parts[index].append(_part(source, leaves[ordinal], positions))
        if end > graph.streams[index].tokens:
            raise AttentionError(
                f"stream {index} has {graph.streams[index].tokens} tokens where its segments need {end}"
            )
    return parts


def _leaves(tape: Tape) -> list[int]:
    return [i for i, source in enumerate(tape.sources) if source.kind == "leaf"]


def _is_run(positions: Positions) -> bool:
    """Whether a segment is one run of rows in order, in every sample: then it is so for any number of words."""
    steps = torch.arange(positions.shape[1], device=positions.device)
    return bool((positions == positions[:1, :1] + steps).all() and (positions >= 0).all())
