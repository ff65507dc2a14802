"""How a scene comes about: what it consists of, where each object lies, and its picture.

The shapes are signed distances: negative inside, positive outside. Each function takes coordinates in units of the object's
radius, x to the right and y down, about its centre, and gives the distance to the outline in the same units (a lower bound of
it near corners). Nothing reaches further out than :data:`REACH`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int16

from heedmap.errors import InputError
from heedmap.zoo.world.scene import COLOURS, SHAPES, SIZES, SPLITS, Object, Scene, check_split, check_whole, generator

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


LEAST_VISIBLE = 0.75
"""Share of an object's pixels that no other object may cover."""

LARGEST_BLUR = 0.08
"""Share of the smaller of two objects of one colour up to which they may overlap: more would blur their outlines."""

TRIES = 30
"""Places tried for an object before it is made smaller."""

COUNTS = (0.12, 0.18, 0.22, 0.24, 0.24)
"""How often a scene has 1, 2, ... objects."""

THEMES = 0.5
"""How often several objects of a scene share a colour, and how often a shape, so that there is something to count."""

SHARED = (2, 3, 3, 4, 4, 4)
"""How many share it, each entry as likely as any other (never more than there are)."""


@dataclass(frozen=True, eq=False)
class ObjectLook:
    """How an object looks, apart from its place; fields as in :class:`~heedmap.zoo.world.scene.Object`."""

    shape: str
    colour: str
    size: str


