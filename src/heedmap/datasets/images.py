"""Pictures and masks of files or bytes, opened with care: whatever is wrong with one is a SampleError."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.common.memory import ran_out
from heedmap.errors import SampleError

if TYPE_CHECKING:
    from jaxtyping import Bool
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Of the files that are taken for pictures, in small letters."""

PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Modes of Pillow whose colours are multiplied with their alpha → those of colours as they are."""


def picture(source: Path | bytes, name: object) -> Image:
    """A picture as :func:`upright_rgb` gives it; of an animation the first frame.

    Args:
        source: the file, or what would be in it.
        name: what messages call it.

    Raises:
        SampleError: no such file, no image, a damaged one, or more pixels than Pillow considers safe.
    """
    with _opened(source, name) as opened:
        return upright_rgb(opened)


def mask(source: Path | bytes, name: object) -> Bool[np.ndarray, "height width"]:
    """Where a picture is not 0: any of its channels but transparency, or its number in the palette.

    Args:
        source: the file, or what would be in it.
        name: what messages call it.

    Raises:
        SampleError: as of :func:`picture`.
    """
    with _opened(source, name) as opened:
        if opened.mode in ("LA", "RGBA"):
            opened = opened.convert(opened.mode[:-1])
        pixels = np.asarray(opened)
    return (pixels.reshape(*pixels.shape[:2], -1) != 0).any(2)


@contextmanager
def _opened(source: Path | bytes, name: object) -> Iterator[Image]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # odd metadata; the pixels are what is wanted
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                yield opened
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError(f"{name} is too large an image ({error}); give a smaller one") from error
    except Exception as error:  # for damaged files the decoders raise nearly anything
        if ran_out(error):
            raise SampleError(f"memory does not suffice to read the image {name}; give a smaller one") from error
        raise SampleError(
            f"{name} cannot be read as an image ({error}); expected a whole PNG, JPEG or the like"
        ) from error


def upright_rgb(image: Image) -> Image:
    """A picture as a person sees it, RGB: turned as its EXIF data says, of 16 bits scaled, what is transparent on white.

    Numbers of more than 8 bits are levels from 0 to 65,535, floats from 0 to 1; where they do not fit, from 0 to 255.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # converting these to RGB would clip all that is above 255
        image = Image.fromarray(_levels(np.asarray(image), deep=image.mode.startswith("I;16")))
    image = image.convert(PREMULTIPLIED.get(image.mode, image.mode))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _levels(values: np.ndarray, deep: bool) -> np.ndarray:
    """Grey levels of any depth as bytes."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        scaled = values * 255 if values.max(initial=0) <= 1 else values
    else:
        scaled = values.clip(0, 0xFFFF) >> 8 if deep or values.max(initial=0) > 255 else values
    return scaled.clip(0, 255).round().astype(np.uint8)


def decoded(segmentation: object, height: int, width: int) -> Bool[np.ndarray, "height width"]:
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


def _of_polygons(polygons: Sequence[object], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        _check_polygon(polygon, height, width)
    coco = library("pycocotools.mask", "eval", "reading COCO polygons needs")
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return _of_runs({**merged, "counts": merged["counts"].decode()}, height, width)


def _check_polygon(polygon: object, height: int, width: int) -> None:
    """What pycocotools takes for granted: a rectangle would be read as another thing, a huge number fill the memory."""
    if (
        not isinstance(polygon, list)
        or len(polygon) < 6
        or len(polygon) % 2
        or not all(isinstance(n, int | float) for n in polygon)
    ):
        raise ValueError("a polygon is no list of x and y of three points or more")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        if not all(math.isfinite(value) and -side <= value <= 2 * side for value in values):
            raise ValueError(f"a polygon goes far beyond the image, {width} × {height}")


def _of_runs(coded: Mapping[str, object], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    # pycocotools would leave memory that was never written in a mask whose runs are too short
    counts = coded.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("its run lengths are no list of whole numbers, nor COCO's compressed string")
    size = coded.get("size")
    if not isinstance(size, list | tuple) or list(size) != [height, width] or sum(runs) != height * width:
        raise ValueError(f"its run lengths are of {sum(runs)} pixels, size {size}; the image has {height} × {width}")
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
