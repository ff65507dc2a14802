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
