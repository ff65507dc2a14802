"""What one set of axes of a figure shows: a picture, boxes, a curve, bars, or words on coloured grounds."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from heedmap.common.printable import cut, number
from heedmap.data.picture import Box, Picture
from heedmap.data.segments import Segment
from heedmap.render.overlay import Style, grid_values, laid, muted
from heedmap.render.sample import Drawn
from heedmap.render.scale import FAINT, MUTE, STEPS, WHITE, Scale, Theme, readable, scale_of, tint
from heedmap.render.sound import Sound, Spectrum, frame_seconds, time_ticks, wave

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

    from heedmap.render.overlay import TokenValues

FALLBACKS = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
)
"""Looked for, in this order, where DejaVu Sans (which comes with matplotlib) lacks a character."""
LONGEST_LABEL = 24
MOST_NAMED, NAMED = 8, 0.1
"""So many boxes, of so much of the colour scale, have their name and relevance written beside them."""
SIDES = (600, 1200)
"""From and to: the longer side of a picture in a figure, in pixels."""
MOST_STRETCHED = 12.0
"""A picture longer than this many times its other side is stretched to be seen at all."""
FILL, LEAST_EDGE = 0.45, 0.4
"""Opacity inside of the strongest box, and of the edge of one that does not matter."""
HALO = (0.6, 0.6, 0.6, 0.5)
EDGE = 0.07
"""Of the picture's height: a name whose box begins higher is written inside it."""
TAG_LETTERS, TAG_TALL, TAG_PAD = 6.5, 0.16, 0.025
"""Of the name of a box: size of the letters in points; height with its ground and space around them, in inches."""
BAR = 0.15
"""How far up its map the colour of the shortest bar is, so that it is seen."""
FRAME = "#40e0ff"
WAVE, OVER = 0.35, 0.8
"""Opacity of the wave of a sound, and of the curve before it."""
WAVES = 0.4
"""Height of the wave below a map over time and frequency, as a share of the map's."""

ROUND = "round,pad=0,rounding_size=0.03"
DOTS = 100
"""An inch, where words are measured."""
LINE, GAP, PAD, LETTERS = 0.23, 0.05, 0.03, 8.5
"""Height of a line, space between words and around one, in inches; size of the letters in points."""

UNSIGNED = scale_of([0.0, 1.0])
Rgb = tuple[float, float, float]


def draw_patches(
    axes: Axes, segment: Segment, values: TokenValues, scale: Scale, style: Style, picture: Picture | None, theme: Theme
) -> None:
    """Patches over a picture, or as a grid of their own."""
    bare(axes)
    if picture is None:
        grid = np.ma.masked_invalid(grid_values(segment, np.where(np.isfinite(values), scale.places(values), np.nan)))
        colours = listed(scale.colours(theme, style.cmap)).with_extremes(bad=theme.missing)
        axes.imshow(grid, cmap=colours, vmin=0, vmax=1)
        return
    shown = picture.fitted(*SIDES)
    _show(axes, np.asarray(laid(shown, segment, values, scale, style, theme)), shown)
    for name, box in shown.frames.items():
        _frame(axes, corners(box, shown.image.size), name, theme)


def boxes_in_order(values: TokenValues, scale: Scale, picture: Picture) -> tuple[list[int], list[int]]:
    """Indices of the boxes that are drawn, the strongest last, and of those of them that are named."""
    assert picture.boxes is not None, "without places they are drawn as bars"
    known = [i for i in range(min(len(picture.boxes), len(values))) if np.isfinite(values[i])]
    strength = scale.strength(scale.places(values))
    order = sorted(known, key=lambda i: strength[i])
    return order, [i for i in order[-MOST_NAMED:] if strength[i] >= NAMED or i == order[-1]]


def draw_boxes(
    axes: Axes,
    values: TokenValues,
    names: Sequence[str],
    scale: Scale,
    style: Style,
    picture: Picture,
    inches: float,
    theme: Theme,
) -> None:
    """Each box on the muted picture in the colour of its relevance, the strongest on top, see :func:`boxes_in_order`.

    The names stand beside their boxes, where none covers another, as far as there is room; ``inches``: the picture's width.
    """
    shown, places = picture.fitted(*SIDES), picture.boxes
    colours = scale.colours(theme, style.cmap, over=True)
    bare(axes)
    _show(axes, np.asarray(muted(shown.image.convert("RGB"), MUTE, theme)), shown)
    assert places is not None, "without places they are drawn as bars"
    up = scale.places(values)
    strength = scale.strength(up)
    order, named = boxes_in_order(values, scale, picture)
    for i in order:
        _box(axes, corners(tuple(places[i]), shown.image.size), _colour(colours, up[i]), float(strength[i]))
    boxes = [corners(tuple(places[i]), shown.image.size) for i in named]
    words = [f"{cut(names[i], LONGEST_LABEL)} {number(values[i])}" for i in named]
    for i, word, corner in zip(named, words, free_corners(boxes, words, shown, inches), strict=True):
        _write(axes, corner, word, _colour(colours, up[i]), "top", "left", theme)


