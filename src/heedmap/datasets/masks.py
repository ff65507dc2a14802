"""COCO's ``segmentation``: polygons and run lengths, made into masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.datasets.libraries import library

if TYPE_CHECKING:
    from jaxtyping import Bool


def decoded(segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The mask of an annotation; all false where it has no polygon.

    Args:
        segmentation: polygons (lists of x y x y …), or run lengths: a mapping of ``size`` (height, width) and
            ``counts``, a list, or COCO's compressed string.
        height, width: of the image.

    Raises:
        ValueError: it is neither, or does not fit the image.
    """
    if isinstance(segmentation, Mapping):
        return _of_runs(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise ValueError(f"its segmentation is a {type(segmentation).__name__}; expected polygons or run lengths")
    return _of_polygons(segmentation, height, width)


def _of_polygons(polygons: Sequence[Any], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        _check_polygon(polygon, height, width)
    coco = library("pycocotools.mask", "COCO polygons")
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return _of_runs({**merged, "counts": merged["counts"].decode()}, height, width)


def _check_polygon(polygon: Any, height: int, width: int) -> None:
    """What pycocotools takes for granted: a rectangle would be read as another thing, a huge number fill the memory."""
    numbers = isinstance(polygon, list) and all(isinstance(one, int | float) for one in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError("a polygon is no list of x and y of three points or more")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        if not all(math.isfinite(one) and -side <= one <= 2 * side for one in values):
            raise ValueError(f"a polygon goes far beyond the image, {width} × {height}")


def _of_runs(coded: Mapping[str, Any], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    # pycocotools would leave memory that was never written in a mask whose runs are too short
    counts = coded.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("its run lengths are no list of whole numbers, nor COCO's compressed string")
    if list(coded.get("size") or ()) != [height, width] or sum(runs) != height * width:
        raise ValueError(
            f"its run lengths are of {sum(runs)} pixels, size {coded.get('size')}; the image has {height} × {width}"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order="F")


def _uncompressed(text: str) -> list[int]:
    """The run lengths of a compressed string: five bits a letter, the lowest first, the sixth where more follow.

    From the fourth on, each is the difference to the one two before.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
