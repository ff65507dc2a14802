"""The picture's own edges as a map, by no model: what every map of a picture has to be better than.

Methods are often no better than an edge detector where the truth is known (Clark et al., XAI-TRIS, 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from heedmap.common.extras import library
from heedmap.errors import InputError
from heedmap.methods.cards import EDGES
from heedmap.outputs import get

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from heedmap.explanation import Explanation


def sobel(picture: Float[np.ndarray, "channels rows columns"]) -> Float[np.ndarray, "rows columns"]:
    """The length of the gradient by Sobel's filters, mean over the channels; beyond its edge the outermost pixels go on.

    Raises:
        MissingLibraryError: there is no scipy.
    """
    filtered = library("scipy.ndimage", "eval", "edges need").sobel
    down, right = (np.stack([filtered(channel, axis=axis, mode="nearest") for channel in picture]) for axis in (0, 1))
    return np.hypot(down, right).mean(0)


def edge_map(explanation: Explanation, inputs: Mapping[str, object]) -> Explanation:
    """The explanation with the edges of the picture, as the model is given it, in the place of relevance.

    A patch has the mean of its pixels, in float64 until the last; padding has none, nor do words and boxes: they are equal, and
    go in an order that is drawn.

    Args:
        explanation: of any method, for the segments.
        inputs: what the model was called with: ``pixel_values`` (batch, channels, rows, columns), and ``pixel_mask`` where
            pictures are padded.

    Raises:
        InputError: there is no picture, or its patches form no grid over its pixels.
    """
    pixels = get(inputs, "pixel_values")
    grid = explanation.segment("image").grid if "image" in explanation.segments else None
    if grid is None or pixels is None or pixels.dim() != 4:
        raise InputError(
            f"{EDGES} are of a picture whose patches form a grid over pixel_values (batch, channels, rows, columns); "
            f"the model has the segments {', '.join(explanation.segments)}"
        )
    segments = {}
    for name, segment in explanation.segments.items():
        relevance = torch.zeros_like(segment.relevance)
        if name == "image":
            patches = adaptive_avg_pool2d(_edges(pixels, get(inputs, "pixel_mask"))[:, None], grid).flatten(1)
            relevance = patches.to(relevance).where(segment.positions >= 0, 0)
        segments[name] = replace(segment, relevance=relevance)
    return replace(explanation, segments=segments, method=EDGES, options={})


def _edges(
    pixels: Float[Tensor, "batch channels rows columns"], mask: Bool[Tensor, "batch rows columns"] | None
) -> Float[Tensor, "batch rows columns"]:
    """Of each picture without its padding, whose border is no edge of the picture."""
    edges = torch.zeros(len(pixels), *pixels.shape[-2:], dtype=torch.float64)
    for number, picture in enumerate(pixels.detach().cpu().double().numpy()):
        real = np.ones(picture.shape[1:], dtype=bool) if mask is None else mask[number].cpu().numpy() != 0
        rows, columns = np.flatnonzero(real.any(1)), np.flatnonzero(real.any(0))
        inside = np.ix_(rows, columns)
        edges[number][inside] = torch.from_numpy(sobel(picture[:, *inside]))
    return edges