def draw_curve(axes: Axes, drawn: Drawn, values: TokenValues, theme: Theme, sound: Sound | None = None) -> None:
    """The relevance of frames of sound over time, up to its end where that is known, before its wave."""
    step = frame_seconds(drawn)
    places = np.arange(len(values) + 1) * (step or 1.0)
    axes.set_xlabel("frame" if step is None else "seconds")
    if sound is not None and step is not None:
        behind = axes.twinx()
        draw_wave(behind, sound, theme)
        behind.set_zorder(-1)
        behind.set_axis_off()
        axes.patch.set_visible(False)
    axes.stairs(
        values, places, fill=True, color=_colour(UNSIGNED.colours(theme), 0.7), alpha=1.0 if sound is None else OVER
    )
    axes.set_xlim(0, places[-1])


def draw_wave(axes: Axes, sound: Sound, theme: Theme, step: float | None = None) -> None:
    """The wave of a sound over seconds; or over frames of ``step`` seconds each, whose middles are at whole numbers."""
    parts = np.array(wave(sound))
    times = np.linspace(0, len(sound[0]) / sound[1], len(parts))
    places = times if step is None else times / step - 0.5
    axes.fill_between(places, parts[:, 0], parts[:, 1], color=theme.faint, alpha=WAVE, linewidth=0)
    axes.set_ylim(-1, 1)


def draw_spectrum(axes: Axes, shown: Spectrum, cmap: Colormap, theme: Theme, sound: Sound | None) -> None:
    """In a figure."""
    bare(axes)
    bands = len(shown.places)
    axes.imshow(
        np.ma.masked_invalid(shown.places),
        cmap=cmap.with_extremes(bad=theme.missing),
        vmin=0,
        vmax=1,
        aspect="auto",
        extent=(0.0, shown.seconds, 0.0, bands),
    )
    ticks = time_ticks(shown.seconds, shown.step)
    axes.set_xticks([place for place, _ in ticks], [words for _, words in ticks], fontsize=8)
    axes.set_ylabel("frequency →", fontsize=8, color=theme.faint)
    if sound is None:
        return
    parts = np.array(wave(sound)) * bands * WAVES / 2 - bands * WAVES / 2
    times = np.linspace(0, len(sound[0]) / sound[1], len(parts))
    axes.fill_between(times, parts[:, 0], parts[:, 1], color=theme.faint, alpha=WAVE, linewidth=0)
    axes.set_xlim(0, shown.seconds)
    axes.set_ylim(-bands * WAVES, bands)


def draw_bars(axes: Axes, drawn: Drawn, values: TokenValues, bars: Sequence[int], scale: Scale, theme: Theme) -> None:
    """The tokens ``bars`` one below the other, in reading order."""
    places = np.arange(len(bars))
    colours = [word_colour(scale, values[i], theme, BAR) for i in bars]
    widths = np.nan_to_num(values[list(bars)], nan=0.0) if bars else []
    axes.barh(places, widths, color=colours, edgecolor=theme.faint, linewidth=0.4)
    labels = [drawable(cut(drawn.labels[i], LONGEST_LABEL)) for i in bars]
    axes.set_yticks(places, labels, fontsize=9, **lettering())
    axes.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    if scale.signed:
        axes.axvline(0, color=theme.faint, linewidth=0.8)


@cache
def families() -> tuple[str, ...]:
    """DejaVu Sans and those fallbacks that are installed."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ("DejaVu Sans", *(name for name in FALLBACKS if name in installed))


class Lettering(TypedDict):
    """As matplotlib takes it."""

    fontfamily: list[str]
    parse_math: bool


def lettering() -> Lettering:
    """In :func:`families`; no text is a formula."""
    return {"fontfamily": list(families()), "parse_math": False}


def drawable(text: str) -> str:
    """``text`` with characters that none of :func:`families` has shown as the replacement character."""
    known = _characters()
    return "".join(c if ord(c) in known else "\N{REPLACEMENT CHARACTER}" for c in text)


def word_colour(scale: Scale, value: float, theme: Theme, least: float = 0.0) -> Rgb:
    """The colour behind a word on the theme's ground; ``least``: how far up the map what does not matter is."""
    place = float(scale.places(np.asarray(value)))
    return _colour(scale.colours(theme), place if scale.signed else least + (1 - least) * place)


