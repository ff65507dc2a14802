"""Pictures as a model sees them: made into pixels, shown again, and where on each the processor looks.

That is found by sending pictures of coordinates through it. No setting of the processor is read, so any resize, crop and
padding along the axes is undone, of whatever library. Four pictures of the original's size go through it: a black and a white
one, whose difference tells which pixels come from the picture and cancels standardisation, and one that brightens from left to
right, and from top to bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.attention.pictures import packed
from heedmap.data.picture import Geometry, Picture
from heedmap.errors import InputError
from heedmap.models.media import rgb

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from PIL.Image import Image
    from torch import Tensor

    from heedmap.types import ImageProcessor


SIDE = 384
EMPTY = (128, 128, 128)
"""Side in pixels and colour of the square that stands for a picture that nobody gave."""
AS_SEEN = "the picture is as the model saw it"
NOT_GIVEN = "no picture was given: places on a square"


def pixels(processor: ImageProcessor, images: Sequence[object]) -> dict[str, Tensor]:
    """What the image processor makes of the pictures: ``pixel_values``, and what else it gives.

    Raises:
        InputError: the processor cannot take one of them.
    """
    pictures = [rgb(image) for image in images]
    try:
        return dict(processor(images=pictures, return_tensors="pt"))
    except (ValueError, TypeError, RuntimeError) as error:
        sizes = ", ".join("×".join(map(str, picture.size)) for picture in pictures)
        raise InputError(f"the image processor cannot take images of {sizes} pixels together: {error}") from error


def unprocessed(values: Float[Tensor, "channels rows columns"], processor: ImageProcessor) -> Image:
    """Processed pixels as a picture: standardisation and rescaling undone, resize and crop kept."""
    import torch
    from PIL import Image

    values = values.detach().float().cpu()
    moments = [getattr(processor, name, None) for name in ("image_mean", "image_std")]
    if getattr(processor, "do_normalize", True) and moments[0] is not None:
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in moments)
        values = values * std + mean
    if getattr(processor, "do_rescale", True):
        values = values / (getattr(processor, "rescale_factor", None) or 1 / 255)
    colours = values.round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy())


def all_seen(image: Image | None, note: str = "") -> Picture:
    """A picture of which the model saw all; None: a square that stands for one that nobody gave."""
    from PIL import Image

    shown = Image.new("RGB", (SIDE, SIDE), EMPTY) if image is None else image
    return Picture(shown, Geometry.whole(shown.size), note=note)


LEVELS = 255
INSIDE = 0.98
"""A pixel with this part of the greatest difference between white and black comes from the picture alone."""
FEWEST = 4
"""Pixels of the original along an axis; with fewer, what is seen is taken to be all of it: off by a pixel at most."""
TOLERANCE = 3
"""Levels by which a pixel may be off the line: each resize rounds."""
SNAP = 0.15
"""Pixels of the model; an edge found as near as this to the picture's own edge is that edge."""
GOLDEN, TURNS = 0.618, 89
"""So many multiples of it, without their whole part, are spread evenly over 0 to 1."""
Marker = Callable[[int, int], "UInt8[np.ndarray, 'rows columns']"]
"""Width and height → a picture of coordinates."""
Line = tuple[float, float]
Patch = int | Sequence[int] | None
"""Side of a patch, or (rows, columns) of it; None: there is none of a fixed size."""


def geometries(processor: ImageProcessor, sizes: Sequence[tuple[int, int]]) -> list[Geometry | None]:
    """For each picture of a batch where the processor looks; None where that is no box along the axes.

    Args:
        processor: see :class:`~heedmap.models.kinds.Processors`.
        sizes: (width, height) of the pictures, which are processed together.

    Raises:
        InputError: the processor cannot take such pictures.
    """
    views = [_processed(processor, sizes, marker) for marker in MARKERS]
    if any(len(view) != len(sizes) for view in views):
        return [None] * len(sizes)
    return [_geometry(*markers) for markers in zip(*views, sizes, strict=True)]


def parted(image: Image, processor: ImageProcessor, patch: Patch, name: str) -> list[Picture]:
    """The pieces that the processor makes of one picture for the model (tiles, the whole), each with where it looks.

    A processor may give patches in a row, whose places are known by how light they are: what is seen is then counted in them.

    Args:
        image: the picture, RGB.
        processor: see :class:`~heedmap.models.kinds.Processors`.
        patch: see :func:`trimmed`.
        name: of the model, for messages.

    Raises:
        InputError: the processor cannot take such a picture, or it is not known where a piece looks.
    """
    views = [_cut(processor, image.size, marker, patch) for marker in MARKERS]
    count = len(views[0])
    found: list[Geometry | None] = []
    if all(len(view) == count for view in views):
        found = [_geometry(*markers) for markers in zip(*views, [image.size] * count, strict=True)]
    known = [geometry for geometry in found if geometry is not None]
    if len(known) < len(found) or not found:
        raise InputError(
            f"the image processor of {name} does more than resize, cut, crop and pad, so there is no one box of the original "
            "that each piece looks at; draw the maps without the picture"
        )
    return [Picture(image, known[0])] if len(known) == 1 else [_cropped(image, geometry) for geometry in known]


def _cropped(image: Image, geometry: Geometry) -> Picture:
    """What is seen of a picture, alone."""
    left, top, right, bottom = (round(side) for side in geometry.view)
    moved = replace(
        geometry,
        offset=(geometry.offset[0] - left, geometry.offset[1] - top),
        size=(right - left, bottom - top),
    )
    return Picture(image.crop((left, top, right, bottom)), moved)


