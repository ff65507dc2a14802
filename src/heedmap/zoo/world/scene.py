"""What a scene is: a picture and the objects in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring")
"""Names of the shapes; the position is the class number."""

COLOURS = {
    "red": (222, 30, 38),
    "orange": (255, 142, 20),
    "yellow": (250, 232, 50),
    "green": (28, 158, 62),
    "cyan": (60, 220, 228),
    "blue": (36, 66, 214),
    "purple": (134, 40, 168),
    "pink": (255, 128, 196),
}
"""Red, green, blue (0 to 255) by name; the position is the class number."""

SIZES = {"small": (0.085, 0.098), "medium": (0.125, 0.143), "large": (0.172, 0.195)}
"""Least and greatest radius by name, as a share of the picture's side."""


@dataclass(frozen=True, eq=False)
class Object:
    """One object of a scene.

    Attributes:
        shape: one of :data:`SHAPES`.
        colour: a key of :data:`COLOURS`.
        size: a key of :data:`SIZES`.
        box: x1, y1, x2, y2 of the visible part, in pixels; x2 and y2 are the first beyond it.
        mask: the visible pixels; the masks of a scene are disjoint.
        visible: share of the object's pixels that no later object covers, 0 to 1.
    """

    shape: str
    colour: str
    size: str
    box: tuple[int, int, int, int]
    mask: Bool[np.ndarray, "height width"]
    visible: float

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box: x, y in pixels."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """One sample of the world.

    Attributes:
        seed, split, index: which sample; they alone (with the picture's side) decide everything.
        image: red, green, blue, 0 to 255; a square.
        objects: from the hindmost to the foremost; 1 to 5.
    """

    seed: int
    split: str
    index: int
    image: UInt8[np.ndarray, "height width 3"]
    objects: tuple[Object, ...]

    @property
    def side(self) -> int:
        """Of the square picture, in pixels."""
        return len(self.image)
