"""What a notebook shows of an Explanation: HTML, and for where that cannot be shown a picture and text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData


def bundle(
    explanation: ExplanationData, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """MIME type → sample 0 in that form; a picture is in base64.

    Args:
        explanation: what to show.
        include: the types that are wanted; None: all.
        exclude: those that are not.
    """
    wanted = [kind for kind in FORMS if (include is None or kind in include) and kind not in (exclude or ())]
    return {kind: FORMS[kind](explanation) for kind in wanted}


def _html(explanation: ExplanationData) -> str:
    from heedmap.render.page import explanation_fragment

    return explanation_fragment(explanation)


def _png(explanation: ExplanationData) -> str:
    from heedmap.render.plot import plot

    buffer = BytesIO()
    plot(explanation).savefig(buffer, format="png", dpi=80)
    return b64encode(buffer.getvalue()).decode()


FORMS: dict[str, Callable[[ExplanationData], str]] = {"text/html": _html, "image/png": _png, "text/plain": repr}
