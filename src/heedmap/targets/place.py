"""A place in a picture as weights of the pixels of a map: a mask, a box or a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heedmap.errors import TargetError
from heedmap.targets.maps import apart

Place: TypeAlias = Tensor | np.ndarray | Sequence[float] | None
"""A mask (h, w) or (batch, h, w); a box x1 y1 x2 y2 or a point x y: whole numbers are pixels, others shares of the picture."""

MEANT = (
    "expected a mask (h, w) or (batch, h, w), a box (x1, y1, x2, y2) or a point (x, y): whole numbers are pixels of the "
    "picture that the model saw, numbers with a point are shares of it, 0.0 to 1.0"
)


def covered(place: Place, maps: Sequence[int], seen: tuple[int, int] | None) -> Float[Tensor, "batch h w"]:
    """How much of each pixel of a map lies in the place, on the CPU: float32, from 0, above 0 somewhere in each sample.

    Args:
        place: see :data:`Place`.
        maps: (batch, h, w), of the map.
        seen: (h, w) of the picture that the model saw; None: as the map.

    Raises:
        TargetError: it is no place, or outside of the picture; or the mask is empty or of another size.
    """
    batch, height, width = maps
    size = seen or (height, width)
    if isinstance(place, (Tensor, np.ndarray)) and place.ndim > 1:
        return _masked(apart(torch.as_tensor(place)), (batch, height, width), size)
    x, y = (_weights(*side) for side in zip(_shares(_numbers(place), size), (width, height), strict=True))
    return (y[:, None] * x).expand(batch, -1, -1)


def place_words(place: Place) -> str:
    """``in the box (0, 0, 8, 8)``, ``at (3, 5)`` or ``in the mask``."""
    if isinstance(place, (Tensor, np.ndarray)) and place.ndim > 1:
        return "in the mask"
    numbers = _numbers(place)
    told = _told(numbers)
    return f"at {told}" if len(numbers) == 2 else f"in the box {told}"


def _told(numbers: Sequence[int | float]) -> str:
    return f"({', '.join(str(n if isinstance(n, int) else round(n, 4)) for n in numbers)})"


def _masked(mask: Tensor, maps: tuple[int, int, int], seen: tuple[int, int]) -> Tensor:
    batch, size = maps[0], maps[1:]
    fits = mask.dim() in (2, 3) and tuple(mask.shape[-2:]) in (size, seen)
    if not fits or (mask.dim() == 3 and len(mask) != batch):
        raise TargetError(
            f"the mask has shape {tuple(mask.shape)}; expected (h, w) or ({batch}, h, w) with h×w the map's "
            f"{size[0]}×{size[1]}, or {seen[0]}×{seen[1]} as the picture that the model saw; resize it"
        )
    weights = mask.expand(batch, -1, -1)
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise TargetError("the mask has negative numbers or NaN; expected bool, or weights from 0 on")
    if bool((weights.sum((1, 2)) == 0).any()):
        raise TargetError("the mask is empty: no pixel of it is above 0; mark at least one in each sample")
    if tuple(mask.shape[-2:]) == size:
        return weights
    return torch.nn.functional.adaptive_avg_pool2d(weights, size)


def _numbers(place: Place) -> list[int | float]:
    numbers = place.tolist() if isinstance(place, (Tensor, np.ndarray)) else place
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or len(numbers) not in (2, 4):
        raise TargetError(f"where={place!r:.60} is no place; {MEANT}")
    plain = [number.item() if isinstance(number, np.generic) else number for number in numbers]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in plain):
        raise TargetError(f"where={place!r:.60} is no place; {MEANT}")
    return plain


def _shares(numbers: Sequence[int | float], seen: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """(x1, x2) and (y1, y2), 0 to 1; of a point both are the same."""
    told = _told(numbers)
    pixels, point = all(isinstance(number, int) for number in numbers), len(numbers) == 2
    if pixels and not point and max(numbers) <= 1:
        raise TargetError(f"the box {told} may be one pixel or all of the picture; write 1.0 where a share is meant")
    low = [float(number) for number in numbers[:2]]
    high = low if point else [float(number) for number in numbers[2:]]
    limits = (seen[1], seen[0]) if pixels else (1, 1)
    inside = all(
        a >= 0 and (a < limit if pixels else a <= limit) if point else 0 <= a < b <= limit
        for a, b, limit in zip(low, high, limits, strict=True)
    )
    if not inside:
        what, order = ("point", "") if point else ("box", ", x1 < x2 and y1 < y2")
        last = f"pixels 0 to {limits[0] - point} and 0 to {limits[1] - point}" if pixels else "shares from 0.0 to 1.0"
        raise TargetError(
            f"the {what} {told} does not lie in the picture that the model saw, {seen[1]} pixels wide and {seen[0]} high; "
            f"expected {last}{order}"
        )
    half = 0.5 if pixels and point else 0.0
    (x1, x2), (y1, y2) = (
        ((a + half) / limit, (b + half) / limit) for a, b, limit in zip(low, high, limits, strict=True)
    )
    return (x1, x2), (y1, y2)


def _weights(ends: tuple[float, float], count: int) -> Float[Tensor, " pixels"]:
    """How much of each of ``count`` pixels lies between two shares; of a point: 1 for the pixel that it lies in."""
    first, last = (end * count for end in ends)
    places = torch.arange(count, dtype=torch.float64)
    if first == last:
        return (places == min(int(first), count - 1)).float()
    return ((places + 1).clamp(max=last) - places.clamp(min=first)).clamp(min=0).float()
