"""Relevance of image patches: laid over the image, or drawn as a grid of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from heedmap.common.extras import library
from heedmap.data.explanation import ExplanationData
from heedmap.data.picture import Geometry, Picture
from heedmap.data.segments import Segment
from heedmap.datasets.files import upright_rgb
from heedmap.errors import InputError, OptionError
from heedmap.render.naming import explained_object
from heedmap.render.sample import Drawn, sample
from heedmap.render.scale import MUTE, Scale, Theme, token_scale
from heedmap.render.scale import theme as themed

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32

    TokenValues = Float[np.ndarray, " tokens"]
    """What is drawn of each token; NaN: nothing, since the model did not take it in."""

Kept = TypeVar("Kept", bound=np.generic)
Shown = Image.Image | Picture | None
"""What maps are laid on: an image as the model saw it, or a Picture, which says where on it the model looked; None: nothing."""

LEAST_SIDE, MOST_SIDE = 384, 1200
"""Pixels of the longer side of a picture on a page."""
GRID_PIXELS = 336
NOT_TAKEN = 128
UNSEEN = 1.2
"""What the model did not see is grey, and muted so far."""
ALPHA = 0.85
"""Opacity of the most relevant place."""
OPACITIES = ("relevance", "even")
LINE = 90
"""Opacity, to 255, of the lines between patches, in the theme's ink."""
INNER, OUTER = (255, 255, 255), (0, 0, 0)
"""The two lines of an outline, which is so seen on any ground."""
MOST_THICK = 4
"""Pixels of each of them."""


@dataclass(frozen=True)
class Style:
    """How patches are laid over a picture.

    Attributes:
        alpha: opacity of the most relevant place, 0 to 1.
        cmap: name of a matplotlib colour map; None: a sequential one, or where relevance is negative a diverging one.
        opacity: ``"relevance"``: what matters less is more transparent; ``"even"``: ``alpha`` everywhere.
        contour: whether to outline what lies above Otsu's threshold.
        patches: whether to show the patches as they are, with lines between them, and not smoothed.
        mute: how far the picture's own colours go to grey and towards the theme's ground, 0 to 1, so that they are not taken for
            relevance, and relevance stands out.
    """

    alpha: float = ALPHA
    cmap: str | None = None
    opacity: str = "relevance"
    contour: bool = False
    patches: bool = False
    mute: float = MUTE

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise OptionError(f"alpha={self.alpha}; expected a number from 0 (invisible) to 1 (opaque)")
        if not 0 <= self.mute <= 1:
            raise OptionError(f"mute={self.mute}; expected a number from 0 (all colours) to 1 (grey)")
        if self.opacity not in OPACITIES:
            raise OptionError(f"opacity={self.opacity!r}; expected {' or '.join(map(repr, OPACITIES))}")


def overlay(
    image: Image.Image | Picture,
    segment: Segment,
    index: int = 0,
    *,
    alpha: float = ALPHA,
    cmap: str | None = None,
    opacity: str = "relevance",
    contour: bool = False,
    patches: bool = False,
    mute: float = MUTE,
    scale: Scale | None = None,
    theme: str = "light",
) -> Image.Image:
    """``image`` with the relevance of sample ``index`` over it, RGB, of the image's own size.

    The relevance is min–max scaled, or where some is negative centred at 0, and upsampled bilinearly. What matters more is
    darker, or in the dark theme brighter; the picture is pale, or there dark.

    Args:
        image: as the model saw it, so that the grid covers all of it; or a Picture, which says where on it the model
            looked: what lies outside is dimmed. Of a Picture with ``others``, that of the segment.
        segment: one with a grid (rows, columns).
        index: the sample.
        alpha, cmap, opacity, contour, patches, mute: see :class:`Style`.
        scale: one that several maps share; None: the map's own.
        theme: ``"light"`` or ``"dark"``.

    Raises:
        InputError: no image, a segment without a grid, or no such sample.
        UnknownNameError: no such theme.
        OptionError: no such colour map, or an option out of range.
        MissingLibraryError: ``contour`` without scikit-image.
    """
    style = Style(alpha, cmap, opacity, contour, patches, mute)
    drawn = sample(segment, index)
    grid_values(segment, drawn.known)
    given = as_picture(image)
    picture = given.of(segment.name) if given.others else given
    if picture is None:
        raise InputError(
            f"there are {1 + len(given.others)} pictures, and none of them is of the segment {segment.name!r}"
        )
    return laid(picture, segment, drawn.known, scale or token_scale(segment, drawn), style, themed(theme))


