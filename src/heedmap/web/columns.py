"""Explanations beside each other: by two methods, of two models, or of an input before and after an edit."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markupsafe import Markup

from heedmap.common.printable import percent
from heedmap.errors import FileFormatError
from heedmap.models.edits import plain
from heedmap.render.files import comparison_json, figure_bytes
from heedmap.render.html import document, fragment, macro, render
from heedmap.render.page import column_bodies
from heedmap.render.views import ALONE, Beside, common_scales
from heedmap.web.parts import relevant_boxes, seen

if TYPE_CHECKING:
    from PIL.Image import Image

    from heedmap.data.picture import Picture
    from heedmap.explanation import Explanation
    from heedmap.models.predictions import Prediction, Predictions
    from heedmap.render.scale import Scale

Odds = tuple[float | None, ...]
UNSEEN = "–"
"""In place of a probability that is not told."""
DRAWING = threading.Lock()
"""Matplotlib draws in one thread at a time."""


@dataclass(frozen=True, eq=False)
class Column:
    """An explanation under its name.

    Attributes:
        name: what stands above it.
        explanation: of one sample.
        picture: to lay the map on; None: there is none.
        alone: whether it has a scale of its own; the others share one.
    """

    name: str
    explanation: Explanation
    picture: Picture | None = None
    alone: bool = False

    @property
    def seen_by_maps(self) -> Image | None:
        """What lies under whole maps, where there are some."""
        return seen(self.picture) if self.explanation.maps else None


@dataclass(frozen=True, eq=False)
class Columns:
    """What is shown beside each other, and can be downloaded.

    Attributes:
        columns: of them.
        note: about their scales.
        heads: of the table of answers; without, there is no table.
        answers: name of an answer → its probabilities; None: it is not told.
        beside: what is drawn with all maps on the page, but not in files.
    """

    columns: tuple[Column, ...]
    note: str
    heads: tuple[str, ...] = ()
    answers: Mapping[str, Odds] = field(default_factory=dict)
    beside: Beside = ALONE

    def html(self) -> str:
        """What the page shows; everything that users wrote is escaped."""
        parts = [
            macro(
                "web.column",
                column.name,
                relevant_boxes(column.picture, column.explanation, scales),
                fragment(body, column.seen_by_maps),
            )
            for column, scales, body in zip(self.columns, self._scales(), self._bodies(self.beside), strict=True)
        ]
        table = self._table()
        return (fragment(table) if table else table) + macro("web.columns", self.note, parts)

    def file(self, ending: str) -> bytes:
        """The file to be downloaded; FileFormatError where there is none of this ending."""
        explanations = [column.explanation for column in self.columns]
        if ending == ".json":
            return comparison_json(*explanations).encode()
        if ending == ".html":
            bodies = [
                Markup("<h2>{}</h2>{}").format(column.name, body)
                for column, body in zip(self.columns, self._bodies(ALONE), strict=True)
            ]
            body = self._table() + render("comparison.html", note=self.note, bodies=bodies)
            return document(fragment(body, self.columns[0].seen_by_maps), "heedmap: comparison").encode()
        if ending != ".png":
            raise FileFormatError(f"there is no file with the ending {ending!r}; there are .png, .html, .json")
        from heedmap.render.figure import side_by_side

        named = {column.name: column for column in self.columns}
        pictures = {name: c.picture for name, c in named.items() if c.picture is not None}
        own = [name for name, column in named.items() if column.alone]
        with DRAWING:
            maps = {name: column.explanation for name, column in named.items()}
            shared = len(own) < len(maps)
            figure = side_by_side(maps, image=pictures, shared=shared, own=own if shared else ())
            return figure_bytes(figure, ".png")

    def _scales(self) -> list[Mapping[str, Scale]]:
        together = common_scales([column.explanation for column in self.columns if not column.alone])
        return [{} if column.alone else together for column in self.columns]

    def _bodies(self, beside: Beside) -> list[Markup]:
        shown = zip(self.columns, self._scales(), strict=True)
        return column_bodies([(c.explanation, seen(c.picture), scales) for c, scales in shown], beside)

    def _table(self) -> Markup:
        if not self.heads:
            return Markup()
        rows = [(name, [UNSEEN if p is None else percent(p) for p in odds]) for name, odds in self.answers.items()]
        return macro("web.odds", self.heads, rows)


def same_answer(choice: Prediction, others: Predictions) -> Prediction:
    """The answer of another model that is called the same; its first where there is none."""
    return next((other for other in others if plain(other.label) == plain(choice.label)), others[0])


def both_odds(first: Predictions, second: Predictions) -> dict[str, Odds]:
    """Name of an answer → its probability by each of two models."""
    listed = [_odds(first), _odds(second)]
    return {name: tuple(odds.get(name) for odds in listed) for name in {**listed[0], **listed[1]}}


def _odds(answers: Predictions) -> dict[str, float | None]:
    """The most probable of each name."""
    odds: dict[str, float | None] = {}
    for prediction in answers:
        if prediction.said is None:
            odds.setdefault(plain(prediction.label), prediction.probability)
    return odds
