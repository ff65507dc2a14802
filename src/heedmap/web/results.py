"""Explanations as the page shows them, and their files: kept in memory for a while, never on a disk."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from markupsafe import Markup

from heedmap.errors import FileFormatError
from heedmap.render.answer_page import answer_fragment
from heedmap.render.cautions import minded
from heedmap.render.files import WRITERS
from heedmap.render.html import macro
from heedmap.render.page import SAME_UNIT, explanation_fragment
from heedmap.render.scale import one_unit
from heedmap.render.views import ALONE, Beside
from heedmap.web.columns import DRAWING, Column, Columns
from heedmap.web.method_options import starts, within
from heedmap.web.parts import relevant_boxes, seen

if TYPE_CHECKING:
    from heedmap.data.picture import Picture
    from heedmap.explanation import Explanation
    from heedmap.render.sound import Sound

KEPT = 64
OWN_SCALES = "Numbers of two methods are not of one kind, so each map has a scale of its own."
CLICKED = {"text": "a word", "image": "a patch", "boxes": "a box"}
TYPES = {".png": "image/png", ".html": "text/html; charset=utf-8", ".json": "application/json"}
"""Ending of a file that can be downloaded → its MIME type."""


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
        if ending not in TYPES:
            raise FileFormatError(f"there is no file with the ending {ending!r}; there are {', '.join(TYPES)}")
        with DRAWING:
            return ONE[ending](self.explanations[0], self.picture, self.beside.sound)

    @property
    def _columns(self) -> Columns:
        """Two explanations beside each other."""
        first, second = self.explanations
        again = f"{second.method} (again)" if second.method == first.method else second.method
        named, same = {first.method: first, again: second}, one_unit(self.explanations)
        note = " ".join([SAME_UNIT if same else OWN_SCALES, *minded(named)])
        columns = tuple(Column(name, e, self.picture, alone=not same) for name, e in named.items())
        return Columns(columns, note, beside=self.beside)


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


def _clicked(explanation: Explanation) -> str:
    """``a word or a patch``."""
    kinds = dict.fromkeys("image" if s.grid is not None else s.kind for s in explanation.segments.values())
    *others, last = [CLICKED[kind] for kind in kinds if kind in CLICKED] or ["a token"]
    return f"{', '.join(others)} or {last}" if others else last


ONE: Mapping[str, Callable[[Explanation, Picture | None, Sound | None], bytes]] = {
    ending: writer for ending, writer in WRITERS.items() if ending in TYPES and writer is not None
}
"""By ending: a file of one explanation."""


def links(name: str) -> str:
    """Links to the files of a result."""
    return macro("web.links", name, list(TYPES)).strip()
