"""Figures of many small maps: of an answer a matrix of its words by the input's, and a small picture for each word; of attention
a matrix for each head, or one with its tokens and its heads beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from heedmap.common.printable import visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.picture import Box, Picture
from heedmap.data.segments import Segment
from heedmap.errors import InputError
from heedmap.render.answer_page import DrawnAnswers, answer_words
from heedmap.render.figure_layout import blank, check_size, dress, finished
from heedmap.render.naming import called
from heedmap.render.overlay import ALPHA, Shown, Style, as_picture, laid, patch_squares
from heedmap.render.panels import bare, corners, draw_wave, drawable, lettering, outline, page_map, word_map
from heedmap.render.sample import batch_size, checked_index, sample
from heedmap.render.scale import FROM_ZERO, MIN_MAX, MUTE, Scale, Theme, colour_map, scale_of
from heedmap.render.scale import theme as themed
from heedmap.render.sound import Sound, frame_seconds, time_ticks
from heedmap.render.words import shortened, words

MOST_WORDS, MOST_COLUMNS, ACROSS = 40, 60, 6
"""Words of the answer, words of an input, and small pictures in a row."""
CELL, SMALL, WIDTH, LEAST = 0.2, 1.35, 9.0, 5.0
"""Inches: of a cell, of a small picture, of sound, and of the figure at least."""
LEFT, GAP, ABOVE, LETTER = 1.5, 0.35, 0.3, 0.085
"""Inches: for the words of the answer, between parts, above a part, and the width of a letter."""
SOUND_TALL, WAVE_TALL, NAMED, BELOW = 0.16, 0.4, 0.12, 0.15
"""Of a row of sound, of its wave, of the name above small pictures, and of what is written at the end."""

HEAD, LEAST_HEAD, NAMES, MARGIN = 0.75, 0.22, 1.5, 0.15
"""Inches: of a small head and the least it is, of the names left of them, and of the margin."""
WIDEST, TALLEST = 14.0, 40.0
"""Inches that all small heads take, after which they are made smaller."""
ENTRY, MATRIX, BESIDE, HEADS_ACROSS = 0.2, 4.0, 1.1, 4
"""Inches: of an entry that has a name, of a matrix without names, and of a head beside it, so many in a row."""
MOST_NAMES = 40
"""Tokens that are named; of more, only their numbers."""
HEADING, UNDER = 0.5, 0.35
"""Inches above, and below for how colours are to be read."""
SEEN_SMALL, SEEN_LARGE = 48, 200
"""Entries a side that can be seen of a small matrix, and of a large one; of more, each shows the largest of its block."""
FRAME = 0.4
"""Points, around a head."""
SCALING = (
    "each matrix is coloured from 0 to its own largest value; a row is a token that asks, a column one that is asked"
)


@dataclass(frozen=True)
class _FigurePart:
    """A part of the figure: how wide and tall it is in inches, and what draws it, given the figure and where it ends below."""

    wide: float
    tall: float
    draw: Callable[[Figure, float], None]


@dataclass(frozen=True, eq=False)
class MapRows:
    """What a figure of answers is of.

    Attributes:
        names: of the rows.
        segments: of each row, by name.
        heading: parts of what stands above.
        boxes: of each row, in shares of what the model saw; or none.
        index: the sample.
    """

    names: Sequence[str]
    segments: Sequence[Mapping[str, Segment]]
    heading: Sequence[str]
    boxes: Sequence[Box] = ()
    index: int = 0


def answer_rows(explanation: ExplanationData, index: int = 0) -> MapRows:
    """The words of sample ``index``'s answer, the first 40, without special tokens.

    Raises:
        InputError: no answer, no such sample, or nothing but special tokens.
    """
    index = checked_index(index, batch_size(explanation))
    said = [word for word in answer_words(explanation, index) if not word.special]
    if not said:
        raise InputError("the answer has special tokens alone, so there is nothing to draw")
    rows = said[:MOST_WORDS]
    spans = [explanation.span(word.tokens[0], word.tokens[-1] + 1).segments for word in rows]
    more = f"the first {MOST_WORDS} of {len(said)} words" if len(said) > MOST_WORDS else ""
    heading = (visible(explanation.target[index]), explanation.method, more, explanation.choice)
    return MapRows([word.text for word in rows], spans, heading, index=index)


def answers_rows(answers: DrawnAnswers) -> MapRows:
    """Several answers, the first 40."""
    segments = [explanation.segments for explanation in answers.explanations[:MOST_WORDS]]
    first = answers.explanations[0]
    told = visible(answers.text) if answers.joined else ", ".join(answers.names)
    heading = (told, first.method, first.choice)
    return MapRows(answers.names[:MOST_WORDS], segments, heading, answers.boxes[:MOST_WORDS])


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What the rows are drawn on, and how."""

    image: Shown
    style: Style
    theme: Theme
    sound: Sound | None


