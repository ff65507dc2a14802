"""Relevance of image patches: laid over the image, or drawn as a grid of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heedmap.errors import InputError, OptionError
from heedmap.explanation import Segment
from heedmap.render.colours import PICTURE, table
from heedmap.render.sample import sample

GRID_PIXELS = 336
NOT_TAKEN = 128


def overlay(
    image: Image.Image, segment: Segment, index: int = 0, *, alpha: float = 0.75, cmap: str = PICTURE
) -> Image.Image:
    """``image`` with the relevance of sample ``index`` over it, RGB, of the image's own size.

    The relevance is min–max scaled and upsampled bilinearly; what matters more is less transparent, up to ``alpha``.

    Args:
        image: as the model saw it, so that the grid covers all of it.
        segment: one with a grid (rows, columns).
        index: the sample.
        alpha: opacity of the most relevant place, 0 to 1.
        cmap: name of a matplotlib colour map.

    Raises:
        InputError: no PIL image, a segment without a grid, or no such sample.
        OptionError: no such colour map, or an alpha out of range.
    """
    if not 0 <= alpha <= 1:
        raise OptionError(f"alpha={alpha}; expected a number from 0 (invisible) to 1 (opaque)")
    if not isinstance(image, Image.Image):
        raise InputError(f"the image is a {type(image).__name__}; expected a PIL.Image.Image")
    share = grid_values(segment, sample(segment, index).share)
    smooth = Image.fromarray(share.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    level = np.round(np.asarray(smooth) * 255).clip(0, 255).astype(np.uint8)
    mask = Image.fromarray(np.round(level * alpha).astype(np.uint8))
    return Image.composite(Image.fromarray(table(cmap)[level]), image.convert("RGB"), mask)


def heat_grid(segment: Segment, index: int = 0, *, cmap: str = PICTURE) -> Image.Image:
    """The patches as squares of one colour each, RGB; grey where the model did not take a patch in.

    Raises:
        InputError: a segment without a grid, or no such sample.
    """
    drawn = sample(segment, index)
    level = np.round(grid_values(segment, drawn.share) * 255).astype(np.uint8)
    pixels = np.where(grid_values(segment, drawn.taken)[..., None], table(cmap)[level], NOT_TAKEN)
    side = max(1, GRID_PIXELS // max(level.shape))
    return Image.fromarray(pixels.astype(np.uint8).repeat(side, 0).repeat(side, 1))


def grid_values(segment: Segment, values: NDArray[Any]) -> NDArray[Any]:
    """``values``, (tokens,), as the segment's (rows, columns); InputError where it has no grid that fits."""
    if segment.grid is None:
        raise InputError(
            f"segment {segment.name!r} (kind {segment.kind}) has no grid, so it cannot be laid over an image; "
            "give a segment of patches, such as 'image'"
        )
    if segment.grid[0] * segment.grid[1] != len(values):
        raise InputError(
            f"segment {segment.name!r} has {len(values)} tokens, which do not fill its grid of "
            f"{segment.grid[0]} rows and {segment.grid[1]} columns"
        )
    return values.reshape(segment.grid)
