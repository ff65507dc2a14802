"""A figure that shows itself in a notebook: pyplot, which notebooks ask for figures, knows nothing of it."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A matplotlib figure; in a notebook it is a picture where it ends a cell, with no ``%matplotlib inline`` before."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
