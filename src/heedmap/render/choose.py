"""Choose one thing, see its map: radio buttons and CSS, so that it works without a script and from the keyboard."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heedmap.printable import number
from heedmap.render.colours import table
from heedmap.render.overlay import grid_values
from heedmap.render.sample import Sample, sample
from heedmap.render.scale import Scale, step_class
from heedmap.render.starts import button
from heedmap.render.text import html_text
from heedmap.render.wordmap import line
from heedmap.render.words import top_words, words

if TYPE_CHECKING:
    from heedmap.explanation_data import Segment

OPAQUE = 0.75
"""Of the most relevant place of a map that lies on a picture, as in ``overlay``."""
BARS = 8
LOSSLESS = 300 * 300
"""Pixels up to which a picture under many maps is kept as it is; larger ones are compressed."""
CELL = 1.1
"""Side of a patch that can be chosen, in rem."""


@dataclass(frozen=True)
class Choice:
    """Something that can be chosen.

    Attributes:
        name: of it, for people.
        panel: HTML that is seen when it is chosen.
        step: of its colour, see ``Scale.step``.
        place: row and column, from 0, where the choices lie in a grid.
    """

    name: str
    panel: str
    step: int = 0
    place: tuple[int, int] | None = None


def chooser(title: str, choices: Sequence[Choice], chosen: int, grid: tuple[int, int] | None = None) -> str:
    """The choices, and under them the panel of the one that is chosen.

    Args:
        title: what is chosen, for those who cannot see it.
        choices: in reading order; in a grid all have a place.
        chosen: at first.
        grid: rows and columns of the grid in which the choices lie; their maps stand beside it.
    """
    group = (
        "heedmap-" + sha256("\0".join((title, *(c.panel for c in choices))).encode("utf-8", "replace")).hexdigest()[:12]
    )
    items = "\n".join(_choice(choice, group, n == chosen) for n, choice in enumerate(choices))
    name = html_text(title)
    if grid is None:
        return f'<div class="choose" role="radiogroup" aria-label="{name}">\n{items}\n</div>'
    rows, columns = grid
    tracks = (
        f"grid-template-columns:repeat({columns},{CELL}rem) minmax(12rem,1fr);"
        f"grid-template-rows:repeat({rows},{CELL}rem) auto"
    )
    return f'<div class="choose cells" role="radiogroup" aria-label="{name}" style="{tracks}">\n{items}\n</div>'


def panel(segment: Segment, index: int, scale_used: Scale, *, seen: bool = False, boxes: str = "") -> str:
    """The map of a segment, small enough to be there many times: without its scale, which is written once for all.

    Args:
        segment: what to draw.
        index: the sample.
        scale_used: its scale.
        seen: whether the picture that the model saw is the page's ``--seen``.
        boxes: HTML that lies on the picture.
    """
    drawn = sample(segment, index)
    if segment.grid is not None:
        return _stack(segment, index, scale_used, seen, boxes)
    if segment.kind == "text":
        return line(words(segment, index), scale_used)
    return bars(drawn, scale_used, BARS)


def bars(drawn: Sample, scale_used: Scale, most: int, name: str = "") -> str:
    """The most relevant tokens as a table with bars from 0; as buttons where the ``name`` of their segment is given."""
    top = drawn.top(most)
    rows = "\n".join(_bar(drawn, i, scale_used, button(name, [i], first=i == top[0])) for i in top)
    rest = f'<p class="fine">the top {len(top)} of {len(drawn.shown)}</p>' if len(top) < len(drawn.shown) else ""
    head = '<thead><tr><th scope="col">token</th><th scope="col">bar</th><th scope="col">relevance</th></tr></thead>'
    return f'<table class="bars">\n{head}\n<tbody>\n{rows}\n</tbody>\n</table>{rest}'


def most_relevant(segment: Segment, index: int = 0, count: int = 3) -> str:
    """What is most relevant, in words: ``cat 0.4, sat 0.1``."""
    if segment.kind == "text" and segment.grid is None:
        top = [(word.text, word.value) for word in top_words(words(segment, index), count)]
    else:
        drawn = sample(segment, index)
        top = [(place(segment, drawn, i), float(drawn.values[i])) for i in drawn.top(count)]
    return ", ".join(f"{name} {number(value)}" for name, value in top) or "nothing"


def place(segment: Segment, drawn: Sample, i: int) -> str:
    """What token ``i`` is called: its label, or where it lies."""
    if segment.grid is None:
        return drawn.labels[i]
    row, column = divmod(i, segment.grid[1])
    return f"row {row + 1}, column {column + 1}"


def background(image: Image.Image) -> str:
    """CSS: ``image`` as ``--seen``, to lie under many maps and be there once."""
    small = image.width * image.height <= LOSSLESS
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "PNG" if small else "JPEG", quality=90)
    return f"--seen:url(data:image/{'png' if small else 'jpeg'};base64,{b64encode(buffer.getvalue()).decode()})"


def _choice(choice: Choice, group: str, chosen: bool) -> str:
    kind = step_class(choice.step)
    style = "" if choice.place is None else f' style="grid-area:{choice.place[0] + 1}/{choice.place[1] + 1}"'
    words_seen = "" if choice.place else html_text(choice.name)
    name = f' aria-label="{html_text(choice.name)}"' if choice.place else ""
    checked = " checked" if chosen else ""
    return (
        f'<label{style}><input type="radio" name="{group}"{name}{checked}>'
        f'<span class="{kind}" dir="auto">{words_seen}</span></label>'
        f"<div>{choice.panel}</div>"
    )


def _stack(segment: Segment, index: int, scale_used: Scale, seen: bool, boxes: str) -> str:
    places = grid_values(segment, scale_used.places(sample(segment, index).known))
    rows, columns = places.shape
    pixelated = "" if seen else ' style="image-rendering:pixelated"'
    alt = f"map of {rows} by {columns} patches; most relevant: {most_relevant(segment, index)}"
    shape = "" if seen else f' style="aspect-ratio:{columns}/{rows}"'
    return (
        f'<div class="stack{" seen" if seen else ""}"{shape}>'
        f'<img alt="{html_text(alt)}"{pixelated} src="{_layer(places, scale_used, seen)}">{boxes}</div>'
    )


def _layer(places: NDArray[np.float64], scale_used: Scale, seen: bool) -> str:
    """The map as a picture of one pixel a patch, which the browser makes larger."""
    level = np.round(places * 255).astype(np.uint8)
    strength = np.round(scale_used.strength(places) * 255 * OPAQUE).astype(np.uint8)
    opacity = strength if seen else np.full_like(level, 255)
    buffer = BytesIO()
    Image.fromarray(np.dstack([table(scale_used.cmap)[level], opacity])).save(buffer, "PNG")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def _bar(drawn: Sample, i: int, scale_used: Scale, pressed: str) -> str:
    value = float(drawn.values[i])
    kind = step_class(scale_used.step(value)) or "s0"
    bar = f'<div class="bar {kind}" style="width:{abs(scale_used.share(value)):.1%}"></div>'
    label = html_text(drawn.labels[i])
    name = f"<span{pressed}>{label}</span>" if pressed else label
    return f'<tr><th scope="row" dir="auto">{name}</th><td>{bar}</td><td>{number(value)}</td></tr>'