def as_picture(image: Image.Image | Picture) -> Picture:
    """A Picture of an image that the model saw as it is; InputError where it is neither."""
    if isinstance(image, Picture):
        return image
    if not isinstance(image, Image.Image):
        raise InputError(f"the image is a {type(image).__name__}; expected a PIL.Image.Image or a heedmap Picture")
    shown = upright_rgb(image)
    return Picture(shown, Geometry.whole(shown.size))


def framed(picture: Picture, explanation: ExplanationData, index: int) -> Picture:
    """``picture`` with the box of the object that sample ``index`` explains as its frame; with its own where it has some."""
    if explanation.box is None or picture.frames:
        return picture
    left, top, right, bottom = explanation.box[index].tolist()
    return replace(picture, frames={explained_object(explanation, index): picture.share((left, top, right, bottom))})


def laid(
    picture: Picture, segment: Segment, values: TokenValues, scale: Scale, style: Style, theme: Theme
) -> Image.Image:
    """A picture with ``values`` of the segment's tokens over it, NaN: not taken in, on any scale."""
    image, fades = picture.image.convert("RGB"), style.opacity == "relevance"
    colours = scale.colours(theme, style.cmap, over=fades)
    grid = scale.places(grid_values(segment, values)).astype(np.float32)
    smoothing = Image.Resampling.NEAREST if style.patches else Image.Resampling.BILINEAR
    places = _placed(grid, picture.geometry, smoothing)
    seen = _placed(np.ones_like(grid), picture.geometry, Image.Resampling.NEAREST) > 0.5
    level = np.round(places * 255).clip(0, 255).astype(np.uint8)
    strength = scale.strength(places) if fades else np.ones_like(places)
    mask = Image.fromarray(np.round(strength.clip(0, 1) * 255 * style.alpha * seen).astype(np.uint8))
    ground = muted(image, style.mute, theme)
    if not seen.all():
        ground = Image.composite(ground, muted(image, UNSEEN, theme), Image.fromarray(seen))
    result = Image.composite(Image.fromarray(colours[level]), ground, mask)
    if style.patches:
        _draw_lines(result, segment, picture.geometry, (*bytes.fromhex(theme.ink[1:]), LINE))
    threshold = otsu(grid[np.isfinite(grid_values(segment, values))]) if style.contour else None
    return result if threshold is None else outlined(result, (places > threshold) & seen)


def heat_grid(segment: Segment, index: int = 0, *, scale: Scale | None = None, theme: str = "light") -> Image.Image:
    """The patches as squares of one colour each, RGB; grey where the model did not take a patch in.

    Raises:
        InputError: a segment without a grid, or no such sample.
        UnknownNameError: no such theme.
    """
    drawn = sample(segment, index)
    scale = scale or token_scale(segment, drawn)
    return patch_squares(segment, drawn, scale, scale.colours(themed(theme)))