def plot_rows(
    rows: MapRows,
    image: Shown = None,
    sound: Sound | None = None,
    *,
    theme: str = "light",
    alpha: float = ALPHA,
    mute: float = MUTE,
    cmap: str | None = None,
    width: float | None = None,
    dpi: float | None = None,
    title: bool = True,
) -> Figure:
    """A figure of an answer's words, :func:`answer_rows`, or of several answers, :func:`answers_rows`.

    Of each text, and of boxes, a matrix: a row for each, coloured from 0 to its own largest value, and a column for each word of
    the text. Of sound the same over seconds, above its wave; of a picture a small map for each, and its box where it has one. Of
    an input no more than the 60 most relevant words are drawn, in their order; special tokens are not.

    Args:
        rows: what to draw.
        image: as the model saw it; or what ``Model.picture`` gives, of several pictures too.
        sound: what the model heard, (samples,), and samples a second: its wave lies below the rows of its frames.
        theme: ``"light"`` or ``"dark"``.
        alpha, mute, cmap: of the small pictures, see :class:`~heedmap.render.overlay.Style`.
        width, dpi, title: as for :func:`heedmap.render.figure.plot`.

    Raises:
        InputError: ``image`` is no image.
        UnknownNameError: no such theme.
        OptionError: no such colour map or size.
    """
    check_size(width, dpi)
    look = themed(theme)
    on = _Drawing(image, Style(alpha, cmap, mute=mute), look, sound)
    made = [_part(rows, name, on) for name in rows.segments[0]]
    parts = [part for part in made if part is not None]
    wide = max([LEAST, *(part.wide for part in parts)])
    heading = drawable(" · ".join(filter(None, rows.heading))) if title else ""
    lines = wrap(heading, int(wide * 11), max_lines=3, placeholder=" …")
    tall = sum(part.tall + GAP for part in parts) + 0.25 * len(lines) + 0.2 + BELOW
    figure = _headed(wide, tall, lines, look)
    top = tall - 0.25 * len(lines) - 0.1
    for part in parts:
        part.draw(figure, top - part.tall)
        top -= part.tall + GAP
    _write(figure, MARGIN, 0.12, _scaling(rows), look.faint)
    return finished(figure, width, dpi)


def _scaling(rows: MapRows) -> str:
    """How colours are to be read."""
    pictures = [segment.kind == "image" and segment.grid is not None for segment in rows.segments[0].values()]
    told = ["a row is coloured from 0 to its own largest value"] if not all(pictures) else []
    return " · ".join([*told, *(["a picture from its own least to its own largest"] if any(pictures) else [])])


def _part(rows: MapRows, name: str, on: _Drawing) -> _FigurePart | None:
    """What is drawn of a segment; nothing of one that is special tokens alone, or all 0."""
    maps = [segments[name] for segments in rows.segments]
    if not any(bool(segment.relevance[rows.index].any()) for segment in maps):
        return None
    if maps[0].kind == "image" and maps[0].grid is not None:
        return _strip(maps, rows, on, None if on.image is None else as_picture(on.image).of(name))
    return _over_time(maps, rows, on) if maps[0].kind == "audio" else _matrix(maps, rows, on.theme)


