"""Making the scenes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from heedmap.errors import InputError
from heedmap.zoo.world.drawing import background
from heedmap.zoo.world.layout import SceneLayout, Stamp, choose_looks, extent, place
from heedmap.zoo.world.scene import COLOURS, SPLITS, Object, Scene, check_split, check_whole, generator

SIDES = (64, 128)
"""Least and greatest side of a picture, in pixels."""

Picture = Float[np.ndarray, "side side 3"]


class Shapes:
    """A split of the world as a sequence of scenes; ``torch.utils.data.DataLoader`` takes it as it is.

    Args:
        split: "train", "val" or "test".
        seed: of the world, 0 or more.
        side: of the pictures, 64 to 128 pixels.
        length: number of scenes; by default that of the split, see :data:`~heedmap.zoo.world.scene.SPLITS`.

    Raises:
        UnknownNameError: no such split.
        InputError: another argument out of range.
    """

    def __init__(self, split: str = "train", *, seed: int = 0, side: int = 96, length: int | None = None):
        check_split(split)
        _check_side(side)
        check_whole("seed", seed)
        self.split, self.seed, self.side = split, seed, side
        self.length = SPLITS[split] if length is None else length
        check_whole("length", self.length)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Scene:
        """Scene ``index``, from 0; InputError beyond the end."""
        check_whole("index", index)
        if index >= self.length:
            raise InputError(f"index {index} is out of range: {self.split} has {self.length} scenes")
        return make_scene(self.seed, self.split, index, self.side)

    def __iter__(self) -> Iterator[Scene]:
        return (self[index] for index in range(self.length))


def make_scene(seed: int, split: str, index: int, side: int = 96) -> Scene:
    """Make one scene, without any other.

    Args:
        seed: of the world, 0 or more.
        split: "train", "val" or "test".
        index: 0 or more; not bounded by the length of the split.
        side: of the picture, 64 to 128 pixels.

    Raises:
        UnknownNameError: no such split.
        InputError: another argument out of range.
    """
    rng, layout = _laid_out(seed, split, index, side)
    picture = background(rng, side)
    for stamp, corner in zip(layout.stamps, layout.corners, strict=True):
        _lay(rng, picture, stamp, corner)
    picture += rng.standard_normal((side, side, 1), dtype=np.float32) * np.float32(rng.uniform(2, 7))
    image = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return Scene(seed, split, index, image, _objects(layout))


def undrawn_scene(seed: int, split: str, index: int, side: int = 96) -> Scene:
    """The objects of :func:`make_scene` on a black picture: to draw them takes longer than to know where they are."""
    _, layout = _laid_out(seed, split, index, side)
    return Scene(seed, split, index, np.zeros((side, side, 3), dtype=np.uint8), _objects(layout))


def _laid_out(seed: int, split: str, index: int, side: int) -> tuple[np.random.Generator, SceneLayout]:
    """Where the objects are, and the random numbers that the picture goes on with."""
    _check_side(side)
    rng = generator(seed, split, index, "scene")
    return rng, place(rng, choose_looks(rng), side)


def _lay(rng: np.random.Generator, picture: Picture, stamp: Stamp, corner: tuple[int, int]) -> None:
    """Draw a stamp over the picture, its edge smoothed and a little darker than the rest."""
    height, width = stamp.distance.shape
    window = picture[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    cover = np.clip(0.5 - stamp.distance, 0, 1)
    shade = rng.uniform(0.94, 1.04) * (1 - 0.4 * np.clip(stamp.distance + 1.5, 0, 1))
    slope = np.linspace(-1, 1, width, dtype=np.float32) * rng.uniform(-0.05, 0.05)
    paint = (shade + slope).astype(np.float32)[:, :, None] * np.array(COLOURS[stamp.look.colour], dtype=np.float32)
    window += cover[:, :, None] * (paint - window)


def _objects(layout: SceneLayout) -> tuple[Object, ...]:
    return tuple(_object(layout, number) for number in range(len(layout.stamps)))


def _object(layout: SceneLayout, number: int) -> Object:
    stamp = layout.stamps[number]
    mask = layout.owners == number
    rows, columns = extent(mask)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    look = stamp.look
    return Object(look.shape, look.colour, look.size, box, mask, float(mask.sum() / stamp.area))


def _check_side(side: object) -> None:
    check_whole("side", side)
    if not SIDES[0] <= int(side) <= SIDES[1]:  # type: ignore[call-overload]
        raise InputError(f"side is {side}; pictures have {SIDES[0]} to {SIDES[1]} pixels a side")