@dataclass(frozen=True, eq=False)
class Stamp:
    """An object drawn by itself, cut to its extent.

    Attributes:
        look: what it is.
        distance: to the outline, in pixels, negative inside.
    """

    look: ObjectLook
    distance: Float[np.ndarray, "height width"]

    @cached_property
    def mask(self) -> Bool[np.ndarray, "height width"]:
        """The pixels whose middle is inside."""
        return self.distance <= 0

    @cached_property
    def area(self) -> int:
        """How many these are."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class SceneLayout:
    """The stamps of a scene at their places.

    Attributes:
        stamps: from the hindmost to the foremost.
        corners: row and column of each stamp's upper left pixel.
        owners: for each pixel the number of the foremost object there, -1 for none.
    """

    stamps: tuple[Stamp, ...]
    corners: tuple[tuple[int, int], ...]
    owners: Int16[np.ndarray, "side side"]


def choose_looks(rng: np.random.Generator) -> list[ObjectLook]:
    """1 to 5 looks; each shape, colour and size is as likely as any other."""
    count = int(rng.choice(len(COUNTS), p=COUNTS)) + 1
    shapes = [SHAPES[i] for i in rng.integers(0, len(SHAPES), count)]
    colours = [list(COLOURS)[i] for i in rng.integers(0, len(COLOURS), count)]
    for values in (shapes, colours):
        if rng.random() < THEMES:
            shared = rng.permutation(count)[: rng.choice(SHARED)]
            for position in shared:
                values[position] = values[shared[0]]
    sizes = [list(SIZES)[i] for i in rng.integers(0, len(SIZES), count)]
    return [ObjectLook(*look) for look in zip(shapes, colours, sizes, strict=True)]


def place(rng: np.random.Generator, looks: list[ObjectLook], side: int) -> SceneLayout:
    """Lay the looks out in a picture of ``side`` x ``side`` pixels, each wholly inside and visible enough.

    An object that finds no place is made smaller; one that finds none even so is left out.
    """
    owners = np.full((side, side), -1, dtype=np.int16)
    stamps: list[Stamp] = []
    corners: list[tuple[int, int]] = []
    sizes = list(SIZES)
    for look in looks:
        for size in sizes[sizes.index(look.size) :: -1]:
            stamp = draw_stamp(rng, replace(look, size=size), side)
            corner = _find_place(rng, stamp, owners, stamps)
            if corner is not None:
                owners[_window(stamp, corner)][stamp.mask] = len(stamps)
                stamps.append(stamp)
                corners.append(corner)
                break
    return SceneLayout(tuple(stamps), tuple(corners), owners)


def draw_stamp(rng: np.random.Generator, look: ObjectLook, side: int) -> Stamp:
    """Draw ``look`` at a random angle and a random radius of its size, for a picture of ``side`` pixels."""
    radius = rng.uniform(*SIZES[look.size]) * side
    angle = rng.uniform(0, 2 * math.pi)
    middle = math.ceil(radius * REACH) + 1
    offset = rng.uniform(-0.5, 0.5, 2)
    steps = np.arange(-middle, middle + 1, dtype=np.float32) / np.float32(radius)
    x, y = (steps - offset[0] / radius).astype(np.float32), (steps - offset[1] / radius).astype(np.float32)[:, None]
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    distance = OUTLINES[look.shape](x * cosine + y * sine, y * cosine - x * sine) * np.float32(radius)
    rows, columns = extent(distance <= 0.5)
    return Stamp(look, distance[rows, columns])


def extent(mask: Bool[np.ndarray, "height width"]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around the true pixels, of which there must be some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _window(stamp: Stamp, corner: tuple[int, int]) -> tuple[slice, slice]:
    height, width = stamp.distance.shape
    return slice(corner[0], corner[0] + height), slice(corner[1], corner[1] + width)


def _find_place(
    rng: np.random.Generator, stamp: Stamp, owners: Int16[np.ndarray, "side side"], others: list[Stamp]
) -> tuple[int, int] | None:
    """A corner at which the others stay visible enough, or None."""
    height, width = stamp.distance.shape
    rows = rng.integers(0, len(owners) - height + 1, TRIES)
    columns = rng.integers(0, len(owners) - width + 1, TRIES)
    mask, most = stamp.mask, _most_covered(stamp, owners, others)
    for corner in zip(rows.tolist(), columns.tolist(), strict=True):
        covered = owners[_window(stamp, corner)][mask]
        if (np.bincount(covered[covered >= 0], minlength=len(others)) <= most).all():
            return corner
    return None


def _most_covered(
    stamp: Stamp, owners: Int16[np.ndarray, "side side"], others: list[Stamp]
) -> Float[np.ndarray, " others"]:
    """How many pixels of each of the others ``stamp`` may cover."""
    areas = np.array([other.area for other in others])
    visible = np.bincount(owners[owners >= 0], minlength=len(others))
    alike = np.array([other.look.colour == stamp.look.colour for other in others], dtype=bool)
    blur = np.where(alike, LARGEST_BLUR * np.minimum(areas, stamp.area), np.inf)
    return np.minimum(visible - LEAST_VISIBLE * areas, blur)


SIDES = (64, 128)
"""Least and greatest side of a picture, in pixels."""


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


def undrawn_scene(seed: int, split: str, index: int, side: int) -> Scene:
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
    window = picture[_window(stamp, corner)]
    cover = np.clip(0.5 - stamp.distance, 0, 1)
    shade = rng.uniform(0.94, 1.04) * (1 - 0.4 * np.clip(stamp.distance + 1.5, 0, 1))
    slope = np.linspace(-1, 1, stamp.distance.shape[1], dtype=np.float32) * rng.uniform(-0.05, 0.05)
    paint = (shade + slope).astype(np.float32)[:, :, None] * np.array(COLOURS[stamp.look.colour], dtype=np.float32)
    window += cover[:, :, None] * (paint - window)


def _objects(layout: SceneLayout) -> tuple[Object, ...]:
    objects = []
    for number, stamp in enumerate(layout.stamps):
        mask, look = layout.owners == number, stamp.look
        rows, columns = extent(mask)
        box = (columns.start, rows.start, columns.stop, rows.stop)
        objects.append(Object(look.shape, look.colour, look.size, box, mask, float(mask.sum() / stamp.area)))
    return tuple(objects)


def _check_side(side: int) -> None:
    check_whole("side", side)
    if not SIDES[0] <= side <= SIDES[1]:
        raise InputError(f"side is {side}; pictures have {SIDES[0]} to {SIDES[1]} pixels a side")
