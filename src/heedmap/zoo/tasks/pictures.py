"""What the tasks on pictures share: scenes, their pixels as a model takes them, and image processors that agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heedmap.zoo.world import Scene
from heedmap.zoo.world.world import make_scene

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SIDE = 96
"""Of the pictures, in pixels."""

FORM = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""Settings of every image processor here: any picture, made square, from -1 to 1."""

AT_ONCE = 100
"""Samples of a forward pass in scoring."""


def scenes(seed: int, split: str, start: int, count: int) -> list[Scene]:
    """Scenes ``start`` to ``start + count`` of a split."""
    return [make_scene(seed, split, index, SIDE) for index in range(start, start + count)]


def pixel_values(made: Sequence[Scene]) -> Float[Tensor, "batch 3 side side"]:
    """The pictures as an image processor of :data:`FORM` gives them."""
    pixels = torch.from_numpy(np.stack([scene.image for scene in made]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def image_processor(name: str, **settings: Any) -> Any:
    """The image processor of transformers called ``name``, in the :data:`FORM`."""
    import transformers

    return getattr(transformers, name)(**FORM, **{"size": {"height": SIDE, "width": SIDE}, **settings})


def chunks(count: int, size: int = AT_ONCE) -> Iterator[tuple[int, int]]:
    """Start and length of the pieces of ``count`` samples."""
    return ((start, min(size, count - start)) for start in range(0, count, size))
