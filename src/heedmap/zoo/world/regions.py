"""Boxes and what their pixels look like, for models that read region features (VisualBERT, LXMERT).

A feature vector is made of nothing but the pixels in its box, and nothing is learned: the box is scaled to
:data:`GRID` x :data:`GRID` pixels (bilinear with the filter as wide as the reduction, so that no pixel is left out),
which keeps colour and outline; to these come the mean and the standard deviation of each channel over the scaled box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from heedmap.errors import InputError
from heedmap.zoo.world.scene import Scene, check_whole, generator

GRID = 8
"""Rows and columns that a box is scaled to."""

FEATURES = 3 * GRID * GRID + 6
"""Numbers a box: the scaled box (row by row, red, green and blue of each pixel), then means, then deviations."""

LARGEST_OVERLAP = 0.3
"""Greatest intersection over union of a false box with any true one."""

LARGEST_COVER = {"shifted": 0.5, "background": 0.1}
"""Greatest share of a false box that a true one may cover, by the kind of false box (more where there is no room)."""

TRIES = 40
"""Candidates for each false box."""

Boxes = Float32[np.ndarray, "boxes 4"]


@dataclass(frozen=True, eq=False)
class SceneRegions:
    """The boxes of a scene, true and false, in random order.

    Attributes:
        features: as :func:`region_features` gives them, about -1 to 1.
        positions: x1, y1, x2, y2 as shares of the picture's side, 0 to 1.
        boxes: the same in pixels.
        objects: number of the object that the box is of; -1 for a false box.
    """

    features: Float32[np.ndarray, "boxes features"]
    positions: Boxes
    boxes: Boxes
    objects: Int64[np.ndarray, " boxes"]


def regions(scene: Scene, amount: int = 10) -> SceneRegions:
    """The scene's true boxes filled up with false ones, shuffled, always the same.

    Half of the false boxes are true ones shifted (and scaled a little) until they are badly off, the others lie on the
    background; see :data:`LARGEST_OVERLAP` and :data:`LARGEST_COVER`.

    Args:
        scene: with at most ``amount`` objects.
        amount: of boxes, true and false.

    Raises:
        InputError: ``amount`` is no whole number, or less than the number of objects.
    """
    check_whole("amount", amount)
    if amount < len(scene.objects):
        raise InputError(f"amount is {amount}, but the scene has {len(scene.objects)} objects; ask for more boxes")
    rng = generator(scene.seed, scene.split, scene.index, "regions")
    true = np.array([o.box for o in scene.objects], dtype=np.float32)
    false = [_false_box(rng, true, scene.side, shifted=n % 2 == 0) for n in range(amount - len(true))]
    order = rng.permutation(amount)
    boxes = np.concatenate([true, np.array(false, dtype=np.float32).reshape(-1, 4)])[order]
    objects = np.where(order < len(true), order, -1).astype(np.int64)
    return SceneRegions(region_features(scene.image, boxes), boxes / np.float32(scene.side), boxes, objects)


def region_features(image: UInt8[np.ndarray, "height width 3"], boxes: Boxes) -> Float32[np.ndarray, "boxes features"]:
    """The feature vector of each box; see the module.

    Args:
        image: red, green, blue, 0 to 255.
        boxes: x1, y1, x2, y2 in pixels, inside the image, x1 < x2 and y1 < y2; rounded outwards to whole pixels.

    Raises:
        InputError: a box that is empty, not finite or not inside the image, or arrays of other shapes.
    """
    from PIL import Image

    boxes = _checked(image, boxes)
    picture = Image.fromarray(np.ascontiguousarray(image))
    size, method = (GRID, GRID), Image.Resampling.BILINEAR
    edges = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int).tolist()
    crops = [np.asarray(picture.crop((x1, y1, x2, y2)).resize(size, method)) for x1, y1, x2, y2 in edges]
    pixels = np.array(crops, dtype=np.float32).reshape(-1, GRID * GRID, 3) / np.float32(127.5) - 1
    parts = [pixels.reshape(-1, 3 * GRID * GRID), pixels.mean(1), pixels.std(1)]
    return np.concatenate(parts, 1, dtype=np.float32)


def overlap(a: Float32[np.ndarray, "m 4"], b: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "m n"]:
    """Intersection over union of each of the boxes ``a`` with each of ``b``; all x1, y1, x2, y2."""
    common = _common(a, b)
    return common / (_area(a)[:, None] + _area(b) - common)


def cover(a: Float32[np.ndarray, "m 4"], b: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "m n"]:
    """Share of each of the boxes ``a`` that each of ``b`` covers; all x1, y1, x2, y2."""
    return _common(a, b) / _area(a)[:, None]


def _common(a: Float32[np.ndarray, "m 4"], b: Float32[np.ndarray, "n 4"]) -> Float32[np.ndarray, "m n"]:
    a = a[:, None]
    return np.clip(np.minimum(a[..., 2:], b[:, 2:]) - np.maximum(a[..., :2], b[:, :2]), 0, None).prod(-1)


def _area(boxes: Boxes) -> Float32[np.ndarray, " boxes"]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _false_box(rng: np.random.Generator, true: Boxes, side: int, *, shifted: bool) -> Float32[np.ndarray, " 4"]:
    """The first of many candidates that is false enough; if there is none, the one that comes nearest to it."""
    candidates = _shifted(rng, true[rng.integers(len(true))], side) if shifted else _anywhere(rng, side)
    covered = cover(candidates, true) / LARGEST_COVER["shifted" if shifted else "background"]
    excess = np.maximum(overlap(candidates, true) / LARGEST_OVERLAP, covered).max(1)
    return candidates[np.argmax(excess <= max(1, excess.min()))]


def _shifted(rng: np.random.Generator, box: Float32[np.ndarray, " 4"], side: int) -> Boxes:
    """The box moved by up to its own size in both directions and scaled a little, cut at the picture's edge."""
    size = (box[2:] - box[:2]) * rng.uniform(0.8, 1.25, (TRIES, 1))
    middle = (box[:2] + box[2:]) / 2 + size * rng.uniform(-1, 1, (TRIES, 2))
    middle = np.clip(middle, 0.3 * size, side - 0.3 * size)
    return _cut(middle, size, side)


def _anywhere(rng: np.random.Generator, side: int) -> Boxes:
    """Boxes of the sizes that objects have, wholly inside."""
    size = side * rng.uniform(0.12, 0.42, (TRIES, 1)) * rng.uniform(0.85, 1.0, (TRIES, 2))
    return _cut(size / 2 + (side - size) * rng.random((TRIES, 2)), size, side)


def _cut(middle: np.ndarray, size: np.ndarray, side: int) -> Boxes:
    return np.clip(np.rint(np.concatenate([middle - size / 2, middle + size / 2], 1)), 0, side).astype(np.float32)


def _checked(image: UInt8[np.ndarray, "height width 3"], boxes: Boxes) -> Boxes:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"the image is {image.dtype} {image.shape}; expected uint8 (height, width, 3)")
    boxes = np.asarray(boxes, dtype=np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"the boxes are {boxes.shape}; expected (boxes, 4): x1, y1, x2, y2 in pixels")
    height, width = image.shape[:2]
    x1, y1, x2, y2 = boxes.T
    good = (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height) & (x1 < x2) & (y1 < y2)
    if not good.all():
        number = int(np.argmin(good))
        raise InputError(f"box {number} is {boxes[number].tolist()}; it must lie inside 0, 0, {width}, {height}")
    return boxes