def _strip(maps: Sequence[Segment], rows: MapRows, on: _Drawing, picture: Picture | None) -> _FigurePart:
    deep = -(-len(maps) // ACROSS)
    shape = 1.0 if picture is None else picture.image.height / picture.image.width
    tall, look = SMALL * shape, on.theme

    def draw(figure: Figure, bottom: float) -> None:
        for n, (word, segment) in enumerate(zip(_short(rows.names), maps, strict=True)):
            row, column = divmod(n, ACROSS)
            place = (0.2 + column * (SMALL + 0.1), bottom + (deep - 1 - row) * (tall + ABOVE), SMALL, tall)
            axes = _axes(figure, place, look)
            drawn = sample(segment, rows.index)
            scale = scale_of(drawn.known, MIN_MAX)
            small = (
                patch_squares(segment, drawn, scale, scale.colours(look, on.style.cmap))
                if picture is None
                else laid(picture, segment, drawn.known, scale, on.style, look)
            )
            axes.imshow(np.asarray(small))
            if rows.boxes:
                outline(axes, _on(rows.boxes[n], picture, small.size))
            axes.set_axis_off()
            axes.set_title(word, fontsize=9, color=look.ink, pad=3, **lettering())
        _write(figure, 0.2, bottom + deep * (tall + ABOVE) - 0.02, called(maps[0].name), look.faint, 9, va="bottom")

    return _FigurePart(0.2 + min(ACROSS, len(maps)) * (SMALL + 0.1), deep * (tall + ABOVE) + NAMED, draw)


def _on(box: Box, picture: Picture | None, size: tuple[int, int]) -> Box:
    """A box in shares of what the model saw, in pixels of what is drawn."""
    return corners(box, size) if picture is None else picture.geometry.to_original(corners(box, picture.geometry.seen))


def _over_time(maps: Sequence[Segment], rows: MapRows, on: _Drawing) -> _FigurePart:
    """A row for each word over the frames of the sound, up to its end where that is known, its wave, and the time."""
    values = np.stack([sample(segment, rows.index).values for segment in maps])
    step, sound, look = frame_seconds(sample(maps[0], rows.index)), on.sound, on.theme
    heard = values[:, : _frames_heard(values, maps[0], step, sound)]
    tall = SOUND_TALL * len(maps)
    below = 0.0 if sound is None or step is None else WAVE_TALL

    def draw(figure: Figure, bottom: float) -> None:
        wide = WIDTH - LEFT - 0.2
        axes = _axes(figure, (LEFT, bottom + ABOVE + below, wide, tall), look)
        _image(axes, heard, look)
        _row_names(axes, rows.names, look)
        times = axes
        if sound is not None and step is not None:
            axes.set_xticks([])
            times = _axes(figure, (LEFT, bottom + ABOVE, wide, below), look)
            draw_wave(times, sound, look, step)
            times.set_yticks([])
            times.set_xlim(axes.get_xlim())
        end = heard.shape[1] * (step or 1.0)
        ticks = [(place / (step or 1.0) - 0.5, words) for place, words in time_ticks(end, step)]
        times.set_xticks([place for place, _ in ticks], [words for _, words in ticks], fontsize=8, color=look.ink)

    return _FigurePart(WIDTH, tall + below + ABOVE, draw)


def _frames_heard(values: NDArray[np.float64], segment: Segment, step: float | None, sound: Sound | None) -> int:
    """How many frames are drawn: those of the sound, where somebody told its end; else up to the last on which any word rests a
    little, since nobody told where padding begins.
    """
    if segment.roles is not None:
        return values.shape[1]
    if sound is not None and step is not None:
        return max(1, min(values.shape[1], ceil(len(sound[0]) / sound[1] / step - 1e-9)))
    most = np.abs(values).max(0)
    return int(np.flatnonzero(most > 0.02 * most.max(initial=0.0)).max(initial=0)) + 1


def _matrix(maps: Sequence[Segment], rows: MapRows, look: Theme) -> _FigurePart | None:
    by_row = [_columns(segment, rows.index) for segment in maps]
    values = np.array([[value for _, value, _ in row] for row in by_row])
    names = [name for name, _, special in by_row[0] if not special]
    values = values[:, [not special for _, _, special in by_row[0]]]
    if not names or not values.any():
        return None
    kept = np.sort(np.argsort(-np.abs(values).max(0), kind="stable")[:MOST_COLUMNS])
    cells, labels = values[:, kept], _short([names[i] for i in kept])
    above = min(2.2, 0.15 + LETTER * max(map(len, labels)))
    more = f" ({len(kept)} of {len(names)}, the most relevant)" if len(kept) < len(names) else ""

    def draw(figure: Figure, bottom: float) -> None:
        axes = _axes(figure, (LEFT, bottom, CELL * len(kept), CELL * len(maps)), look)
        _image(axes, cells, look)
        _row_names(axes, rows.names, look)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=9, color=look.ink, **lettering())
        told = "\n".join(wrap(called(maps[0].name) + more, 16))
        _write(figure, MARGIN, bottom + CELL * len(maps) + 0.05, told, look.faint, 9, va="bottom")

    return _FigurePart(LEFT + CELL * len(kept) + 0.3, CELL * len(maps) + above, draw)


