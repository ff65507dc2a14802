"""Where the parts of an input lie among tokens: pictures, tiles and frames, place by place, also where places were merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from heedmap.attention.companions import CompanionTape
from heedmap.attention.mixers import Mixer
from heedmap.attention.numbers import NOTHING, Ids, Numbers, all_of
from heedmap.attention.placed_flow import Builder, PlacedStream
from heedmap.attention.token_positions import InputSpan

Grid = tuple[int, int]
GRIDS = ("grid_thw", "grid_hw", "spatial_shapes")
"""Parts of the names of inputs that say how many rows and columns (and frames before) each of packed pictures has."""


@dataclass(frozen=True, eq=False)
class Part:
    """A picture, a tile, a frame; or a sample's tokens of what is none.

    Attributes:
        ids: the numbers of its tokens, of a picture row by row.
        grid: (rows, columns) of a picture.
    """

    ids: Ids
    grid: Grid | None = None


def of_leaf(tape: CompanionTape, leaf: int, inputs: Mapping[str, Any], mixers: Iterable[Mixer]) -> list[Part]:
    """The parts of a leaf, in the model's order.

    Args:
        tape: the recording.
        leaf: its index among the sources.
        inputs: of the model; they may say the grids of pictures that are packed, one patch a row.
        mixers: these may merge patches; by what they merge the order of packed patches is told.
    """
    source, ids = tape.sources[leaf], tape.numbers.first(tape.leaf_ids[leaf])
    if source.spatial and ids.dim() == 4 and ids[0].numel() > 1:
        return [Part(picture.flatten(), (ids.shape[2], ids.shape[3])) for picture in ids]
    rows = ids[ids >= 0]
    rows = rows[~tape.numbers.are_made(rows, "learned")] if not source.spatial else ids.flatten()
    grids = packed(inputs, source.name, len(rows)) if source.spatial or ids.dim() == 2 else []
    if grids:
        to = _targets(tape.numbers, mixers)
        pictures = rows.split([height * width for height, width in grids])
        return [Part(_in_rows(picture, grid, to), grid) for picture, grid in zip(pictures, grids, strict=True)]
    samples = tape.numbers.of_sample(rows)
    return [Part(rows[samples == sample]) for sample in samples[samples >= 0].unique()]


def packed(inputs: Mapping[str, Any], name: str, rows: int) -> list[Grid]:
    """The grids of the pictures and frames of an input that is packed in so many rows; none where nothing says them."""
    said = [
        value.cpu()
        for key, value in sorted(inputs.items(), key=lambda pair: ("video" in pair[0]) != ("video" in name))
        if any(part in key for part in GRIDS) and isinstance(value, Tensor) and value.shape[1:] in ((2,), (3,))
    ]
    sizes = next((value.tolist() for value in said if int(value.prod(-1).sum()) == rows), [])
    return [(height, width) for *frames, height, width in sizes for _ in range(*frames or (1,))]


def through(numbers: Numbers, parts: Iterable[Part], mixers: Sequence[Mixer]) -> list[Part]:
    """What mixers made of parts, of those of which they made anything."""
    to = _targets(numbers, mixers)
    return [made for part in parts if (made := _through(numbers, part, mixers, to)) is not None]


def _through(numbers: Numbers, part: Part, mixers: Sequence[Mixer], to: Ids) -> Part | None:
    merged = to[part.ids]
    if bool((merged >= 0).any()):
        return _merged(merged, part.grid)
    for mixer in mixers:
        for before, after in _maps(numbers, mixer):
            if bool(torch.isin(part.ids[part.ids >= 0], before).all()):
                return Part(after.flatten(), (after.shape[0], after.shape[1]) if after.dim() == 2 else None)
    samples = numbers.of_sample(part.ids).unique()
    made = torch.cat([all_of(numbers.first(mixer.ids)) for mixer in mixers])
    of_samples = made[torch.isin(numbers.of_sample(made), samples)]
    return Part(of_samples) if len(of_samples) else None


def _targets(numbers: Numbers, mixers: Iterable[Mixer]) -> Ids:
    """For each number the row into which its token goes; -1: none, or several."""
    to = torch.full((len(numbers.owner) + 1,), NOTHING)
    for mixer in mixers:
        if mixer.into is not None:
            tokens, rows = mixer.merged(numbers)
            to[tokens] = rows
        else:
            for before, after in _maps(numbers, mixer):
                if after.numel() == 1:  # a convolution over blocks
                    to[before[before >= 0]] = after.flatten()
    return to


def _maps(numbers: Numbers, mixer: Mixer) -> Iterator[tuple[Ids, Ids]]:
    """The numbers before and after a convolution or pooling, (\\*places), of each entry of its batch."""
    before, after = mixer.asked, mixer.ids.expand(mixer.out.shape)
    if before.dim() == after.dim() > 2 and len(before) == len(after):
        for read, made in zip(before.expand(mixer.value.shape), after, strict=True):
            yield numbers.first(read[0]), numbers.first(made[0])


def _merged(to: Ids, grid: Grid | None) -> Part:
    """The rows that tokens go into, in order; of a picture whose blocks are merged, its new rows and columns."""
    if grid is not None and bool((to >= 0).all()):
        places = to.reshape(grid)
        rows, columns = len(places[:, 0].unique()), len(places[0].unique())
        if _is_in_blocks(places, rows, columns):
            return Part(places[:: grid[0] // rows, :: grid[1] // columns].flatten(), (rows, columns))
    return Part(torch.tensor(list(dict.fromkeys(to[to >= 0].tolist()))))


def _is_in_blocks(places: Ids, rows: int, columns: int) -> bool:
    """Whether these places are merged block by block, into so many rows and columns."""
    height, width = places.shape
    if height % rows or width % columns or len(places.unique()) != rows * columns:
        return False
    blocks = places.reshape(rows, height // rows, columns, width // columns)
    return bool((blocks == blocks[:, :1, :, :1]).all())


def _in_rows(ids: Ids, grid: Grid, to: Ids) -> Ids:
    """The places of a packed picture row by row: packed so, or block by block, as they are merged in squares."""
    merged = to[ids]
    count = len(merged.unique())
    side = isqrt(len(ids) // count)
    if side < 2 or side**2 * count != len(ids) or bool((merged < 0).any()) or grid[0] % side or grid[1] % side:
        return ids
    rows, columns = grid[0] // side, grid[1] // side
    if _is_in_blocks(merged.reshape(grid), rows, columns):
        return ids
    blocks = ids.reshape(rows, columns, side, side).permute(0, 2, 1, 3).reshape(grid)
    return blocks.flatten() if _is_in_blocks(to[blocks], rows, columns) else ids


# -- segments ---------------------------------------------------------------------------------------------------------


def segments(builder: Builder, inputs: Mapping[str, Any]) -> dict[int, list[InputSpan]]:
    """For each stream, its segments: of several pictures, tiles or frames of a sample, one for each."""
    tape, streams = builder.tape, builder.streams
    mixers = [a for a in tape.attentions if isinstance(a, Mixer)]
    rows = torch.cat([stream.numbers.flatten() for stream in streams])
    within = _Within(
        builder,
        {
            leaf: of_leaf(tape, leaf, inputs, mixers)
            for leaf, own in builder.of_leaves().items()
            if bool(own[rows].any())
        },
    )
    return {stream.index: _spans(tape, stream, within.parts(stream)) for stream in streams}


class _Within:
    """The parts of leaves that streams have.

    Args:
        builder: of the streams.
        of_leaf: the parts of each leaf.
    """

    def __init__(self, builder: Builder, of_leaf: Mapping[int, list[Part]]) -> None:
        self._builder, self._of_leaf = builder, of_leaf
        self._found: dict[int, list[tuple[int, list[Part]]]] = {}

    def parts(self, stream: PlacedStream) -> list[tuple[int, list[Part]]]:
        """The parts of leaves that a stream has, and what was made of them in the streams that it took in; of these first.

        Of what it takes in beside tokens of the same input (a level of a pyramid) there is none: it has its own tokens already.
        Nor of tokens that it has besides as parts of others: what stands there for itself looks like the whole, and is not.
        """
        if stream.index not in self._found:
            self._found[stream.index] = [(leaf, parts) for leaf, parts in self._all_parts(stream) if parts]
        return self._found[stream.index]

    def _all_parts(self, stream: PlacedStream) -> Iterator[tuple[int, list[Part]]]:
        tape, graph = self._builder.tape, self._builder.graph
        begun = {tape.sources[leaf].name for leaf in stream.leaves}
        twice = [x for x, join in stream.joins.items() if join.mixers and join.places is not None]
        apart = set[int]().union(*(graph.all_leaves(x) for x in twice))
        yield from ((leaf, parts) for leaf, parts in self._of_leaf.items() if leaf not in apart)
        for other, join in stream.joins.items():
            known = self._builder.streams[other]
            mixers = [m for i in join.mixers if isinstance(m := tape.attentions[i], Mixer)]
            for leaf, parts in self.parts(known):
                if tape.sources[leaf].name in begun or leaf in apart:
                    continue
                own = [part for part in parts if bool((known.rows_of(part.ids) >= 0).any())]
                yield leaf, through(tape.numbers, own, mixers) if mixers and own else own


def _spans(tape: CompanionTape, stream: PlacedStream, within: Iterable[tuple[int, list[Part]]]) -> list[InputSpan]:
    found: list[InputSpan] = []
    seen = torch.zeros(stream.numbers.numel() + 1, dtype=torch.bool)
    for leaf, parts in sorted(within, key=lambda pair: -tape.sources[pair[0]].says):
        rows = torch.cat([stream.rows_of(part.ids) for part in parts])
        rows = rows[rows >= 0]
        if len(rows) and not bool(seen[rows].any()):
            seen[rows] = True
            found += _spans_of(tape, stream, leaf, parts)
    return sorted(found, key=lambda p: int(p.positions[p.positions >= 0].min()))


def _spans_of(tape: CompanionTape, stream: PlacedStream, leaf: int, parts: Sequence[Part]) -> list[InputSpan]:
    """A segment for the first part of each sample, one for the second …"""
    samples: list[list[Part]] = [[] for _ in range(tape.batch)]
    for part in parts:
        if bool((stream.rows_of(part.ids) >= 0).any()):
            samples[int(tape.numbers.of_sample(part.ids).max())].append(part)
    none = Part(torch.zeros(0).long())
    name = tape.sources[leaf].name
    return [_span(stream, leaf, name, one) for one in zip_longest(*samples, fillvalue=none)]


def _span(stream: PlacedStream, leaf: int, name: str, parts: Sequence[Part]) -> InputSpan:
    """One part of each sample."""
    positions = torch.full((len(parts), max(len(part.ids) for part in parts)), NOTHING)
    for own, part in zip(positions, parts, strict=True):
        own[: len(part.ids)] = stream.places_of(part.ids)
    grids = {part.grid for part in parts if len(part.ids)}
    grid = grids.pop() if len(grids) == 1 else None
    kind = "tokens" if grid is None else "image"
    return InputSpan(leaf, name, positions, grid, kind, positions)
