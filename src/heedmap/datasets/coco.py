"""Detection as COCO has it: pictures, and ``instances_*.json`` with the objects in them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, cast

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.files import (
    FilePath,
    chosen_subset,
    described,
    listed,
    needed_file,
    needed_folder,
    picture,
    read_json,
    subset_of,
)
from heedmap.datasets.sample import Found, Objects, Sample
from heedmap.errors import FileFormatError, SampleError

if TYPE_CHECKING:
    from jaxtyping import Bool

INSTANCES = "annotations/instances_{}.json"

KEPT = frozenset(
    {
        *("images", "annotations", "categories", "id", "image_id", "category_id", "file_name", "width", "height"),
        *("bbox", "area", "iscrowd", "segmentation", "counts", "size", "name"),
    }
)
"""The fields that are needed; whatever else a file has is dropped as it is parsed."""

Id = int | str


class CocoImage(TypedDict):
    """A picture, as the file has it."""

    id: Id
    file_name: str
    width: int
    height: int


class CocoAnnotation(TypedDict):
    """An object of a picture, as the file has it."""

    id: Id
    category_id: Id
    bbox: list[float]
    area: NotRequired[float]
    iscrowd: NotRequired[int]
    segmentation: NotRequired[object]


class Coco:
    """A COCO data set, a :class:`~heedmap.datasets.sample.Reader`; a sample is a picture, its key the picture's id."""

    def __init__(self, instances: Path, images: Path) -> None:
        self._folder = images
        self.problems: dict[str, str] = {}
        data = read_json(instances, _slim)
        self._categories = _categories(data, instances)
        rows = listed(data, "images", instances)
        self._images = self._present(rows)
        self._annotations: dict[Id, list[CocoAnnotation]] = defaultdict(list)
        known = {_id(row, "id") for row in rows} - {None}
        for number, annotation in enumerate(listed(data, "annotations", instances)):
            self._add(annotation, number, known)
        self.keys: Sequence[str] = [str(name) for name in self._images]
        self._ids = list(self._images)
        self.description = described("coco", [instances], len(self.keys), images=images.name)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``image``; the truth is Objects, with the masks decoded."""
        row = self._images[self._ids[index]]
        image = picture(self._folder / row["file_name"], row["file_name"])
        if image.size != (row["width"], row["height"]):
            raise SampleError(
                f"{row['file_name']} has {image.size[0]} × {image.size[1]} pixels, and its annotation says "
                f"{row['width']} × {row['height']}"
            )
        objects = tuple(self._found(annotation, row) for annotation in self._annotations.get(row["id"], ()))
        return Sample(self.keys[index], {"image": image}, Objects(objects))

    def _found(self, annotation: CocoAnnotation, image: CocoImage) -> Found:
        try:
            mask = decoded(annotation.get("segmentation", []), image["height"], image["width"])
        except ValueError as error:
            raise SampleError(f"annotation {annotation['id']} of image {image['id']} is damaged: {error}") from error
        x, y, width, height = map(float, annotation["bbox"])
        label, crowd = self._categories[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
        return Found(label, (x, y, width, height), mask, crowd, float(annotation.get("area", width * height)))

    def _present(self, rows: Sequence[object]) -> dict[Id, CocoImage]:
        images: dict[Id, CocoImage] = {}
        for number, fields in enumerate(rows):
            row = fields if isinstance(fields, dict) else {}
            key, problem = _image_problem(row, number)
            if not problem and row["id"] in images:
                key, problem = f"image {key} (row {number})", "its id was there before"
            if not problem and not (self._folder / row["file_name"]).is_file():
                problem = f"{row['file_name']} is not in {self._folder.name}"
            if problem:
                self.problems[key] = problem
            else:
                images[row["id"]] = cast("CocoImage", row)
        return images

    def _add(self, annotation: object, number: int, known: Collection[Id | None]) -> None:
        """Keep an annotation; an image that one is damaged of is left out: what is true of it is not known."""
        fields = annotation if isinstance(annotation, dict) else {}
        name = f"annotation {fields.get('id', f'in row {number}')}"
        image = _id(fields, "image_id")
        problem = self._annotation_problem(fields)
        if image is None or image not in known:
            self.problems[name] = f"there is no image {image}"
        elif problem and image in self._images:
            del self._images[image]
            self.problems[str(image)] = f"{name} {problem}"
        elif not problem:
            self._annotations[image].append(cast("CocoAnnotation", fields))

    def _annotation_problem(self, fields: Mapping[str, object]) -> str:
        box = fields.get("bbox")
        if "id" not in fields or _id(fields, "category_id") not in self._categories:
            return "has no id, or no category of the file"
        numbers = isinstance(box, list) and len(box) == 4 and all(_is_number(number) for number in box)
        if not numbers or not _is_number(fields.get("area", 0)):
            return "has no bbox of four numbers, or no number as area"
        return ""


def open_coco(
    folder: FilePath, *, split: str | None = None, instances: FilePath | None = None, images: FilePath | None = None
) -> Coco:
    """Open a COCO data set.

    Args:
        folder: has the files under COCO's own names, so far as no other paths are given.
        split: "val2017", or "val" where one year is there only.
        instances: JSON file; by default ``annotations/instances_val2017.json`` and so on.
        images: folder of pictures; by default ``val2017`` or ``images/val2017`` and so on.

    Raises:
        InputError: a file or folder is not there, or it is not clear which to read.
        FileFormatError: a file is not what it should be.
    """
    subset = subset_of(instances, INSTANCES) if instances else chosen_subset(folder, INSTANCES, split)
    nested = Path(folder, "images", subset)
    return Coco(
        needed_file(instances or Path(folder, INSTANCES.format(subset)), "instances"),
        needed_folder(images or (nested if nested.is_dir() else Path(folder, subset)), "pictures"),
    )


def _slim(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name in KEPT}


def _categories(data: Mapping[str, object], path: Path) -> dict[Id, str]:
    rows = listed(data, "categories", path)
    whole = [row for row in rows if isinstance(row, dict) and _id(row, "id") is not None and "name" in row]
    if len(whole) < len(rows):
        raise FileFormatError(f"{path} has categories without an id or a name; each needs both")
    return {row["id"]: str(row["name"]) for row in whole}


def _id(fields: object, name: str) -> Id | None:
    """A field that may be an id, or None."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, int | str) else None


