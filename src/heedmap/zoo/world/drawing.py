"""The shapes as signed distances: negative inside, positive outside.

Each function takes coordinates in units of the object's radius, x to the right and y down, about its centre, and gives
the distance to the outline in the same units (a lower bound of it near corners). Nothing reaches further out than
:data:`REACH`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float

Grid = Float[np.ndarray, "height width"]

REACH = 1.25
"""Farthest point of any shape from its centre, in radii."""


def circle(x: Grid, y: Grid) -> Grid:
    """A disc of radius 0.98."""
    return np.hypot(x, y) - 0.98


def ring(x: Grid, y: Grid) -> Grid:
    """A ring between the radii 0.5 and 1.06."""
    return np.abs(np.hypot(x, y) - 0.78) - 0.28


def square(x: Grid, y: Grid) -> Grid:
    """A square of half side 0.86."""
    return np.maximum(np.abs(x), np.abs(y)) - 0.86


def cross(x: Grid, y: Grid) -> Grid:
    """Two bars of half width 0.32 and half length 1.08."""
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.minimum(x, y) - 0.32, np.maximum(x, y) - 1.08)


def triangle(x: Grid, y: Grid) -> Grid:
    """Equilateral, its corners at 1.24."""
    return np.maximum(y, np.abs(x) * (math.sqrt(3) / 2) - y / 2) - 0.62


def star(x: Grid, y: Grid) -> Grid:
    """Five points at 1.24, the corners between them at 0.54."""
    turn = math.pi / 5
    angle = np.abs(np.mod(np.arctan2(x, -y) + turn, 2 * turn) - turn)
    radius = np.hypot(x, y)
    inner_along, inner_across = 0.54 * math.cos(turn), 0.54 * math.sin(turn)
    length = math.hypot(1.24 - inner_along, inner_across)
    along, across = radius * np.cos(angle) - 1.24, radius * np.sin(angle)
    return (along * inner_across + across * (1.24 - inner_along)) / length


def heart(x: Grid, y: Grid) -> Grid:
    """A square on its corner and a disc on each of its upper sides."""
    half, middle = 0.6, 0.28
    right, left = (x - (y - middle)) * math.sqrt(0.5), (-x - (y - middle)) * math.sqrt(0.5)
    body = np.maximum(np.abs(right), np.abs(left))
    lobes = np.minimum(np.hypot(right - half, left), np.hypot(right, left - half))
    return np.minimum(body, lobes) - half


OUTLINES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "cross": cross,
    "heart": heart,
    "ring": ring,
}
"""By name of the shape."""


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
