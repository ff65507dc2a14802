"""The outline of what stands out in a map: Otsu's threshold (1979), and a line that is seen on any ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from heedmap.errors import MissingLibraryError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from PIL.Image import Image

INNER, OUTER = (255, 255, 255), (0, 0, 0)
MOST_THICK = 4
"""Pixels."""


def otsu(places: Float[np.ndarray, " tokens"]) -> float | None:
    """The place on the scale that parts the values into two classes best; None where they are all equal.

    Raises:
        MissingLibraryError: there is no scikit-image.
    """
    try:
        from skimage.filters import threshold_otsu
    except ImportError as error:
        raise MissingLibraryError("contour=True needs scikit-image; pip install 'heedmap[eval]'") from error
    levels = np.round(places * 255).astype(np.uint8)
    return None if not len(levels) or np.ptp(levels) == 0 else float(threshold_otsu(levels)) / 255


def outlined(image: Image, inside: Bool[np.ndarray, "height width"]) -> Image:
    """A copy with a white line along the inner edge of a region, and a black one along the outer."""
    from PIL import Image

    thickness = min(MOST_THICK, max(1, round(max(image.size) / 300)))
    pixels = np.array(image)
    pixels[_grown(inside, thickness) & ~inside] = OUTER
    pixels[inside & _grown(~inside, thickness)] = INNER
    return Image.fromarray(pixels)


def _grown(mask: Bool[np.ndarray, "height width"], by: int) -> Bool[np.ndarray, "height width"]:
    """Everything within a square of so many pixels to each side, one axis after the other."""
    for _ in range(2):
        grown = mask.copy()
        for step in range(1, min(by, len(mask) - 1) + 1):
            grown[step:] |= mask[:-step]
            grown[:-step] |= mask[step:]
        mask = grown.T
    return mask
