"""Explanations beside each other that are not of one model and one input: two models, or an input before and after an edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from markupsafe import Markup

from heedmap.common.printable import percent
from heedmap.errors import FileFormatError
from heedmap.models.edits import plain
from heedmap.render.files import figure_bytes, to_json
from heedmap.render.html import document, fragment, macro, render
from heedmap.render.outlines import LEAST, MOST
from heedmap.render.page import column_bodies
from heedmap.render.views import common_scales
from heedmap.web.parts import relevant_boxes
from heedmap.web.results import DRAWING

if TYPE_CHECKING:
    from PIL.Image import Image

    from heedmap.data.picture import Picture
    from heedmap.explanation import Explanation
    from heedmap.models.predictions import Prediction, Predictions
    from heedmap.render.scale import Scale

Odds = tuple[float | None, ...]
UNSEEN = "–"
"""In place of a probability that is not told."""


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
    def seen(self) -> Image | None:
        """To lay the map on."""
        if self.picture is None:
            return None
        return cast("Image", replace(self.picture.fitted(LEAST, MOST), frames={}))  # overlay takes Pictures too


@dataclass(frozen=True, eq=False)
class Columns:
    """What is shown beside each other, as :class:`heedmap.web.results.Result` is shown.

    Attributes:
        columns: of them.
        note: about their scales.
        heads: of the table of answers.
        answers: name of an answer → its probabilities; None: it is not told.
    """

    columns: tuple[Column, ...]
    note: str
    heads: tuple[str, ...]
    answers: Mapping[str, Odds]

    def html(self) -> str:
        """What the page shows; everything that users wrote is escaped."""
        scales = self._scales()
        bodies = self._bodies(scales)
        parts = [
            macro("web.column", column.name, _boxes(column, scale), fragment(body))
            for column, scale, body in zip(self.columns, scales, bodies, strict=True)
        ]
        return fragment(self._table()) + macro("web.columns", self.note, parts)

    def file(self, ending: str) -> bytes:
        """The file to be downloaded; FileFormatError where there is none of this ending."""
        explanations = [column.explanation for column in self.columns]
        if ending == ".json":
            return "[{}]".format(",\n".join(map(to_json, explanations))).encode()
        if ending == ".html":
            bodies = [
                Markup("<h2>{}</h2>{}").format(column.name, body)
                for column, body in zip(self.columns, self._bodies(self._scales()), strict=True)
            ]
            body = self._table() + render("comparison.html", note=self.note, bodies=bodies)
            return document(fragment(body), "heedmap: comparison").encode()
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

    def _bodies(self, scales: list[Mapping[str, Scale]]) -> list[Markup]:
        return column_bodies([(c.explanation, c.seen, s) for c, s in zip(self.columns, scales, strict=True)])

    def _table(self) -> Markup:
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


def _boxes(column: Column, scales: Mapping[str, Scale]) -> Markup:
    """The picture with the places of boxes, where there is one that has them."""
    boxes = [segment for segment in column.explanation.segments.values() if segment.kind == "boxes"]
    if column.picture is None or column.picture.boxes is None or not boxes:
        return Markup()
    return fragment(relevant_boxes(column.picture, boxes[0], False, scales.get(boxes[0].name)))