def trimmed(geometry: Geometry, patch: Patch) -> Geometry:
    """``geometry`` without the last pixels that fill no patch, which a model with patches of a fixed size leaves out."""
    if patch is None:
        return geometry
    rows, columns = (patch, patch) if isinstance(patch, int) else patch
    width, height = geometry.seen
    whole = (width - width % columns or width, height - height % rows or height)
    return replace(geometry, seen=whole)


def _sent(processor: ImageProcessor, sizes: Sequence[tuple[int, int]], marker: Marker) -> dict[str, Tensor]:
    """What the processor makes of a marker in these sizes."""
    from PIL import Image

    return pixels(processor, [Image.fromarray(marker(*size)).convert("RGB") for size in sizes])


def _cut(
    processor: ImageProcessor, size: tuple[int, int], marker: Marker, patch: Patch
) -> list[Float[np.ndarray, "rows columns"]]:
    """The mean over the colours of each piece that the processor makes of a marker, without pixels that fill no patch.

    Of patches in a row it is the mean of each, from dark to light in the marker's direction, as they come in an order of the
    processor's own.
    """
    made = _sent(processor, [size], marker)
    values = made["pixel_values"].double().cpu()
    if values.dim() >= 4:
        width, height = trimmed(Geometry.whole((values.shape[-1], values.shape[-2])), patch).seen
        return list(values.flatten(0, -4).mean(1)[:, :height, :width].numpy())
    grids = packed(made, "pixel_values", len(values))
    if values.dim() != 2 or len(grids) != 1:
        return []
    ((rows, columns),) = grids
    light = values.mean(1).sort().values.numpy()
    return [light.reshape(columns, rows).T if marker is _across else light.reshape(rows, columns)]


def _processed(
    processor: ImageProcessor, sizes: Sequence[tuple[int, int]], marker: Marker
) -> list[Float[np.ndarray, "rows columns"]]:
    """The mean over the colours of what the processor makes of a marker; nothing where that is no picture."""
    values = _sent(processor, sizes, marker)["pixel_values"]
    return list(values.double().mean(1).cpu().numpy()) if values.dim() == 4 else []


def _black(width: int, height: int) -> UInt8[np.ndarray, "rows columns"]:
    return np.zeros((height, width), np.uint8)


def _white(width: int, height: int) -> UInt8[np.ndarray, "rows columns"]:
    return np.full((height, width), LEVELS, np.uint8)


def _across(width: int, height: int) -> UInt8[np.ndarray, "rows columns"]:
    """Rounded up or down by turns, so that the mean over the rows is exact."""
    turn = (np.arange(min(height, TURNS)) * GOLDEN % 1)[:, None] if width > LEVELS + 1 else np.array([[0.5]])
    levels = np.floor(np.arange(width) * _step(width) + turn).clip(0, LEVELS).astype(np.uint8)
    return np.tile(levels, (-(-height // len(levels)), 1))[:height]


def _down(width: int, height: int) -> UInt8[np.ndarray, "rows columns"]:
    return _across(height, width).T


MARKERS = (_black, _white, _across, _down)


def _step(length: int) -> float:
    """Levels from one pixel to the next: a whole number where there are enough, so that nothing is rounded."""
    return LEVELS / (length - 1) if length > LEVELS + 1 else LEVELS // max(1, length - 1)


def _geometry(
    black: NDArray[np.float64],
    white: NDArray[np.float64],
    across: NDArray[np.float64],
    down: NDArray[np.float64],
    size: tuple[int, int],
) -> Geometry | None:
    contrast = white - black
    rectangle = _rectangle(contrast)
    if rectangle is None:
        return None
    rows, columns = rectangle
    gain = contrast[rows, columns] / LEVELS
    x = _line((across[rows, columns] - black[rows, columns]) / gain, columns.start, size[0])
    y = _line(((down[rows, columns] - black[rows, columns]) / gain).T, rows.start, size[1])
    if x is None or y is None:
        return None
    return Geometry((x[0], y[0]), (x[1], y[1]), (contrast.shape[1], contrast.shape[0]), size)


def _rectangle(contrast: Float[np.ndarray, "rows columns"]) -> tuple[slice, slice] | None:
    """Rows and columns of the pixels that come from the picture; None where they are no rectangle."""
    inside: Bool[np.ndarray, "rows columns"] = contrast >= INSIDE * contrast.max()
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not contrast.max() > 0 or not inside[np.ix_(rows, columns)].all():
        return None
    spans = [(int(indices[0]), int(indices[-1]) + 1) for indices in (rows, columns)]
    if any(end - start != len(indices) for (start, end), indices in zip(spans, (rows, columns), strict=True)):
        return None
    return slice(*spans[0]), slice(*spans[1])


def _line(levels: Float[np.ndarray, "others seen"], start: int, length: int) -> Line | None:
    """Scale and offset from a pixel of the model to the original; None where the levels are on no line.

    Args:
        levels: of the ramp, 0 to 255, at the pixels that come from the picture.
        start: the first of these pixels.
        length: of the original along this axis.
    """
    seen = levels.shape[1]
    whole = length / seen, -start * length / seen
    if length < FEWEST or seen < 2:
        return whole
    places = levels / _step(length) + 0.5
    centres = np.arange(start, start + seen) + 0.5
    middle = places.mean(0)
    kept = (middle > 1) & (middle < length - 1)  # beyond, a filter sees past the edge
    if kept.sum() < 2:
        kept[:] = True
    scale, offset = (float(number) for number in np.polyfit(centres[kept], middle[kept], 1))
    error = np.abs(places - (scale * centres + offset))[:, kept].max()
    if scale <= 0 or error > max(1.0, TOLERANCE / _step(length), scale):
        return None
    first, last = scale * start + offset, scale * (start + seen) + offset
    return whole if max(abs(first), abs(last - length)) < SNAP * scale else (scale, offset)
