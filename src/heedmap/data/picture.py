"""Where on a picture a model looked: plain data, found by :mod:`heedmap.models` and read by the renderers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy import ndarray
    from PIL.Image import Image

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2: in pixels, where the left edge of the first is 0 and the right edge of the last is the width, or, of what a
model found, as shares of the picture, 0 to 1."""


@dataclass(frozen=True)
class Geometry:
    """original = scale × seen + offset, for x and for y alike.

    Attributes:
        scale: (x, y): pixels of the original for each pixel of what the model saw.
        offset: (x, y): where in the original the top left corner of what the model saw lies; negative: in its padding.
        seen: (width, height), in pixels of the model, of what the grid of patches covers.
        size: (width, height) of the original.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    seen: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Geometry:
        """Of a picture of ``size``, (width, height), that the model saw as it is."""
        return cls((1.0, 1.0), (0.0, 0.0), size, size)

    def to_original(self, box: Box) -> Box:
        """A box of what the model saw in pixels of the original; outside of it where the model saw padding."""
        (a, b), (c, d) = self.scale, self.offset
        return box[0] * a + c, box[1] * b + d, box[2] * a + c, box[3] * b + d

    @property
    def view(self) -> Box:
        """The part of the original that the model saw."""
        left, top, right, bottom = self.to_original((0.0, 0.0, *self.seen))
        return max(left, 0.0), max(top, 0.0), min(right, self.size[0]), min(bottom, self.size[1])

    @property
    def cropped(self) -> bool:
        """Whether half a pixel or more of the original lies outside of what the model saw."""
        left, top, right, bottom = self.view
        return left >= 0.5 or top >= 0.5 or right <= self.size[0] - 0.5 or bottom <= self.size[1] - 0.5


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to lay maps on; every renderer takes it in place of a PIL image.

    Attributes:
        image: RGB.
        geometry: where on ``image`` the model looked.
        boxes: (N, 4), x1 y1 x2 y2 as shares of width and height: the places of the tokens of a segment of boxes.
        frames: label → (x1, y1, x2, y2), as shares too: boxes to be outlined, such as what a detector found.
        note: what a reader has to know of this picture; it is written on figures.
        others: of a sample with several pictures, or with tiles of one, those after this one, in the model's order: the pictures
            of the segments ``image2``, ``image3``, … and ``image_encoder2``, …
        alone: whether it is all that the model saw, so that ``image2``, … are maps of it too: levels of a pyramid.
    """

    image: Image
    geometry: Geometry
    boxes: Float[ndarray, "boxes 4"] | None = None
    frames: Mapping[str, Box] = field(default_factory=dict)
    note: str = ""
    others: tuple[Picture, ...] = ()
    alone: bool = False

    def of(self, segment: str) -> Picture | None:
        """The picture of the segment of that name; None: there is none of its number."""
        if self.alone:
            return self
        pictures = (self, *self.others)
        number = int(re.sub(r"^.*?(\d*)$", r"\1", segment) or 1)
        return pictures[number - 1] if number <= len(pictures) else None

    def share(self, box: Box) -> Box:
        """A box in shares of what the model saw, in shares of this picture."""
        width, height = self.geometry.seen
        across, down = self.geometry.size
        left, top, right, bottom = self.geometry.to_original(
            (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        )
        edges = (left / across, top / down, right / across, bottom / down)
        return tuple(min(1.0, max(0.0, edge)) for edge in edges)  # type: ignore[return-value]

    def fitted(self, least: int, most: int) -> Picture:
        """A copy whose longer side has ``least`` to ``most`` pixels; enlarged ones show the same pixels, as squares."""
        longest = max(self.image.size)
        factor = most / longest if longest > most else -(-least // longest)
        sized = self if factor == 1 else self._resized(factor)
        return replace(sized, others=tuple(o.fitted(least, most) for o in self.others)) if self.others else sized

    def as_seen(self) -> Image:
        """What the model saw, in as many pixels as it saw; its padding is black."""
        from PIL.Image import Resampling, Transform

        near = self.fitted(1, 2 * max(self.geometry.seen))
        (a, b), (c, d) = near.geometry.scale, near.geometry.offset
        return near.image.transform(self.geometry.seen, Transform.AFFINE, (a, 0, c, 0, b, d), Resampling.BILINEAR)

    def _resized(self, factor: float) -> Picture:
        from PIL.Image import Resampling

        width, height = (max(1, round(side * factor)) for side in self.image.size)
        across, down = width / self.image.size[0], height / self.image.size[1]
        old = self.geometry
        geometry = Geometry(
            (old.scale[0] * across, old.scale[1] * down),
            (old.offset[0] * across, old.offset[1] * down),
            old.seen,
            (width, height),
        )
        image = self.image.resize((width, height), Resampling.NEAREST if factor > 1 else Resampling.BICUBIC)
        return replace(self, image=image, geometry=geometry)
