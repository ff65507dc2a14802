"""The result of an explanation: its data, which shows itself in pictures, pages and notebooks."""

from __future__ import annotations

from typing import Any

from heedmap.explanation_data import ExplanationData


class Explanation(ExplanationData):
    """Which parts of the input one prediction per sample rests on.

    ``explanation["text"]`` is the relevance of a segment, (batch, tokens), float32. What it holds is told at
    :class:`~heedmap.explanation_data.ExplanationData`; a notebook shows it by itself.
    """

    def to_html(self, index: int = 0, image: Any = None) -> str:
        """Sample ``index`` as one self-contained HTML page; every piece of user text is escaped.

        Args:
            index: the sample.
            image: PIL, as the model saw it (``Subject.shown_image``), to lay the map of its patches on.
        """
        from heedmap.render.page import explanation_page

        return explanation_page(self, index, image)

    def overlay(self, image: Any, index: int = 0, segment: str = "image", **options: Any) -> Any:
        """A PIL image: ``image`` with the relevance of ``segment`` laid over it.

        Args:
            image: PIL, as the model saw it (``Subject.shown_image``); or ``Subject.picture``'s, of the original.
            index: the sample.
            segment: one of patches.
            options: ``alpha``, ``cmap``, ``opacity``, ``contour``, ``patches``, ``mute``, and ``scale``, one that several maps
                share: see :mod:`heedmap.render.overlay`.
        """
        from heedmap.render.overlay import overlay

        return overlay(image, self.segment(segment), index, **options)

    def plot(self, index: int = 0, image: Any = None, **options: Any) -> Any:
        """A matplotlib figure of all segments of sample ``index``.

        Args:
            index: the sample.
            image: see :meth:`overlay`; None: patches are drawn as a grid.
            options: ``theme`` and those of :meth:`overlay`.
        """
        from heedmap.render.figure import plot

        return plot(self, index, image, **options)

    def _repr_html_(self) -> str:
        from heedmap.render.page import explanation_fragment

        return explanation_fragment(self, 0)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """What a notebook shows: HTML, where it cannot show that a picture, and text; all of sample 0."""
        from heedmap.render.files import bundle

        return bundle(self, include, exclude)
