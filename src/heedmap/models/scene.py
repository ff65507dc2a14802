"""Pictures with all that a figure draws on them: where the model looked, and the places of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.errors import InputError
from heedmap.models.image import rgb
from heedmap.picture import Geometry, Picture

if TYPE_CHECKING:
    from jaxtyping import Float

    from heedmap.models.model import Model

SIDE = 384
EMPTY = (128, 128, 128)
"""Side in pixels and colour of the square that stands for a picture that nobody gave."""
AS_SEEN = "the picture is as the model saw it"
NOT_GIVEN = "no picture was given: places on a square"


def pictures(subject: Model, images: Sequence[Any], boxes: Sequence[Any]) -> list[Picture]:
    """For each sample its picture; arguments and errors as for :meth:`Model.picture`, None: not given."""
    count = max(len(images), len(boxes))
    if {len(images), len(boxes)} - {1, count}:
        raise InputError(f"there are {len(images)} images and {len(boxes)} sets of boxes; give one of both a sample")
    places = [_places(one) for one in (list(boxes) * count if len(boxes) == 1 else boxes)]
    shown = _shown(subject, list(images) * count if len(images) == 1 else images)
    made = zip(shown, places, strict=True)
    return [_picture(image, geometry, note, where) for (image, geometry, note), where in made]


def _shown(subject: Model, images: Sequence[Any]) -> list[tuple[Any, Geometry | None, str]]:
    if any(image is None for image in images):
        return [(None, None, NOT_GIVEN) for _ in images]
    if "image" not in subject.kind_row.takes:
        return [(rgb(image), None, "") for image in images]
    try:
        return [(rgb(i), g, "") for i, g in zip(images, subject.geometry(list(images)), strict=True)]
    except InputError:
        return [(image, None, AS_SEEN) for image in subject.shown_image(list(images))]


def _picture(image: Any, geometry: Geometry | None, note: str, places: Float[np.ndarray, "boxes 4"] | None) -> Picture:
    from PIL import Image

    if image is None and places is None:
        raise InputError("there is neither an image nor places of boxes to draw; give image=… or boxes=… with 'boxes'")
    shown = Image.new("RGB", (SIDE, SIDE), EMPTY) if image is None else image
    return Picture(shown, geometry or Geometry.whole(shown.size), places, note=note)


def _places(boxes: Any) -> Float[np.ndarray, "boxes 4"] | None:
    """The places of one sample's boxes, where they are known."""
    found = boxes.get("boxes") if isinstance(boxes, Mapping) else None
    if found is None:
        return None
    places = np.asarray(found.cpu() if hasattr(found, "cpu") else found, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 4:
        raise InputError(f"the boxes have shape {places.shape}; expected (N, 4): x1 y1 x2 y2 from 0 to 1")
    return places