def patch_squares(segment: Segment, drawn: Drawn, scale: Scale, colours: NDArray[np.uint8]) -> Image.Image:
    """Patches as squares of these 256 ``colours``, RGB; grey where the model did not take a patch in."""
    level = np.round(grid_values(segment, scale.places(drawn.known)) * 255).astype(np.uint8)
    return squares(level, grid_values(segment, drawn.taken), colours, max(1, GRID_PIXELS // max(level.shape)))


def squares(level: NDArray[np.uint8], taken: NDArray[np.bool_], colours: NDArray[np.uint8], side: int) -> Image.Image:
    """A grid in squares of ``side`` pixels, RGB: each of the colour of its level, grey where it is not taken in."""
    pixels = np.where(taken[..., None], colours[level], NOT_TAKEN).astype(np.uint8)
    return Image.fromarray(pixels.repeat(side, 0).repeat(side, 1))


def grid_values(segment: Segment, values: NDArray[Kept]) -> NDArray[Kept]:
    """``values``, (tokens,), as the segment's (rows, columns); InputError where it has no grid that fits."""
    if segment.grid is None:
        raise InputError(
            f"segment {segment.name!r} (kind {segment.kind}) has no grid, so it cannot be laid over an image; "
            "give a segment of patches, such as 'image'"
        )
    if segment.grid[0] * segment.grid[1] != len(values):
        raise InputError(
            f"segment {segment.name!r} has {len(values)} tokens, which do not fill its grid of "
            f"{segment.grid[0]} rows and {segment.grid[1]} columns"
        )
    return values.reshape(segment.grid)


def otsu(places: TokenValues) -> float | None:
    """The place on the scale that parts the values into two classes best (Otsu, 1979); None where they are all equal.

    Raises:
        MissingLibraryError: there is no scikit-image.
    """
    threshold_otsu = library("skimage.filters", "eval", "contour=True needs", "scikit-image").threshold_otsu
    levels = np.round(places * 255).astype(np.uint8)
    return None if not len(levels) or np.ptp(levels) == 0 else float(threshold_otsu(levels)) / 255


def outlined(image: Image.Image, inside: Bool[np.ndarray, "height width"], thickness: int | None = None) -> Image.Image:
    """A copy of an RGB image with a white line along the inner edge of the region ``inside``, and a black one along the outer,
    each of so many pixels; None: as the size of the image asks for.
    """
    thickness = thickness or min(MOST_THICK, max(1, round(max(image.size) / 300)))
    pixels = np.array(image)
    pixels[_grown(inside, thickness) & ~inside] = OUTER
    pixels[inside & _grown(~inside, thickness)] = INNER
    return Image.fromarray(pixels)


def _grown(mask: Bool[np.ndarray, "height width"], by: int) -> Bool[np.ndarray, "height width"]:
    """Everything within a square of so many pixels to each side, one axis after the other."""
    for _ in range(2):
        grown = mask.copy()
        for step in range(1, min(by, len(mask) - 1) + 1):
            grown[step:] |= mask[:-step]
            grown[:-step] |= mask[step:]
        mask = grown.T
    return mask


def _placed(
    grid: Float32[np.ndarray, "rows columns"], geometry: Geometry, smoothing: Image.Resampling
) -> Float32[np.ndarray, "height width"]:
    """A grid over what the model saw, in pixels of the original; 0 outside of it."""
    rows, columns = grid.shape
    left, top, right, bottom = geometry.to_original((0.0, 0.0, *geometry.seen))
    across, down = columns / (right - left), rows / (bottom - top)
    affine = (across, 0.0, -left * across, 0.0, down, -top * down)
    placed = Image.fromarray(grid).transform(geometry.size, Image.Transform.AFFINE, affine, smoothing)
    return np.asarray(placed)


def muted(image: Image.Image, mute: float, theme: Theme) -> Image.Image:
    """``image`` with its colours gone to grey, and towards the ground, by ``mute``, 0 to 1."""
    if not mute:
        return image
    grey = Image.blend(image, image.convert("L").convert("RGB"), min(mute, 1.0))
    return Image.fromarray(np.round(theme.veiled(np.asarray(grey, dtype=float), mute)).astype(np.uint8))


def _draw_lines(image: Image.Image, segment: Segment, geometry: Geometry, ink: tuple[int, ...]) -> None:
    rows, columns = segment.grid or (1, 1)
    left, top, right, bottom = geometry.view
    pen = ImageDraw.Draw(image, "RGBA")
    for x in np.linspace(0, geometry.seen[0], columns + 1)[1:-1]:
        place = geometry.to_original((x, 0, x, 0))[0]
        if left < place < right:
            pen.line([(place, top), (place, bottom - 1)], fill=ink)
    for y in np.linspace(0, geometry.seen[1], rows + 1)[1:-1]:
        place = geometry.to_original((0, y, 0, y))[1]
        if top < place < bottom:
            pen.line([(left, place), (right - 1, place)], fill=ink)
