"""What the tasks on pictures share: scenes, their pixels, image processors, places of patches, attention that begins local."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import Linear, init
from torch.nn.functional import avg_pool2d, unfold

from heedmap.zoo.world import Scene
from heedmap.zoo.world.world import make_scene

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor, nn
    from transformers import BaseImageProcessor

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
    return [_made(seed, split, index, SIDE) for index in range(start, start + count)]


_made = lru_cache(maxsize=512)(make_scene)
"""What learns is checked on the same scenes again and again, and to make one takes longer than to look at it."""


def pixel_values(pictures: Sequence[Scene]) -> Float[Tensor, "batch 3 side side"]:
    """The pictures as an image processor of :data:`FORM` gives them."""
    pixels = torch.from_numpy(np.stack([scene.image for scene in pictures]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def image_processor(name: str, **settings: object) -> BaseImageProcessor:
    """The image processor of transformers called ``name``, in the :data:`FORM`."""
    import transformers

    return getattr(transformers, name)(**FORM, **{"size": {"height": SIDE, "width": SIDE}, **settings})


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """Start and length of the pieces of ``count`` samples."""
    return ((start, min(AT_ONCE, count - start)) for start in range(0, count, AT_ONCE))


PATCH = 8
"""Pixels of a patch, each way."""

COVERED = 0.25
"""Share of a patch that an object covers at least for the patch to show it."""

NOTHING = -1
"""Number of the object where a patch shows none."""

PIXEL = 4
"""Pixels of the picture, each way, to a point of a drawn outline."""

WINDOW = 10
"""Points of a drawn outline each way, the patch in their midst."""

BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
"""Neighbours of a patch, rows and columns away."""

SHARP = 2.2
"""Size of the weights that find a neighbour: the greater, the less is seen of the patches around it."""


def rates(width: int) -> Float[Tensor, " waves"]:
    """Of :func:`waves`: with periods from 32 patches to 2."""
    return torch.pi * 2.0 ** torch.linspace(-4, 0, width // 4)


def waves(width: int, places: int) -> Float[Tensor, "patches width"]:
    """Sines, then cosines, of the row of each patch, then those of its column."""
    turns = torch.arange(places)[:, None] * rates(width)
    waves = torch.cat([turns.sin(), turns.cos()], -1)
    rows = waves[:, None].expand(-1, places, -1)
    return torch.cat([rows, rows.transpose(0, 1)], -1).flatten(0, 1)


def outlines(scene: Scene) -> tuple[Int64[Tensor, " patches"], Float[Tensor, "patches points"]]:
    """Number of the object that covers most of each patch, and the object's mask in a window around the patch."""
    masks = torch.stack([torch.from_numpy(item.mask) for item in scene.objects]).float()[:, None]
    share, number = avg_pool2d(masks, PATCH)[:, 0].flatten(1).max(0)
    step = PATCH // PIXEL
    around = unfold(avg_pool2d(masks, PIXEL), WINDOW, stride=step, padding=(WINDOW - step) // 2)
    return torch.where(share >= COVERED, number, NOTHING), around[number, :, torch.arange(len(number))]


def begin(
    model: nn.Module,
    kernel: Float[Tensor, "width channels size size"],
    positions: Float[Tensor, "patches width"],
    layers: Sequence[tuple[nn.Linear, nn.Linear]],
) -> None:
    """Weights of a size that fits the width, positions that begin as waves, and patches that look at their neighbours.

    transformers draws weights for a much wider model, and positions from which neighbours cannot be told.

    Args:
        model: whose linear maps are drawn anew.
        kernel: of the convolution that makes patches of pixels.
        positions: of the patches, written to.
        layers: query and key projections of the vision tower.
    """
    for module in model.modules():
        if isinstance(module, Linear):
            init.xavier_uniform_(module.weight)
    with torch.no_grad():
        init.xavier_uniform_(kernel.view(len(kernel), -1))
        positions.copy_(0.5 * waves(len(kernel), round(len(positions) ** 0.5)))
    look_around(layers)


def look_around(layers: Sequence[tuple[nn.Linear, nn.Linear]]) -> None:
    """:func:`look_aside` for the first three layers, of four heads each, given by their query and key projections."""
    for (query, key), offsets in zip(layers, (BESIDE, DIAGONAL, BESIDE), strict=False):
        look_aside(query, key, offsets)


def look_aside(query: nn.Linear, key: nn.Linear, offsets: Sequence[tuple[int, int]]) -> None:
    """Add to the projections of an attention what makes each head look so many rows and columns away.

    A shift turns sine and cosine into each other, so that the query of a patch can be the key of its neighbour.

    Args:
        query, key: of tokens to which :func:`waves` were added.
        offsets: of each head, rows and columns.
    """
    width, quarter = query.in_features, query.in_features // 4
    depth = query.out_features // len(offsets)
    chosen = torch.linspace(0, quarter - 1, depth // 4).round().long()
    with torch.no_grad():
        for head, offset in enumerate(offsets):
            for axis, steps in enumerate(offset):
                turn = rates(width)[chosen] * steps
                rows = head * depth + 2 * axis * len(chosen) + torch.arange(len(chosen))
                sine = 2 * axis * quarter + chosen
                _add(key, rows, sine, torch.ones_like(turn), torch.zeros_like(turn))
                _add(key, rows + len(chosen), sine, torch.zeros_like(turn), torch.ones_like(turn))
                _add(query, rows, sine, turn.cos(), turn.sin())
                _add(query, rows + len(chosen), sine, -turn.sin(), turn.cos())


def _add(linear: nn.Linear, rows: Tensor, sine: Tensor, of_sine: Tensor, of_cosine: Tensor) -> None:
    linear.weight[rows, sine] += SHARP * of_sine
    linear.weight[rows, sine + linear.in_features // 4] += SHARP * of_cosine
