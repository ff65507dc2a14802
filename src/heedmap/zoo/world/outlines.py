"""The shapes as signed distances: negative inside, positive outside.

Each function takes coordinates in units of the object's radius, x to the right and y down, about its centre, and gives
the distance to the outline in the same units (a lower bound of it near corners). Nothing reaches further out than
:data:`REACH`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
