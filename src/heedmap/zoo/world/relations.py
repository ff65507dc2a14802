"""How one object lies to another."""

from __future__ import annotations

from heedmap.zoo.world.scene import Object

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