def word_ground(scale: Scale, value: float, theme: Theme) -> Rgb:
    """The colour behind a word: of 0, and of what is not known, the ground itself, from which the colours set out."""
    from matplotlib.colors import to_rgb

    if not np.isfinite(value):
        return to_rgb(theme.ground)
    share = float(scale.share(value))
    far = min(1.0, abs(share) / FAINT)
    paper, full = to_rgb(theme.ground), word_colour(scale, value, theme)
    red, green, blue = (a + far * (b - a) for a, b in zip(paper, full, strict=True))
    return red, green, blue


def listed(colours: NDArray[np.uint8]) -> Colormap:
    """The colour map of colours, (count, 3)."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(colours / 255)


def word_map(scale: Scale, theme: Theme) -> Colormap:
    """The colour map of which :func:`word_colour` takes its colours."""
    return listed(scale.colours(theme))


def page_map(theme: Theme) -> Colormap:
    """The colours of words of which none is negative, as pages have them: 0 has that of the ground."""
    from matplotlib.colors import ListedColormap

    steps = (tint(step / STEPS, dark=theme.ground != WHITE)[0] for step in range(1, STEPS + 1))
    return ListedColormap([theme.ground, *steps])


def picture_map(scale: Scale, style: Style, picture: Picture | None, theme: Theme) -> Colormap:
    """The colour map of patches, as its colours are seen on a picture where there is one."""
    if picture is None:
        return listed(scale.colours(theme, style.cmap))
    return listed(scale.seen(theme, style.cmap, style.alpha, style.opacity == "even", style.mute))


def picture_words(picture: Picture | None, style: Style) -> list[str]:
    """What a reader has to know of a picture with a map on it."""
    if picture is None:
        return []
    words = {
        picture.note: bool(picture.note),
        "stretched: in truth {} × {} pixels".format(*picture.image.size): stretched(*picture.image.size),
        "faded: not seen by the model": picture.geometry.cropped,
        "opacity follows relevance": style.opacity == "relevance",
        "the picture's colours muted": style.mute > 0,
        "outline: above Otsu's threshold": style.contour,
    }
    return [word for word, holds in words.items() if holds]


def stretched(width: float, height: float) -> bool:
    """Whether a picture is so long that it is not drawn in its own proportions."""
    return max(width / height, height / width) > MOST_STRETCHED


@dataclass(frozen=True)
class PlacedWord:
    """A word and its place: the left end in inches, and its line from 0."""

    text: str
    token: int
    left: float
    width: float
    line: int


def placed_words(labels: Sequence[str], tokens: Sequence[int], width: float) -> list[PlacedWord]:
    """``tokens``, indices in ``labels``, in order, in lines of ``width`` inches; of those left out an ellipsis, token -1."""
    placed: list[PlacedWord] = []
    left, line = 0.0, 0
    for text, token in _with_gaps(labels, tokens):
        room = min(width, _width(text) + 2 * PAD)
        if left and left + room > width:
            left, line = 0.0, line + 1
        placed.append(PlacedWord(text, token, left, room, line))
        left += room + GAP
    return placed


def words_height(words: Sequence[PlacedWord]) -> float:
    """Of all lines, in inches."""
    return LINE * (1 + max((word.line for word in words), default=0))


def draw_words(
    axes: Axes, words: Sequence[PlacedWord], colours: Sequence[Rgb], width: float, tall: float, faint: str
) -> None:
    """Draw what :func:`placed_words` has placed on colours, by token, and ellipses in ``faint``, on axes of ``width`` × ``tall``
    inches; the lines of a text that is written from the right begin there.
    """
    from matplotlib.patches import FancyBboxPatch

    axes.set_xlim(0, width)
    axes.set_ylim(tall, 0)
    axes.set_axis_off()
    mirrored = _from_the_right(words)
    for word in words:
        left = width - word.left - word.width if mirrored else word.left
        middle = left + word.width / 2, (word.line + 0.5) * LINE
        if word.token >= 0:
            box = FancyBboxPatch((left, word.line * LINE + 0.02), word.width, LINE - 0.04, boxstyle=ROUND)
            box.set(linewidth=0, facecolor=colours[word.token])
            axes.add_patch(box)
        ink = faint if word.token < 0 else readable(colours[word.token])
        text = axes.text(*middle, word.text, fontsize=LETTERS, color=ink, ha="center", va="center_baseline")
        text.set(clip_on=True, **lettering())


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(code for name in families() for code in get_font(findfont(name)).get_charmap())


def _show(axes: Axes, pixels: np.ndarray, picture: Picture) -> None:
    width, height = picture.image.size
    aspect: Literal["auto", "equal"] = "auto" if stretched(width, height) else "equal"
    axes.imshow(pixels, extent=(0, width, height, 0), aspect=aspect, interpolation="antialiased")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def bare(axes: Axes) -> None:
    """Take the ticks away."""
    axes.set_xticks([])
    axes.set_yticks([])


def _box(axes: Axes, box: Box, colour: Rgb, strength: float) -> None:
    from matplotlib.patches import Rectangle

    corner, size, width = box[:2], (box[2] - box[0], box[3] - box[1]), 1.0 + 2.0 * strength
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=HALO, linewidth=width + 1.2))
    inside, edge = (*colour, FILL * strength), (*colour, LEAST_EDGE + (1 - LEAST_EDGE) * strength)
    axes.add_patch(Rectangle(corner, *size, facecolor=inside, edgecolor=edge, linewidth=width))


def outline(axes: Axes, box: Box) -> None:
    """The edges of a box, in the axes' own numbers."""
    from matplotlib.patches import Rectangle

    corner, size = box[:2], (box[2] - box[0], box[3] - box[1])
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=3.2))
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=FRAME, linewidth=1.6))


