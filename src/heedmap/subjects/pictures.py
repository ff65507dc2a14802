"""Pictures: read from whatever holds them, and shown again as the model saw them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedmap.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from PIL.Image import Image
    from torch import Tensor


def rgb(image: Any) -> Image:
    """A picture as RGB.

    Args:
        image: a PIL image; the path of a file; or an array (rows, columns, 3) of bytes.

    Raises:
        InputError: anything else, or a file that is no image.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        from heedmap.media import read_image

        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    shape, dtype = getattr(image, "shape", None), str(getattr(image, "dtype", ""))
    if shape is not None and len(shape) == 3 and shape[-1] == 3 and dtype.endswith("uint8"):
        return Image.fromarray(image.cpu().numpy() if hasattr(image, "cpu") else image)
    what = type(image).__name__ + ("" if shape is None else f" of shape {tuple(shape)} and type {dtype}")
    raise InputError(f"the image is a {what}; expected a PIL image, a path, or an array (rows, columns, 3) of uint8")


def pixels(processor: Any, images: Sequence[Any]) -> dict[str, Tensor]:
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


def unprocessed(values: Float[Tensor, "channels rows columns"], processor: Any) -> Image:
    """Processed pixels as a picture: standardisation and rescaling undone, resize and crop kept."""
    import torch
    from PIL import Image

    values = values.detach().float().cpu()
    if getattr(processor, "do_normalize", True) and getattr(processor, "image_mean", None) is not None:
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (processor.image_mean, processor.image_std))
        values = values * std + mean
    if getattr(processor, "do_rescale", True):
        values = values / (getattr(processor, "rescale_factor", None) or 1 / 255)
    colours = values.round().clamp(0, 255).to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy())
