"""Which file ending is written how; writing is atomic."""

from __future__ import annotations

from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast

from heedmap.atomic import write_atomically
from heedmap.errors import InputError, UnknownNameError
from heedmap.explanation_data import ExplanationData

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from heedmap.picture import Picture

    Shown = Image.Image | Picture | None

LONGEST_SIDE = 1200
"""Of a picture in a page, in pixels."""


def check_path(path: Path, known: Collection[str]) -> str:
    """The ending of ``path``, in lower case, before anything is computed.

    Raises:
        UnknownNameError: the ending is none of ``known``, which the message lists.
        InputError: ``path`` is a folder.
    """
    ending = path.suffix.lower()
    if ending not in known:
        what = f"the ending {ending!r}" if ending else "no ending"
        raise UnknownNameError(f"{path} has {what}; known endings: {', '.join(known)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of a file")
    return ending


def write(path: Path, explanation: ExplanationData, image: Shown = None) -> None:
    """Write sample 0 (``.safetensors`` and ``.json``: the whole batch) to ``path`` as its ending says, atomically.

    Args:
        path: ends in one of :data:`WRITERS`.
        explanation: what to write.
        image: as the model saw it, or a Picture, to lay the map on.

    Raises:
        UnknownNameError: another ending.
        InputError: the file cannot be written.
    """
    writer = WRITERS[check_path(path, WRITERS)]
    save(path, lambda: write_atomically(path, writer(explanation, image)) if writer else explanation.save(path))


def write_comparison(path: Path, first: ExplanationData, second: ExplanationData) -> None:
    """Write two explanations to one file, atomically; errors as in :func:`write`."""
    writer = COMPARISON_WRITERS[check_path(path, COMPARISON_WRITERS)]
    save(path, lambda: write_atomically(path, writer(first, second)))


def save(path: Path, action: Callable[[], None]) -> None:
    """Call ``action``, which writes ``path``; InputError says why it cannot."""
    try:
        action()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def comparison_json(first: ExplanationData, second: ExplanationData) -> str:
    """Two explanations as a JSON list."""
    from heedmap.render.data import to_json

    return f"[{to_json(first)},\n{to_json(second)}]"


def _figure(ending: str) -> Callable[[ExplanationData, Shown], bytes]:
    def drawn(explanation: ExplanationData, image: Shown) -> bytes:
        from heedmap.render.plot import plot

        return figure_bytes(plot(explanation, 0, image), ending)

    return drawn


def figure_bytes(figure: Figure, ending: str) -> bytes:
    """A figure as ``.png`` (150 dots an inch), ``.svg`` or ``.pdf``, without the date, so that it is always the same."""
    buffer = BytesIO()
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending)
    figure.savefig(buffer, format=ending[1:], dpi=150, metadata=undated)
    return buffer.getvalue()


def _html(explanation: ExplanationData, image: Shown) -> bytes:
    from heedmap.picture import Picture
    from heedmap.render.page import explanation_page

    shown: Image.Image | Picture | None = image
    if isinstance(image, Picture):  # whole maps have places for what the model saw alone
        shown = image.as_seen() if explanation.maps else image.fitted(1, LONGEST_SIDE)
    return explanation_page(explanation, 0, cast("Image.Image | None", shown)).encode()  # handed on to overlay


def _json(explanation: ExplanationData, _image: Shown) -> bytes:
    from heedmap.render.data import to_json

    return to_json(explanation).encode()


def _comparison_html(first: ExplanationData, second: ExplanationData) -> bytes:
    from heedmap.render.page import comparison_page

    return comparison_page(first, second).encode()


WRITERS: dict[str, Callable[[ExplanationData, Shown], bytes] | None] = {
    ".png": _figure(".png"),
    ".svg": _figure(".svg"),
    ".pdf": _figure(".pdf"),
    ".html": _html,
    ".json": _json,
    ".safetensors": None,
}
"""By ending; None: the explanation saves itself."""

COMPARISON_WRITERS: dict[str, Callable[[ExplanationData, ExplanationData], bytes]] = {
    ".html": _comparison_html,
    ".json": lambda first, second: comparison_json(first, second).encode(),
}
"""By ending, for the two explanations of a comparison."""
