"""Words on figures are words: no dollar sign makes a formula of them, in whatever figure they stand."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import heedmap
from heedmap.render.matrices import DrawnMatrix, HeadRows, _image, plot_heads
from heedmap.render.scale import theme

TEXT = "dog red ; cat blue ? cat"
MATRIX = np.eye(2, dtype=np.float32)


@cache
def _map(answer: bool = False) -> heedmap.Explanation:
    """A map, or an answer, whose segments have names with dollar signs."""
    lists = heedmap.load("zoo/gpt-lists")
    found = lists.explain_answer(text=TEXT) if answer else lists.explain(text=TEXT)
    known = {name if name == "answer" else f"${name}$": segment for name, segment in found.segments.items()}
    return replace(found, segments={name: replace(segment, name=name) for name, segment in known.items()})


FIGURES: dict[str, Callable[[], Figure]] = {
    "a map": lambda: _map().plot(),
    "bars": lambda: _map().plot(bars=True),
    "maps side by side": lambda: heedmap.side_by_side({"$a$": _map(), "b$": _map()}),
    "an answer": lambda: _map(answer=True).plot(),
    "all heads": lambda: plot_heads(HeadRows([("0 $text$", np.stack([MATRIX, MATRIX]))]), "heads of $text$"),
    "one matrix": lambda: plot_heads(DrawnMatrix("$a$", MATRIX, ("$x$", "y"), ("x", "$y$"), (MATRIX,)), "of $text$"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_words_are_a_formula(name: str) -> None:
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    words = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert words
    assert [text.get_text() for text in words if text.get_parse_math()] == []


def test_rows_that_are_no_numbers_leave_the_others_their_colours() -> None:
    axes = Figure().add_subplot()
    _image(axes, np.array([[0.0, 0.5, 1.0], [np.nan, 2.0, 1.0], [np.nan] * 3]), theme("light"))
    (image,) = axes.images
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert image.get_array().filled(-1).tolist() == [[0, 0.5, 1], [-1, 1, 0.5], [-1, -1, -1]]
