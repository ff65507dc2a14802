"""Writing scenes to disk: a whole file or none, and what lists the others last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from heedmap.atomic import write_atomically
from heedmap.errors import InputError
from heedmap.zoo.world.scene import Scene
from heedmap.zoo.world.seeds import SPLITS, check_split, check_whole
from heedmap.zoo.world.world import Shapes

SUBSETS = {"train": "train2014", "val": "val2014", "test": "test2015"}
"""What COCO and VQA v2 call the splits."""

Progress = Callable[[int, int], None]
"""Called with the number of scenes written and the number in all, after each."""


def image_name(split: str, index: int) -> str:
    """File name of a scene's picture, as COCO and VQA v2 name theirs; the image's id is the scene's index."""
    return f"COCO_{SUBSETS[split]}_{index:012d}.jpg"


def write_pictures(folder: Path, world: Shapes, progress: Progress | None) -> Iterator[Scene]:
    """Write the picture of every scene into the subset's folder, and yield the scenes, each after its picture.

    The pictures are JPEG files of quality 95 without colour subsampling: close to the scene's, not equal.

    Raises:
        InputError: a file or folder cannot be written.
    """
    for done, scene in enumerate(world, 1):
        write_file(folder / SUBSETS[world.split] / image_name(world.split, scene.index), _jpeg(scene))
        yield scene
        if progress is not None:
            progress(done, len(world))


def checked_world(split: str, count: int, seed: int, side: int) -> Shapes:
    """The first ``count`` scenes of a split.

    Raises:
        UnknownNameError: no such split.
        InputError: ``count`` is not between 1 and the split's length, or another argument is out of range.
    """
    check_split(split)
    check_whole("count", count)
    if not 1 <= count <= SPLITS[split]:
        raise InputError(f"count is {count}; {split} has 1 to {SPLITS[split]} scenes to write")
    return Shapes(split, seed=seed, side=side, length=count)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write strict JSON; errors as in :func:`write_file`."""
    write_file(path, json.dumps(data, allow_nan=False, separators=(",", ":")).encode())


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, a whole file or none; its folder is made where it is missing.

    Raises:
        InputError: it cannot be written; the message says why.
    """
    try:
        write_atomically(path, data)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a folder to write to") from error


def remove(path: Path) -> None:
    """Remove a file that is about to be written anew, if it is there; InputError where that cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot replace {path}: {error.strerror or error}; choose another folder") from error


def _jpeg(scene: Scene) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