def _columns(segment: Segment, index: int) -> list[tuple[str, float, bool]]:
    """Of each word, or token of what is no text: its name, its relevance, and whether it is special."""
    if segment.kind == "text":
        return [(word.text, word.value, word.special) for word in words(segment, index)]
    drawn = sample(segment, index)
    return [(drawn.labels[i], float(drawn.values[i]), False) for i in drawn.shown]


def _image(axes: Axes, values: NDArray[np.float64], look: Theme) -> None:
    """Each row from 0 to its own largest value; what is no number has no colour."""
    known = np.where(np.isfinite(values), values, 0.0)
    most = np.abs(known).max(1, keepdims=True)
    shares = values / np.where(most > 0, most, 1.0)
    known = np.where(np.isfinite(shares), shares, 0.0)
    scale = Scale(FROM_ZERO, float(known.min(initial=0.0)), float(known.max(initial=0.0)), shares.size)
    cmap = word_map(scale, look) if scale.signed else page_map(look)
    axes.imshow(shares, aspect="auto", cmap=cmap, vmin=scale.low, vmax=scale.high, interpolation="nearest")
    axes.set_yticks([])


def _row_names(axes: Axes, names: Sequence[str], look: Theme) -> None:
    axes.set_yticks(range(len(names)), _short(names), fontsize=9, color=look.ink, **lettering())


def plot_heads(
    shown: HeadRows | DrawnMatrix,
    heading: str,
    *,
    theme: str = "light",
    cmap: str | None = None,
    width: float | None = None,
    dpi: float | None = None,
    title: bool = True,
) -> Figure:
    """A figure of attention, of all heads or one matrix; the options are as for :func:`heedmap.render.figure.plot`."""
    check_size(width, dpi)
    look = themed(theme)
    colours = page_map(look) if cmap is None else colour_map(cmap)
    return finished(shown.figure(heading if title else "", look, colours), width, dpi)


@dataclass(frozen=True, eq=False)
class HeadRows:
    """Of each attention its name and its heads, (heads, queries, keys): a row of small matrices, a column for each head."""

    rows: Sequence[tuple[str, NDArray[np.float32]]]

    def figure(self, heading: str, look: Theme, colours: Colormap) -> Figure:
        """All of them."""
        most = max(len(heads) for _, heads in self.rows)
        cell = max(LEAST_HEAD, min(HEAD, WIDEST / most, TALLEST / len(self.rows)))
        wide, above = max(NAMES + most * cell + MARGIN, 4.0), HEADING + 0.2
        tall = above + len(self.rows) * cell + UNDER
        figure = _sheet(wide, tall, heading, look)
        for row, (name, heads) in enumerate(self.rows):
            top = tall - above - row * cell
            _write(figure, MARGIN, top - cell / 2, "\n".join(wrap(name, 20)), look.ink, va="center")
            for head, values in enumerate(heads):
                place = (NAMES + head * cell, top - cell * 0.94, cell * 0.92, cell * 0.92)
                _draw(_axes(figure, place, look, FRAME), values, colours, SEEN_SMALL)
                if row == 0:
                    _write(figure, place[0] + place[2] / 2, top + 0.05, str(head), look.faint, ha="center")
        _write(figure, NAMES - 0.1, tall - above + 0.05, "head", look.faint, ha="right")
        return figure


