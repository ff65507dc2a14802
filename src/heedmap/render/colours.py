"""Colours from perceptually uniform maps, and the ink that can be read on them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

PICTURE = "inferno"
"""For maps of images: what is not relevant is dark."""
SIGNED = "RdBu_r"
"""For maps with negative relevance: blue is against, red is for, 0 is pale; told apart by the colour-blind too."""
PAPER = "magma_r"
"""For text: what is not relevant stays nearly white."""
DEPTH = 0.78
"""Text goes this far up its map, short of black, which would vanish on a dark terminal."""


def colour_map(cmap: str) -> Colormap:
    """The matplotlib colour map of this name; OptionError where there is none."""
    from matplotlib import colormaps

    if cmap not in colormaps:
        raise OptionError(f"matplotlib has no colour map {cmap!r}; try inferno, magma, viridis, plasma or cividis")
    return colormaps[cmap]


@lru_cache(maxsize=16)
def table(cmap: str) -> NDArray[np.uint8]:
    """The 256 colours of a matplotlib colour map, (256, 3), uint8; OptionError where there is no such map."""
    rgb = colour_map(cmap)(np.linspace(0, 1, 256))[:, :3]
    colours = np.round(rgb * 255).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def colour(share: float, cmap: str = PAPER) -> str:
    """``#rrggbb`` for a share of 0 to 1."""
    red, green, blue = _rgb(share, cmap)
    return f"#{red:02x}{green:02x}{blue:02x}"


def ink(share: float, cmap: str = PAPER) -> str:
    """Black or white as ``#rrggbb``, whichever stands out more on ``colour(share, cmap)``."""
    red, green, blue = _rgb(share, cmap) / 255
    return readable((float(red), float(green), float(blue)))


def readable(ground: tuple[float, float, float]) -> str:
    """Black or white as ``#rrggbb``, whichever stands out more on a ground of red, green and blue from 0 to 1."""
    rgb = np.array(ground)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def _rgb(share: float, cmap: str) -> NDArray[np.uint8]:
    return table(cmap)[round(share * 255 * (DEPTH if cmap == PAPER else 1))]
