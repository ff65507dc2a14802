"""What lies behind the objects: a muted, textured ground with lines and specks on it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float

Picture = Float[np.ndarray, "side side 3"]

KNOTS = 7
"""Points a side of the smooth texture."""


def background(rng: np.random.Generator, side: int) -> Picture:
    """A ground of ``side`` x ``side`` pixels, about 0 to 255, of little saturation: never the colour of an object."""
    picture = _texture(rng, side)
    for _ in range(rng.integers(2, 6)):
        _line(rng, picture)
    _specks(rng, picture)
    return picture


def _texture(rng: np.random.Generator, side: int) -> Picture:
    """A gradient between two muted colours under smooth noise."""
    grey = rng.uniform(60, 200)
    tint = rng.uniform(-12, 12, 3)
    slope = rng.uniform(-28, 28, 2)
    knots = rng.normal(0, 13, (KNOTS, KNOTS))
    weights = _weights(side)
    along = np.linspace(-1, 1, side, dtype=np.float32)
    light = weights @ knots.astype(np.float32) @ weights.T + slope[0] * along[:, None] + slope[1] * along
    return light[:, :, None] + (grey + tint).astype(np.float32)


@lru_cache(maxsize=8)
def _weights(side: int) -> Float[np.ndarray, "side knots"]:
    """Linear interpolation from the knots to the pixels."""
    places = np.linspace(0, KNOTS - 1, side)[:, None]
    return np.maximum(0, 1 - np.abs(places - np.arange(KNOTS))).astype(np.float32)


def _line(rng: np.random.Generator, picture: Picture) -> None:
    """A thin grey line from one point of the picture to another, drawn in place."""
    side = len(picture)
    ends = rng.uniform(0, side - 1, (2, 2))
    steps = int(np.abs(ends[1] - ends[0]).max()) + 2
    rows, columns = np.rint(np.linspace(ends[0], ends[1], steps)).astype(int).T
    picture[rows, columns] += rng.choice((-1, 1)) * rng.uniform(25, 60)


def _specks(rng: np.random.Generator, picture: Picture) -> None:
    """Lighter and darker specks of one or two pixels, drawn in place."""
    count = int(rng.integers(10, 36))
    rows, columns = rng.integers(0, len(picture) - 1, (2, count))
    change = rng.uniform(-60, 60, (count, 1)).astype(np.float32)
    picture[rows, columns] += change
    wide = slice(None, count // 2)
    picture[rows[wide], columns[wide] + 1] += change[wide]
