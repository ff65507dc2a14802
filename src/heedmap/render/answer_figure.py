"""An answer in words as a figure for papers: a matrix of its words by the input's, and a small picture for each word."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.common.printable import visible
from heedmap.errors import InputError
from heedmap.render.answer_page import DrawnAnswers, answer_words
from heedmap.render.figure_layout import axes_at, blank, check_size, finished
from heedmap.render.naming import called
from heedmap.render.overlay import ALPHA, Style, as_picture, laid, patch_squares
from heedmap.render.panels import draw_wave, drawable, lettering, outline, page_map, word_map
from heedmap.render.sample import batch_size, checked_index, sample
from heedmap.render.scale import FROM_ZERO, MIN_MAX, MUTE, Scale, Theme, scale_of
from heedmap.render.scale import theme as themed
from heedmap.render.sound import frame_seconds, time_ticks
from heedmap.render.words import Word, shortened, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from heedmap.data.explanation import ExplanationData, Segment
    from heedmap.data.picture import Box, Picture
    from heedmap.render.sound import Sound

MOST_WORDS, MOST_COLUMNS, ACROSS = 40, 60, 6
"""Words of the answer, words of an input, and small pictures in a row."""
CELL, SMALL, WIDTH, LEAST = 0.2, 1.35, 9.0, 5.0
"""Inches: of a cell, of a small picture, of sound, and of the figure at least."""
LEFT, GAP, ABOVE, LETTER = 1.5, 0.35, 0.3, 0.085
"""Inches: for the words of the answer, between parts, above a part, and the width of a letter."""
SOUND_TALL, WAVE_TALL, NAMED, BELOW = 0.16, 0.4, 0.12, 0.15
"""Of a row of sound, of its wave, of the name above small pictures, and of what is written at the end."""


@dataclass(frozen=True)
class _FigurePart:
    """A part of the figure: how wide and tall it is in inches, and what draws it, given left, bottom and the figure."""

    wide: float
    tall: float
    draw: Callable[[Figure, float, float], None]


def plot_answer(
    explanation: ExplanationData,
    index: int = 0,
    image: Image.Image | Picture | None = None,
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
    """A figure of sample ``index`` of an explanation with an answer.

    Of each text, and of boxes, a matrix: a row for each word of the answer, coloured from 0 to its own largest value, and a
    column for each word of the text. Of sound the same over seconds, above its wave; of a picture a small map for each word. No
    more than 40 words of the answer are drawn, the first ones, and of an input the 60 most relevant, in their order; special
    tokens are not.

    Args:
        explanation: what to draw, of :func:`heedmap.explain_answer`.
        index: the sample.
        image: as the model saw it; or what ``Model.picture`` gives, of several pictures too.
        sound: what the model heard, (samples,), and samples a second: its wave lies below the rows of its frames.
        theme: ``"light"`` or ``"dark"``.
        alpha, mute, cmap: of the small pictures, see :class:`~heedmap.render.overlay.Style`.
        width, dpi, title: as for :func:`heedmap.render.figure.plot`.

    Raises:
        InputError: no answer, no such sample, nothing but special tokens, or ``image`` is no image.
        UnknownNameError: no such theme.
        OptionError: no such colour map or size.
    """
    check_size(width, dpi)
    index = checked_index(index, batch_size(explanation))
    said = [word for word in answer_words(explanation, index) if not word.special]
    if not said:
        raise InputError("the answer has special tokens alone, so there is nothing to draw")
    rows = said[:MOST_WORDS]
    spans = [explanation.span(word.tokens[0], word.tokens[-1] + 1).segments for word in rows]
    shown = FigureRows([word.text for word in rows], spans, index)
    heading = _heading(explanation, index, said) if title else ""
    drawing = Drawing(image, Style(alpha, cmap, mute=mute), themed(theme), sound)
    return finished(_figure(shown, drawing, heading), width, dpi)


def plot_answers(
    answers: DrawnAnswers,
    image: Image.Image | Picture | None = None,
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
    """A figure of several answers, the first 40, as :func:`plot_answer` draws the words of one; boxes of answers are outlined.

    Arguments and errors as there.
    """
    check_size(width, dpi)
    segments = [explanation.segments for explanation in answers.explanations[:MOST_WORDS]]
    shown = FigureRows(answers.names[:MOST_WORDS], segments, 0, answers.boxes[:MOST_WORDS])
    told = visible(answers.text) if answers.joined else ", ".join(answers.names)
    first = answers.explanations[0]
    heading = " · ".join(filter(None, (told, first.method, first.choice))) if title else ""
    drawing = Drawing(image, Style(alpha, cmap, mute=mute), themed(theme), sound)
    return finished(_figure(shown, drawing, heading), width, dpi)


@dataclass(frozen=True, eq=False)
class FigureRows:
    """The rows of a figure.

    Attributes:
        names: of the rows.
        segments: of each row, by name.
        index: the sample.
        boxes: of each row, in shares of what the model saw; or none.
    """

    names: Sequence[str]
    segments: Sequence[Mapping[str, Segment]]
    index: int
    boxes: Sequence[Box] = ()

    def of(self, name: str) -> list[Segment]:
        """A segment, in each row."""
        return [segments[name] for segments in self.segments]


@dataclass(frozen=True, eq=False)
class Drawing:
    """What the rows are drawn on, and how."""

    image: Image.Image | Picture | None
    style: Style
    look: Theme
    sound: Sound | None = None

    @property
    def picture(self) -> Picture | None:
        """The picture, where there is one."""
        return None if self.image is None else as_picture(self.image)


def _figure(shown: FigureRows, drawing: Drawing, heading: str) -> Figure:
    made = [_part(shown, name, drawing) for name in shown.segments[0]]
    parts = [part for part in made if part is not None]
    wide = max([LEAST, *(part.wide for part in parts)])
    lines = wrap(drawable(heading), int(wide * 11), max_lines=3, placeholder=" …")
    tall = sum(part.tall + GAP for part in parts) + 0.25 * len(lines) + 0.2 + BELOW
    look = drawing.look
    figure = blank(wide, tall, look)
    figure.text(0.15 / wide, 1 - 0.1 / tall, "\n".join(lines), va="top", fontsize=11, color=look.ink, **lettering())
    top = tall - 0.25 * len(lines) - 0.1
    for part in parts:
        part.draw(figure, 0.0, top - part.tall)
        top -= part.tall + GAP
    figure.text(0.15 / wide, 0.12 / tall, _scaling(shown), fontsize=8, color=look.faint, **lettering())
    return figure


def _scaling(shown: FigureRows) -> str:
    """How colours are to be read."""
    pictures = [segment.kind == "image" and segment.grid is not None for segment in shown.segments[0].values()]
    told = ["a row is coloured from 0 to its own largest value"] if not all(pictures) else []
    return " · ".join([*told, *(["a picture from its own least to its own largest"] if any(pictures) else [])])


def _heading(explanation: ExplanationData, index: int, said: Sequence[Word]) -> str:
    more = f" · the first {MOST_WORDS} of {len(said)} words" if len(said) > MOST_WORDS else ""
    chosen = f" · {explanation.choice}" if explanation.choice else ""
    return f"{visible(explanation.target[index])} · {explanation.method}{more}{chosen}"


def _part(shown: FigureRows, name: str, drawing: Drawing) -> _FigurePart | None:
    """What is drawn of a segment; nothing of one that is special tokens alone, or all 0."""
    each = shown.of(name)
    if not any(bool(segment.relevance[shown.index].any()) for segment in each):
        return None
    if each[0].kind == "image" and each[0].grid is not None:
        picture = drawing.picture
        return _strip(each, shown, None if picture is None else picture.of(name), drawing)
    if each[0].kind == "audio":
        return _over_time(each, shown, drawing.look, drawing.sound)
    return _matrix(each, shown, drawing.look)


def _strip(maps: Sequence[Segment], shown: FigureRows, picture: Picture | None, drawing: Drawing) -> _FigurePart:
    deep = -(-len(maps) // ACROSS)
    shape = 1.0 if picture is None else picture.image.height / picture.image.width
    tall, name, look = SMALL * shape, called(maps[0].name), drawing.look

    def draw(figure: Figure, left: float, bottom: float) -> None:
        for n, (word, segment) in enumerate(zip(shown.names, maps, strict=True)):
            row, column = divmod(n, ACROSS)
            place = (0.2 + column * (SMALL + 0.1), bottom + (deep - 1 - row) * (tall + ABOVE), SMALL, tall)
            axes = _axes(figure, place, look)
            drawn = sample(segment, shown.index)
            scale = scale_of(drawn.known, MIN_MAX)
            small = (
                patch_squares(segment, drawn, scale, scale.colours(look, drawing.style.cmap))
                if picture is None
                else laid(picture, segment, drawn.known, scale, drawing.style, look)
            )
            axes.imshow(np.asarray(small))
            if shown.boxes:
                outline(axes, _on(shown.boxes[n], picture, small.size))
            axes.set_axis_off()
            axes.set_title(drawable(shortened(word)), fontsize=9, color=look.ink, pad=3, **lettering())
        above = (bottom + deep * (tall + ABOVE) - 0.02) / figure.get_figheight()
        figure.text(0.2 / figure.get_figwidth(), above, name, fontsize=9, color=look.faint, va="bottom", **lettering())

    return _FigurePart(0.2 + min(ACROSS, len(maps)) * (SMALL + 0.1), deep * (tall + ABOVE) + NAMED, draw)


def _on(box: Box, picture: Picture | None, size: tuple[int, int]) -> Box:
    """A box in shares of what the model saw, in pixels of what is drawn."""
    width, height = size if picture is None else picture.geometry.seen
    seen = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
    return seen if picture is None else picture.geometry.to_original(seen)


def _over_time(maps: Sequence[Segment], shown: FigureRows, look: Theme, sound: Sound | None = None) -> _FigurePart:
    """A row for each word over the frames of the sound, up to its end where that is known, its wave, and the time."""
    values = np.stack([sample(segment, shown.index).values for segment in maps])
    drawn = sample(maps[0], shown.index)
    step = frame_seconds(drawn)
    heard = values[:, : _frames_heard(values, maps[0], step, sound)]
    tall = SOUND_TALL * len(maps)
    below = 0.0 if sound is None or step is None else WAVE_TALL

    def draw(figure: Figure, left: float, bottom: float) -> None:
        wide = WIDTH - LEFT - 0.2
        axes = _axes(figure, (LEFT, bottom + ABOVE + below, wide, tall), look)
        _image(axes, heard, look)
        _row_names(axes, shown.names, look)
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
    """How many frames are drawn: those of the sound, where somebody told its end."""
    if segment.roles is not None:
        return values.shape[1]
    if sound is None or step is None:
        return _last(values) + 1
    return max(1, min(values.shape[1], ceil(len(sound[0]) / sound[1] / step - 1e-9)))


def _last(values: NDArray[np.float64]) -> int:
    """The last frame that any word rests on a little, where nobody told where the sound ends and padding begins."""
    most = np.abs(values).max(0)
    return int(np.flatnonzero(most > 0.02 * most.max(initial=0.0)).max(initial=0))


def _matrix(maps: Sequence[Segment], shown: FigureRows, look: Theme) -> _FigurePart | None:
    by_row = [_columns(segment, shown.index) for segment in maps]
    values = np.array([[value for _, value, _ in row] for row in by_row])
    names = [name for name, _, special in by_row[0] if not special]
    values = values[:, [not special for _, _, special in by_row[0]]]
    if not names or not values.any():
        return None
    kept = np.sort(np.argsort(-np.abs(values).max(0), kind="stable")[:MOST_COLUMNS])
    cells, labels = values[:, kept], [drawable(shortened(names[i])) for i in kept]
    above = min(2.2, 0.15 + LETTER * max(map(len, labels)))
    more = f" ({len(kept)} of {len(names)}, the most relevant)" if len(kept) < len(names) else ""

    def draw(figure: Figure, left: float, bottom: float) -> None:
        axes = _axes(figure, (LEFT, bottom, CELL * len(kept), CELL * len(maps)), look)
        _image(axes, cells, look)
        _row_names(axes, shown.names, look)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=9, color=look.ink, **lettering())
        place = (0.15 / figure.get_figwidth(), (bottom + CELL * len(maps) + 0.05) / figure.get_figheight())
        told = "\n".join(wrap(called(maps[0].name) + more, 16))
        figure.text(*place, told, fontsize=9, color=look.faint, va="bottom", **lettering())

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
    shown = [drawable(shortened(name)) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=9, color=look.ink, **lettering())


def _axes(figure: Figure, place: tuple[float, float, float, float], look: Theme) -> Axes:
    """Axes without a frame at left, bottom, width and height in inches."""
    axes = axes_at(figure, place, look)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
