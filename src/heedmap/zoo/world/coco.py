"""The world as COCO has it: pictures and ``annotations/instances_*.json``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from heedmap.zoo.world.files import SUBSETS, Progress, checked_world, image_name, remove, write_json, write_pictures
from heedmap.zoo.world.scene import SHAPES, Object, Scene

LARGEST_COUNT = 10
"""An object's annotation id is this times the image's id, plus the object's number, plus 1."""


def write_coco(
    folder: str | os.PathLike[str],
    split: str,
    count: int,
    *,
    seed: int = 0,
    side: int = 96,
    progress: Progress | None = None,
) -> Path:
    """Write the first ``count`` scenes of a split as a COCO data set; categories are the shapes.

    An annotation also has ``colour`` and ``size``. Its mask is in COCO's uncompressed run lengths. An image's id is the
    scene's index. The pictures come first, the JSON last: where it is there, all is there.

    Args:
        folder: gets ``train2014/COCO_train2014_*.jpg`` and ``annotations/instances_train2014.json`` (``val2014``,
            ``test2015``); is made where it is missing.
        split: "train", "val" or "test".
        count: 1 to the number of scenes of the split.
        seed, side: of the world, as in :class:`~heedmap.zoo.world.world.Shapes`.
        progress: called with the number of scenes written and ``count``.

    Returns:
        The path of the JSON file.

    Raises:
        UnknownNameError: no such split.
        InputError: another argument out of range, or the folder cannot be written to.
    """
    world = checked_world(split, count, seed, side)
    path = Path(folder) / "annotations" / f"instances_{SUBSETS[split]}.json"
    remove(path)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for scene in write_pictures(Path(folder), world, progress):
        images.append(_image(scene))
        annotations += [_annotation(scene.index, number, o) for number, o in enumerate(scene.objects)]
    write_json(path, {"info": info(seed), "categories": _categories(), "images": images, "annotations": annotations})
    return path


def annotation_id(index: int, number: int) -> int:
    """Id of object ``number`` of scene ``index``, 1 or more."""
    return LARGEST_COUNT * index + number + 1


def run_lengths(mask: Bool[np.ndarray, "height width"]) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: of false and true in turn, column by column, false first (perhaps 0)."""
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [pixels.size]])).tolist()
    return {"counts": [0, *counts] if pixels[0] else counts, "size": list(mask.shape)}


def info(seed: int) -> dict[str, Any]:
    """What a data set's file says of itself."""
    return {"description": "heedmap's shapes world", "version": "1", "seed": int(seed)}


def _image(scene: Scene) -> dict[str, Any]:
    name = image_name(scene.split, scene.index)
    return {"id": scene.index, "file_name": name, "width": scene.side, "height": scene.side}


def _annotation(index: int, number: int, o: Object) -> dict[str, Any]:
    x1, y1, x2, y2 = o.box
    return {
        "id": annotation_id(index, number),
        "image_id": index,
        "category_id": SHAPES.index(o.shape) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(o.mask.sum()),
        "segmentation": run_lengths(o.mask),
        "iscrowd": 0,
        "colour": o.colour,
        "size": o.size,
    }


def _categories() -> list[dict[str, Any]]:
    return [{"id": number, "name": shape, "supercategory": "shape"} for number, shape in enumerate(SHAPES, 1)]
