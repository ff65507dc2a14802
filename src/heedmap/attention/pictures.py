"""Where the parts of an input lie among tokens: pictures, tiles and frames, place by place, also where places were merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from heedmap.attention.companions import CompanionTape
from heedmap.attention.mixers import Mixer
from heedmap.attention.numbers import NOTHING, Ids, Numbers, all_of, thinned

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
            asked, into = map(numbers.first, thinned(*(i.expand(mixer.value.shape) for i in (mixer.asked, mixer.into))))
            real = (asked >= 0) & (into >= 0)
            to[asked[real]] = into[real]
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
