"""Explanations as the page shows them, one or several beside each other, and their files: kept in memory for a while, never on a
disk."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from markupsafe import Markup

from heedmap.common.printable import percent
from heedmap.data.picture import Picture
from heedmap.errors import FileFormatError
from heedmap.explanation import Explanation
from heedmap.models.edits import plain
from heedmap.models.predictions import Prediction, Predictions
from heedmap.render.answer_page import answer_fragment
from heedmap.render.cautions import minded
from heedmap.render.files import comparison_json, figure_bytes, to_bytes
from heedmap.render.html import document, fragment, macro, render
from heedmap.render.page import SAME_UNIT, column_body, explanation_fragment
from heedmap.render.scale import Scale, one_unit
from heedmap.render.views import ALONE, Beside, common_scales
from heedmap.web.method_options import starts, within
from heedmap.web.parts import relevant_boxes, seen

KEPT = 64
OWN_SCALES = "Numbers of two methods are not of one kind, so each map has a scale of its own."
CLICKED = {"text": "a word", "image": "a patch", "boxes": "a box"}
TYPES = {".png": "image/png", ".html": "text/html; charset=utf-8", ".json": "application/json"}
"""Ending of a file that can be downloaded → its MIME type."""

Odds = tuple[float | None, ...]
UNSEEN = "–"
"""In place of a probability that is not told."""
DRAWING = threading.Lock()
"""Matplotlib draws in one thread at a time."""


@dataclass(frozen=True, eq=False)
class Result:
    """What was explained.

    Attributes:
        explanations: one, or two of one answer by two methods.
        picture: to lay the maps on.
        begun: whether they start from a token, and not from the answer.
        beside: the sound, and the objects that lie on the map of the picture, see :func:`heedmap.web.parts.objects`.
    """

    explanations: tuple[Explanation, ...]
    picture: Picture | None = None
    begun: bool = False
    beside: Beside = ALONE

    def html(self) -> str:
        """What the page shows: one report, or two beside each other; everything that users wrote is escaped."""
        head = macro("web.back") if self.begun else Markup()
        if len(self.explanations) != 1:
            return head + self._columns.html()
        first, image = self.explanations[0], seen(self.picture)
        if first.answer is not None:
            return Markup(answer_fragment(first, 0, image, self.beside.sound))
        clickable = starts(first.method) and within(first.flow)
        report = explanation_fragment(first, 0, image, clickable=clickable, folded=True, beside=self.beside)
        hint = macro("web.click", _clicked(first)) if clickable else Markup()
        return head + relevant_boxes(self.picture, first, clickable=clickable) + Markup(report) + hint

    def file(self, ending: str) -> bytes:
        """The file to be downloaded; FileFormatError where ``ending`` is none of :data:`TYPES`."""
        if len(self.explanations) != 1:
            return self._columns.file(ending)
        _check(ending)
        with DRAWING:
            return to_bytes(ending, self.explanations[0], self.picture, self.beside.sound)

    @property
    def _columns(self) -> Columns:
        """Two explanations beside each other."""
        first, second = self.explanations
        again = f"{second.method} (again)" if second.method == first.method else second.method
        named, same = {first.method: first, again: second}, one_unit(self.explanations)
        note = " ".join([SAME_UNIT if same else OWN_SCALES, *minded(named)])
        columns = tuple(Column(name, e, self.picture, alone=not same) for name, e in named.items())
        return Columns(columns, note, beside=self.beside)


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

    def element(self, body: Markup) -> Markup:
        """``body`` with what lies under whole maps, where there are some."""
        return fragment(body, seen(self.picture) if self.explanation.maps else None)


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
        parts = []
        for column, scales, body in self._drawn(self.beside):
            boxes = relevant_boxes(column.picture, column.explanation, scales)
            parts.append(macro("web.column", column.name, boxes, column.element(body)))
        table = self._table()
        return (fragment(table) if table else table) + macro("web.columns", self.note, parts)

    def file(self, ending: str) -> bytes:
        """The file to be downloaded; FileFormatError where ``ending`` is none of :data:`TYPES`."""
        _check(ending)
        maps = {column.name: column.explanation for column in self.columns}
        if ending == ".json":
            return comparison_json(*maps.values()).encode()
        if ending == ".html":
            named = Markup("<h2>{}</h2>{}")
            bodies = [named.format(column.name, body) for column, _, body in self._drawn(ALONE)]
            body = self._table() + render("comparison.html", note=self.note, bodies=bodies)
            return document(self.columns[0].element(body), "heedmap: comparison").encode()
        from heedmap.render.figure import side_by_side

        pictures = {column.name: column.picture for column in self.columns if column.picture is not None}
        own = [column.name for column in self.columns if column.alone]
        shared = len(own) < len(maps)
        with DRAWING:
            figure = side_by_side(maps, image=pictures, shared=shared, own=own if shared else ())
            return figure_bytes(figure, ".png")

    def _drawn(self, beside: Beside) -> list[tuple[Column, Mapping[str, Scale], Markup]]:
        """Each column, the scales that it shares, and its report without the style."""
        together = common_scales([column.explanation for column in self.columns if not column.alone])
        scaled = [(column, {} if column.alone else together) for column in self.columns]
        return [(c, scales, column_body(c.explanation, seen(c.picture), scales, beside)) for c, scales in scaled]

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


class Shown(Protocol):
    """What the page shows, and can be downloaded."""

    def html(self) -> str:
        """What the page shows."""

    def file(self, ending: str) -> bytes:
        """The file of this ending."""


class Results:
    """The latest results, each under a name that cannot be guessed.

    Args:
        kept: how many are kept; older ones are forgotten.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._results: OrderedDict[str, Shown] = OrderedDict()

    def keep(self, result: Shown) -> str:
        """The name under which ``result`` is kept."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._results[name] = result
            while len(self._results) > self._kept:
                self._results.popitem(last=False)
        return name

    def get(self, name: str) -> Shown | None:
        """What was kept under ``name``; None: nothing, or it is forgotten."""
        with self._lock:
            return self._results.get(name)


def _check(ending: str) -> None:
    if ending not in TYPES:
        raise FileFormatError(f"there is no file with the ending {ending!r}; there are {', '.join(TYPES)}")


def _clicked(explanation: Explanation) -> str:
    """``a word or a patch``."""
    kinds = dict.fromkeys("image" if s.grid is not None else s.kind for s in explanation.segments.values())
    *others, last = [CLICKED[kind] for kind in kinds if kind in CLICKED] or ["a token"]
    return f"{', '.join(others)} or {last}" if others else last


def links(name: str) -> str:
    """Links to the files of a result."""
    return macro("web.links", name, list(TYPES)).strip()