def _frame(axes: Axes, box: Box, name: str, theme: Theme) -> None:
    outline(axes, box)
    left, right = axes.get_xlim()
    above = box[1] > EDGE * axes.get_ylim()[0]
    on_left = box[0] < (left + right) * 0.6
    corner = box[0] if on_left else box[2], box[1]
    va: Literal["top", "bottom"] = "bottom" if above else "top"
    _write(axes, corner, cut(name, LONGEST_LABEL), FRAME, va, "left" if on_left else "right", theme)


def _write(
    axes: Axes,
    corner: tuple[float, float],
    words: str,
    colour: str | Rgb,
    va: Literal["top", "bottom"],
    ha: Literal["left", "right"],
    theme: Theme,
) -> None:
    ground = {"facecolor": theme.ground, "edgecolor": colour, "linewidth": 0.7, "pad": 1.2, "alpha": 0.8}
    text = axes.text(*corner, drawable(words), fontsize=TAG_LETTERS, color=theme.ink, bbox=ground, va=va, ha=ha)
    text.set(**lettering())


def free_corners(
    boxes: Sequence[Box], words: Sequence[str], picture: Picture, inches: float
) -> list[tuple[float, float]]:
    """Upper left corners of names, in pixels, the last box's first: above or in its box, or else where there is room."""
    width, height = picture.image.size
    dots = width / inches
    tall, taken = TAG_TALL * dots, list[Box]()
    found: list[tuple[float, float]] = []
    for box, word in zip(reversed(boxes), reversed(words), strict=True):
        wide = min(float(width), (_width(drawable(word)) * TAG_LETTERS / LETTERS + 2 * TAG_PAD) * dots)
        lefts = [min(max(0.0, left), width - wide) for left in (box[0], box[2] - wide)]
        tops = [box[1] - tall, box[1], box[3] - tall, box[3], *np.arange(0.0, max(height - tall, 1.0), tall / 2)]
        places = [(left, top) for top in tops if 0 <= top <= height - tall for left in lefts]
        spans = [(left, top, left + wide, top + tall) for left, top in places] or [(lefts[0], 0.0, wide, tall)]
        free = next((span for span in spans if not any(_overlap(span, other) for other in taken)), spans[0])
        taken.append(free)
        found.append((free[0] + TAG_PAD * dots, free[1] + TAG_PAD * dots))
    return found[::-1]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def corners(box: Box, size: tuple[int, int]) -> Box:
    """A box in shares of a picture, in pixels of it."""
    width, height = size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _colour(colours: NDArray[np.uint8], place: float) -> Rgb:
    """The colour at a place, from 0 to 1, of 256."""
    red, green, blue = colours[round(float(place) * 255)] / 255
    return float(red), float(green), float(blue)


def _with_gaps(labels: Sequence[str], tokens: Sequence[int]) -> list[tuple[str, int]]:
    labelled: list[tuple[str, int]] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and token != before + 1:
            labelled.append(("…", -1))
        labelled.append((drawable(cut(labels[token], LONGEST_LABEL)), token))
    return labelled


def _width(text: str) -> float:
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family=list(families()), size=LETTERS)
    renderer = RendererAgg(1, 1, DOTS)
    return renderer.get_text_width_height_descent(text, font, False)[0] / DOTS


def _from_the_right(words: Sequence[PlacedWord]) -> bool:
    directions = [unicodedata.bidirectional(letter) for word in words for letter in word.text]
    right = sum(direction in ("R", "AL") for direction in directions)
    return right > sum(direction == "L" for direction in directions)