def _image_problem(row: Mapping[str, object], number: int) -> tuple[str, str]:
    """Its key, and what is wrong with it or nothing."""
    if _id(row, "id") is None:
        return f"image in row {number}", "it has no id"
    sizes = (row.get("width"), row.get("height"))
    if not isinstance(row.get("file_name"), str) or not all(isinstance(side, int) and side > 0 for side in sizes):
        return str(row["id"]), "it has no file_name, or no width and height in pixels"
    return str(row["id"]), ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# -- masks -------------------------------------------------------------------------------------------------------------


def decoded(segmentation: object, height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The mask of an annotation; all false where it has no polygon.

    Args:
        segmentation: polygons (lists of x y x y …), or run lengths: a mapping of ``size`` (height, width) and
            ``counts``, a list, or COCO's compressed string.
        height, width: of the image.

    Raises:
        ValueError: it is neither, or does not fit the image.
    """
    if isinstance(segmentation, Mapping):
        return _of_runs(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise ValueError(f"its segmentation is a {type(segmentation).__name__}; expected polygons or run lengths")
    return _of_polygons(segmentation, height, width)


def _of_polygons(polygons: Sequence[object], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        _check_polygon(polygon, height, width)
    coco = library("pycocotools.mask", "eval", "reading COCO polygons needs")
    merged = coco.merge(coco.frPyObjects(polygons, height, width))
    return _of_runs({**merged, "counts": merged["counts"].decode()}, height, width)


def _check_polygon(polygon: object, height: int, width: int) -> None:
    """What pycocotools takes for granted: a rectangle would be read as another thing, a huge number fill the memory."""
    if (
        not isinstance(polygon, list)
        or len(polygon) < 6
        or len(polygon) % 2
        or not all(isinstance(n, int | float) for n in polygon)
    ):
        raise ValueError("a polygon is no list of x and y of three points or more")
    for values, side in ((polygon[::2], width), (polygon[1::2], height)):
        if not all(math.isfinite(value) and -side <= value <= 2 * side for value in values):
            raise ValueError(f"a polygon goes far beyond the image, {width} × {height}")


def _of_runs(coded: Mapping[str, object], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    # pycocotools would leave memory that was never written in a mask whose runs are too short
    counts = coded.get("counts")
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("its run lengths are no list of whole numbers, nor COCO's compressed string")
    size = coded.get("size")
    if not isinstance(size, list | tuple) or list(size) != [height, width] or sum(runs) != height * width:
        raise ValueError(f"its run lengths are of {sum(runs)} pixels, size {size}; the image has {height} × {width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order="F")


def _uncompressed(text: str) -> list[int]:
    """The run lengths of a compressed string: five bits a letter, the lowest first, the sixth where more follow.

    From the fourth on, each is the difference to the one two before.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs
