"""Pictures: read from whatever holds them, and shown again as the model saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.data.picture import Geometry, Picture
from heedmap.datasets.files import upright_rgb
from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image
    from torch import Tensor

    from heedmap.types import ImageProcessor


CHANNELS = (1, 3, 4)
SIDE = 384
EMPTY = (128, 128, 128)
"""Side in pixels and colour of the square that stands for a picture that nobody gave."""
AS_SEEN = "the picture is as the model saw it"
NOT_GIVEN = "no picture was given: places on a square"


def rgb(image: object) -> Image:
    """A picture as a person sees it, RGB: the same for a file, however it is given.

    Args:
        image: a PIL image; the path of a file; or an array or tensor of one picture, (rows, columns), (rows, columns, channels)
            or (channels, rows, columns), of 1, 3 or 4 channels: bytes, or floats from 0 to 1.

    Raises:
        InputError: anything else, or a file that is no image.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        from heedmap.models.media import read_image

        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    shape, dtype = getattr(image, "shape", None), str(getattr(image, "dtype", ""))
    if shape is not None:
        array = _picture(np.asarray(image.detach().cpu() if hasattr(image, "detach") else image))
        if array is not None:
            return upright_rgb(Image.fromarray(array))
    what = type(image).__name__ + ("" if shape is None else f" of shape {tuple(shape)} and type {dtype}")
    raise InputError(
        f"the image is a {what}; expected a PIL image, a path, or an array of one picture, (rows, columns, 3), of uint8 or of "
        "floats from 0 to 1"
    )


def _picture(array: np.ndarray) -> np.ndarray | None:
    """(rows, columns) or (rows, columns, 3 or 4) of bytes; None where it is not clear what the array is."""
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        return None
    if array.ndim == 3 and array.shape[-1] not in CHANNELS and array.shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[-1] not in CHANNELS:
        return None
    return np.ascontiguousarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


def pixels(processor: ImageProcessor, images: Sequence[object]) -> dict[str, Tensor]:
    """What the image processor makes of the pictures: ``pixel_values``, and what else it gives.

    Raises:
        InputError: the processor cannot take one of them.
    """
    pictures = [rgb(image) for image in images]
    try:
        return dict(processor(images=pictures, return_tensors="pt"))
    except (ValueError, TypeError, RuntimeError) as error:
        sizes = ", ".join("×".join(map(str, picture.size)) for picture in pictures)
        raise InputError(f"the image processor cannot take images of {sizes} pixels together: {error}") from error


def unprocessed(values: Float[Tensor, "channels rows columns"], processor: ImageProcessor) -> Image:
    """Processed pixels as a picture: standardisation and rescaling undone, resize and crop kept."""
    import torch
    from PIL import Image

    values = values.detach().float().cpu()
    moments = [getattr(processor, name, None) for name in ("image_mean", "image_std")]
    if getattr(processor, "do_normalize", True) and moments[0] is not None:
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in moments)
        values = values * std + mean
    if getattr(processor, "do_rescale", True):
        values = values / (getattr(processor, "rescale_factor", None) or 1 / 255)
    colours = values.round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy())


def drawn(
    image: Image | None, geometry: Geometry | None, note: str, places: Float[np.ndarray, "boxes 4"] | None
) -> Picture:
    """The picture with places on it, (boxes, 4); InputError where there is neither."""
    from PIL import Image

    if image is None and places is None:
        raise InputError("there is neither an image nor places of boxes to draw; give image=… or boxes=… with 'boxes'")
    shown = Image.new("RGB", (SIDE, SIDE), EMPTY) if image is None else image
    return Picture(shown, geometry or Geometry.whole(shown.size), places, note=note)


def box_places(boxes: object) -> Float[np.ndarray, "boxes 4"] | None:
    """The places of one sample's boxes, where they are known."""
    given = boxes.get("boxes") if isinstance(boxes, Mapping) else None
    if given is None:
        return None
    places = np.asarray(given.cpu() if hasattr(given, "cpu") else given, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 4:
        raise InputError(f"the boxes have shape {places.shape}; expected (N, 4): x1 y1 x2 y2 from 0 to 1")
    return places