@dataclass(frozen=True, eq=False)
class DrawnMatrix:
    """One matrix with its tokens, and small ones for its heads at its right.

    Attributes:
        name: of it.
        values: (queries, keys).
        asks, asked: what these are called.
        heads: (queries, keys) each; may be none.
    """

    name: str
    values: NDArray[np.float32]
    asks: Sequence[str]
    asked: Sequence[str]
    heads: Sequence[NDArray[np.float32]] = ()

    def figure(self, heading: str, look: Theme, colours: Colormap) -> Figure:
        """The matrix, and its heads."""
        asks, asked = (_short(names) if len(names) <= MOST_NAMES else [] for names in (self.asks, self.asked))
        left = MARGIN + (LETTER * max(map(len, asks)) + 0.1 if asks else 0.5)
        above = HEADING + 0.3 + (LETTER * max(map(len, asked)) + 0.1 if asked else 0.3)
        size = (_inches(asked, self.values.shape), _inches(asks, self.values.shape[::-1]))
        across = min(HEADS_ACROSS, max(1, -(-len(self.heads) // max(1, int(size[1] // (BESIDE + 0.2))))))
        deep = -(-len(self.heads) // across) * (BESIDE + 0.2) if self.heads else 0.0
        wide = left + size[0] + (0.3 + across * (BESIDE + 0.1) if self.heads else 0.0) + MARGIN
        wide, tall = max(wide, 5.0), above + max(size[1], deep) + UNDER
        figure = _sheet(wide, tall, f"{self.name} · {heading}" if heading else "", look)
        axes = _axes(figure, (left, tall - above - size[1], *size), look, FRAME)
        _draw(axes, self.values, colours, SEEN_LARGE)
        axes.xaxis.tick_top()
        _ticks(axes, asks, asked, look)
        for head, values in enumerate(self.heads):
            row, column = divmod(head, across)
            place = (
                left + size[0] + 0.3 + column * (BESIDE + 0.1),
                tall - above - row * (BESIDE + 0.2) - BESIDE,
                BESIDE,
            )
            _draw(_axes(figure, (*place, BESIDE), look, FRAME), values, colours, SEEN_SMALL)
            _write(figure, place[0], place[1] + BESIDE + 0.03, f"head {head}", look.faint)
        return figure


def _inches(names: Sequence[str], shape: tuple[int, ...]) -> float:
    """Of the side along which these names stand, of a matrix of (others, these) tokens."""
    return max(1.0, ENTRY * len(names)) if names else MATRIX * min(1.0, max(0.3, shape[1] / shape[0]))


def _sheet(wide: float, tall: float, heading: str, look: Theme) -> Figure:
    """For heads, with how colours are to be read below."""
    figure = _headed(wide, tall, wrap(drawable(heading), int(wide * 11), max_lines=2, placeholder=" …"), look)
    _write(figure, MARGIN, 0.06, "\n".join(wrap(SCALING, int(wide * 15))), look.faint)
    return figure


def _pooled(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """At most so many entries a side, each the largest of its block."""
    for axis in (0, 1):
        count = values.shape[axis]
        if count > most:
            values = np.maximum.reduceat(values, np.arange(most) * count // most, axis=axis)
    return values


def _draw(axes: Axes, values: NDArray[np.float32], colours: Colormap, finest: int) -> None:
    size, values = values.shape, _pooled(values, finest)
    most = float(values.max(initial=0.0)) or 1.0
    edges = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    axes.imshow(values, aspect="auto", cmap=colours, vmin=0, vmax=most, interpolation="nearest", extent=edges)
    bare(axes)


def _ticks(axes: Axes, asks: Sequence[str], asked: Sequence[str], look: Theme) -> None:
    for axis, names, turned in ((axes.yaxis, asks, 0), (axes.xaxis, asked, 90)):
        if names:
            axis.set_ticks(range(len(names)), names, rotation=turned, fontsize=9, color=look.ink, **lettering())
        else:
            axis.set_major_locator(MaxNLocator(6, integer=True))
            axis.set_tick_params(labelsize=8)


def _headed(wide: float, tall: float, heading: Sequence[str], look: Theme) -> Figure:
    """A figure of so many inches with lines at its top."""
    figure = blank(wide, tall, look)
    _write(figure, MARGIN, tall - 0.1, "\n".join(heading), look.ink, 11, va="top")
    return figure


def _write(
    figure: Figure, left: float, low: float, words: str, ink: str, size: int = 8, ha: str = "left", va: str = "baseline"
) -> None:
    """Text at so many inches from the left and from below."""
    place = (left / figure.get_figwidth(), low / figure.get_figheight())
    figure.text(*place, words, fontsize=size, color=ink, ha=ha, va=va, **lettering())


def _axes(figure: Figure, place: tuple[float, float, float, float], look: Theme, frame: float = 0.0) -> Axes:
    """Axes at left, bottom, width and height in inches, in a frame of so many points, or without."""
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((place[0] / wide, place[1] / tall, place[2] / wide, place[3] / tall))
    dress(axes, look)
    axes.tick_params(length=0)
    axes.spines[:].set(visible=frame > 0, linewidth=frame)
    return axes


def _short(names: Sequence[str]) -> list[str]:
    """As there is room for them."""
    return [drawable(shortened(name)) for name in names]
