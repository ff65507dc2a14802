"""What a scene is: a picture and the objects in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from heedmap.errors import InputError, UnknownNameError

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


SPLITS = {"train": 200_000, "val": 5_000, "test": 5_000}
"""Number of samples by split. Each split has random numbers of its own, so that no two share a sample."""

PURPOSES = ("scene", "captions", "distractors", "questions", "regions")
"""What random numbers are for; each purpose has its own, so that asking does not change the picture."""


def generator(seed: int, split: str, index: int, purpose: str, number: int = 0) -> np.random.Generator:
    """The random numbers of one sample for one purpose, the same at every call.

    Args:
        seed: of the world, 0 or more.
        split: a key of :data:`SPLITS`.
        index: of the sample, 0 or more.
        purpose: one of :data:`PURPOSES`.
        number: which of several draws.

    Raises:
        UnknownNameError: no such split.
        InputError: a seed, index or number that is no whole number of 0 or more.
    """
    check_split(split)
    for name, value in (("seed", seed), ("index", index), ("number", number)):
        check_whole(name, value)
    key = [int(seed), list(SPLITS).index(split), int(index), PURPOSES.index(purpose), int(number)]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def check_split(split: str) -> None:
    """UnknownNameError where ``split`` is no split; the message lists the known ones."""
    if split not in SPLITS:
        raise UnknownNameError(f"no split is called {split!r}; known splits: {', '.join(SPLITS)}")


def check_whole(name: str, value: object) -> None:
    """InputError where ``value``, called ``name``, is no whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InputError(f"{name} is {value!r}; it must be a whole number, 0 or more")


RELATIONS = {
    "left": ("left of", 0, -1),
    "right": ("right of", 0, 1),
    "above": ("above", 1, -1),
    "below": ("below", 1, 1),
}
"""By their telling word: as a phrase, the axis (0: x, 1: y) and the direction along it."""

MARGIN = 0.12
"""Least difference of two centres along the axis, as a share of the picture's side, for a relation to be clear."""


def relates(word: str, first: Object, second: Object, side: int) -> bool | None:
    """Whether ``first`` is left of (right of, above, below) ``second``; None where it is too close to tell.

    Args:
        word: a key of :data:`RELATIONS`.
        first, second: the objects; their boxes' centres are compared.
        side: of the picture, in pixels.
    """
    _, axis, direction = RELATIONS[word]
    difference = direction * (first.centre[axis] - second.centre[axis])
    return None if abs(difference) < MARGIN * side else difference > 0
