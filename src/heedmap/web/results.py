"""Explanations as the page shows them, and their files: kept in memory for a while, never on a disk."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from markupsafe import Markup

from heedmap.errors import FileFormatError
from heedmap.render.answer_page import answer_fragment
from heedmap.render.cautions import minded
from heedmap.render.files import WRITERS, comparison_json, figure_bytes
from heedmap.render.html import document, fragment, macro, render
from heedmap.render.outlines import LEAST, MOST
from heedmap.render.page import SAME_UNIT, column_bodies, explanation_fragment
from heedmap.render.scale import one_unit
from heedmap.render.views import ALONE, Beside, common_scales
from heedmap.web.method_options import starts, within
from heedmap.web.parts import relevant_boxes

if TYPE_CHECKING:
    from PIL.Image import Image

    from heedmap.data.explanation import ExplanationData
    from heedmap.data.picture import Picture
    from heedmap.explanation import Explanation
    from heedmap.render.scale import Scale
    from heedmap.render.sound import Sound

KEPT = 64
OWN_SCALES = "Numbers of two methods are not of one kind, so each map has a scale of its own."
CLICKED = {"text": "a word", "image": "a patch", "boxes": "a box"}
TYPES = {".png": "image/png", ".html": "text/html; charset=utf-8", ".json": "application/json"}
"""Ending of a file that can be downloaded → its MIME type."""

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
        if len(self.explanations) == 1:
            first = self.explanations[0]
            if first.answer is not None:
                return Markup(answer_fragment(first, 0, self._seen, self.beside.sound))
            report = explanation_fragment(
                first, 0, self._seen, clickable=self._clickable, folded=True, beside=self.beside
            )
            return (
                head
                + self._boxes(first)
                + Markup(report)
                + (macro("web.click", _clicked(first)) if self._clickable else Markup())
            )
        scales = common_scales(self.explanations) if one_unit(self.explanations) else {}
        bodies = column_bodies([(e, self._seen, scales) for e in self.explanations], beside=self.beside)
        columns = [
            macro("web.column", name, self._boxes(e, scales), fragment(body, self._seen if e.maps else None))
            for (name, e), body in zip(_named(*self.explanations).items(), bodies, strict=True)
        ]
        return head + macro("web.columns", _note(*self.explanations), columns)

    def file(self, ending: str) -> bytes:
        """The file to be downloaded; FileFormatError where ``ending`` is none of :data:`TYPES`."""
        if ending not in TYPES:
            raise FileFormatError(f"there is no file with the ending {ending!r}; there are {', '.join(TYPES)}")
        with DRAWING:
            if len(self.explanations) == 1:
                return ONE[ending](self.explanations[0], self.picture, self.beside.sound)
            first, second = self.explanations
            return PAIR[ending](first, second, self.picture)

    @property
    def _clickable(self) -> bool:
        """Whether tokens of the map can be explained from: of one explanation, by a method that can do it."""
        first = self.explanations[0]
        return len(self.explanations) == 1 and starts(first.method) and within(first.flow)

    @property
    def _seen(self) -> Image | None:
        """To lay maps on, with no object drawn: they lie on it."""
        if self.picture is None:
            return None
        return cast("Image", replace(self.picture.fitted(LEAST, MOST), frames={}))  # overlay takes Pictures too

    def _boxes(self, explanation: ExplanationData, scales: Mapping[str, Scale] | None = None) -> Markup:
        """The picture with the places of boxes, where there is one that has them."""
        boxes = [segment for segment in explanation.segments.values() if segment.kind == "boxes"]
        if self.picture is None or self.picture.boxes is None or not boxes:
            return Markup()
        scale = (scales or {}).get(boxes[0].name)
        return fragment(relevant_boxes(self.picture, boxes[0], self._clickable, scale))


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


def _pair_png(first: Explanation, second: Explanation, picture: Picture | None) -> bytes:
    from heedmap.render.figure import side_by_side

    shared = one_unit((first, second))
    return figure_bytes(side_by_side(_named(first, second), image=picture, shared=shared), ".png")


def _named(first: Explanation, second: Explanation) -> Mapping[str, Explanation]:
    again = f"{second.method} (again)" if second.method == first.method else second.method
    return {first.method: first, again: second}


def _note(first: Explanation, second: Explanation) -> str:
    """About the scales, and whether the methods agree."""
    together = _named(first, second)
    return " ".join([SAME_UNIT if one_unit(together.values()) else OWN_SCALES, *minded(together)])


def _pair_html(first: Explanation, second: Explanation, picture: Picture | None) -> bytes:
    seen = None if picture is None else replace(picture.fitted(LEAST, MOST), frames={})
    scales = common_scales((first, second)) if one_unit((first, second)) else {}
    bodies = column_bodies([(e, cast("Image", seen), scales) for e in (first, second)])
    named = [
        Markup("<h2>{}</h2>{}").format(name, body) for name, body in zip(_named(first, second), bodies, strict=True)
    ]
    body = render("comparison.html", note=_note(first, second), bodies=named)
    return document(fragment(body, cast("Image", seen) if first.maps else None), "heedmap: comparison").encode()


ONE: Mapping[str, Callable[[Explanation, Picture | None, Sound | None], bytes]] = {
    ending: writer for ending, writer in WRITERS.items() if ending in TYPES and writer is not None
}
"""By ending: a file of one explanation."""

PAIR: Mapping[str, Callable[[Explanation, Explanation, Picture | None], bytes]] = {
    ".png": _pair_png,
    ".html": _pair_html,
    ".json": lambda first, second, _picture: comparison_json(first, second).encode(),
}
"""By ending: a file of two explanations."""


def links(name: str) -> str:
    """Links to the files of a result."""
    return macro("web.links", name, list(TYPES)).strip()
