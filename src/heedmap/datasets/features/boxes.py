"""Box features of one image, checked and scaled: what a Model takes as ``boxes``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from heedmap.datasets.disk import read_lines
from heedmap.errors import SampleError

if TYPE_CHECKING:
    from jaxtyping import Float32
    from numpy.typing import ArrayLike

    from heedmap.types import Boxes

ALIASES = {
    "features": ("features", "x", "image_features", "feats"),
    "boxes": ("boxes", "bbox", "bboxes", "image_bb"),
    "count": ("num_boxes", "num_bbox"),
    "width": ("image_w", "img_w", "width", "widths", "image_width"),
    "height": ("image_h", "img_h", "height", "heights", "image_height"),
    "labels": ("labels",),
    "objects": ("objects_id", "objects"),
}
"""What arrays mean → the names that they go by."""

SLACK = 1.0
"""Pixels by which a detector's box may go beyond the image; it is cut off."""


class Features(Protocol):
    """Box features of many images on disk."""

    @property
    def ids(self) -> Collection[str]:
        """Of the images, as :func:`heedmap.datasets.disk.image_id` has them."""

    @property
    def problems(self) -> Mapping[str, str]:
        """What was left out on opening: id or place → why."""

    @property
    def description(self) -> Mapping[str, object]:
        """Plain JSON data."""

    def read(self, image: str) -> Boxes:
        """``features`` (N, d), float32, ``boxes`` (N, 4), where known, and maybe ``labels``; SampleError if damaged."""


def read_names(path: Path) -> list[str]:
    """Names of object classes, one a line, of which the first counts where several are given with commas."""
    return [line.split(",")[0].strip() for line in read_lines(path)]


def as_text(value: object) -> str:
    """A text as arrays store it, in bytes or not."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def from_arrays(stored: Mapping[str, ArrayLike], image: str, names: Sequence[str] | None) -> Boxes:
    """The boxes of an image out of arrays that go by one of :data:`ALIASES` each.

    Args:
        stored: name → array.
        image: id of it, for messages.
        names: of the object classes, or None.

    Raises:
        SampleError: see :func:`checked`.
    """

    def find(meaning: str) -> np.ndarray | None:
        return next((np.asarray(value) for name in ALIASES[meaning] if (value := stored.get(name)) is not None), None)

    arrays = {meaning: find(meaning) for meaning in ALIASES}
    if arrays["features"] is None:
        raise SampleError(f"image {image} has no array of features; expected one of {', '.join(ALIASES['features'])}")
    if arrays["count"] is not None:
        arrays |= _cut(arrays, int(np.ravel(arrays["count"])[0]))
    size = (arrays["width"], arrays["height"])
    known = None if size[0] is None or size[1] is None else (int(np.ravel(size[0])[0]), int(np.ravel(size[1])[0]))
    labels = _labels(arrays["labels"], arrays["objects"], names)
    return checked(image, arrays["features"], arrays["boxes"], known, labels)


def checked(
    image: str,
    features: ArrayLike,
    boxes: ArrayLike | None,
    size: tuple[int, int] | None,
    labels: Sequence[str] | None = None,
) -> Boxes:
    """The boxes of an image, in the form that a Model takes.

    Args:
        image: id of it, for messages.
        features: (N, d), or (d, N) where the number of boxes shows that.
        boxes: (N, 4), x1 y1 x2 y2 in pixels or as parts of the size, or None.
        size: width and height in pixels, or None where they are not known.
        labels: N names, or None.

    Raises:
        SampleError: another shape, numbers that are not finite, or boxes that are not on the image.
    """
    rows = np.asarray(features, dtype=np.float32)
    places = None if boxes is None else np.asarray(boxes, dtype=np.float32)
    if rows.ndim == 2 and places is not None and len(places) == rows.shape[1] != len(rows):
        rows = rows.T
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise SampleError(f"image {image}: its features have shape {rows.shape}; expected finite numbers, (N, d)")
    entry: Boxes = {"features": np.ascontiguousarray(rows)}
    if places is not None:
        entry["boxes"] = _parts(image, places, len(rows), size)
    if labels is not None:
        if len(labels) != len(rows):
            raise SampleError(f"image {image}: {len(labels)} labels for {len(rows)} boxes; expected one each")
        entry["labels"] = list(labels)
    return entry


def _parts(image: str, places: np.ndarray, count: int, size: tuple[int, int] | None) -> Float32[np.ndarray, "count 4"]:
    if places.shape != (count, 4) or not np.isfinite(places).all():
        raise SampleError(f"image {image}: its boxes have shape {places.shape}; expected finite numbers, ({count}, 4)")
    if places.min() >= 0 and places.max() <= 1:
        return places
    if size is None or min(size) < 1:
        raise SampleError(
            f"image {image}: its boxes are in pixels, and its size is {size}; width and height are needed"
        )
    whole = np.array([*size, *size], dtype=np.float32)
    if places.min() < -SLACK or (places > whole + SLACK).any():
        raise SampleError(
            f"image {image}: its boxes go from {places.min():g} to {places.max():g}, beyond its {size[0]} × {size[1]}"
        )
    return (places / whole).clip(0, 1)


def _cut(arrays: Mapping[str, np.ndarray | None], count: int) -> dict[str, np.ndarray]:
    """Without the rows that only fill up."""
    rows = {name: arrays[name] for name in ("features", "boxes", "labels", "objects")}
    return {name: value[:count] if len(value) > count else value for name, value in rows.items() if value is not None}


def _labels(labels: np.ndarray | None, objects: np.ndarray | None, names: Sequence[str] | None) -> list[str] | None:
    if labels is not None and labels.dtype.kind in "USO":
        return [as_text(label) for label in labels]
    if objects is None or names is None:
        return None
    return [names[n] if 0 <= n < len(names) else str(n) for n in (int(number) for number in np.ravel(objects))]
