"""Pictures and masks of files or bytes, opened with care: whatever is wrong with one is a SampleError."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.errors import SampleError

if TYPE_CHECKING:
    from jaxtyping import Bool
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Of the files that are taken for pictures, in small letters."""


def picture(source: Path | bytes, name: object) -> Image:
    """A picture as RGB, turned as its EXIF data says; of an animation the first frame.

    Args:
        source: the file, or what would be in it.
        name: what messages call it.

    Raises:
        SampleError: no such file, no image, a damaged one, or more pixels than Pillow considers safe.
    """
    with _opened(source, name) as opened:
        return _upright_rgb(opened)


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
        raise SampleError(
            f"{name} cannot be read as an image ({error}); expected a whole PNG, JPEG or the like"
        ) from error


def _upright_rgb(opened: Image) -> Image:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # of 16 bits; converting these to RGB would clip all that is above 255
        image = Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
