"""An explanation in other forms: which file ending is written how, atomically; as JSON; what a notebook shows of it."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Collection
from inspect import Parameter, signature
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypedDict, Unpack

from heedmap.common.files import write_atomically
from heedmap.common.printable import closest
from heedmap.errors import InputError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from heedmap.data.explanation import ExplanationData
    from heedmap.data.segments import Answer, Segment, Top
    from heedmap.render.overlay import Shown
    from heedmap.render.sound import Sound

    Numbers: TypeAlias = list[float | None] | list["Numbers"]

PICTURES = (".png", ".svg", ".pdf")
"""Endings of figures."""
ENDINGS = (*PICTURES, ".html", ".json", ".safetensors")
COMPARISON_ENDINGS = (*PICTURES, ".html", ".json")
"""Of files of an explanation, and of two that are compared."""
DOTS = 150
"""Of a .png, an inch."""


class FigureLook(TypedDict, total=False):
    """Options that most figures have; :func:`check_options` sees whether one has them."""

    theme: str
    alpha: float
    cmap: str
    width: float
    dpi: float
    title: bool
    bars: bool
    contour: bool


class MapFigureLook(FigureLook, total=False):
    """Those of :func:`heedmap.render.figure.plot`."""

    opacity: str
    patches: bool
    mute: float


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


def write(
    path: Path,
    explanation: ExplanationData,
    image: Shown = None,
    sound: Sound | None = None,
    **options: Unpack[MapFigureLook],
) -> None:
    """Write sample 0 (``.safetensors`` and ``.json``: the whole batch) to ``path`` as its ending says, atomically.

    Args:
        path: ends in one of :data:`ENDINGS`.
        explanation: what to write.
        image: as the model saw it, or a Picture, to lay the map on.
        sound: what the model heard, (samples,), and samples a second, whose wave lies behind the curve of its frames.
        options: of a figure, see :func:`figure`.

    Raises:
        UnknownNameError: another ending.
        InputError: the file cannot be written.
        OptionError: as of :func:`figure`; or the file is no figure.
    """
    ending = _ending(path, ENDINGS, options)
    if ending == ".safetensors":
        save(path, lambda: explanation.save(path))
    else:
        save(path, lambda: write_atomically(path, to_bytes(ending, explanation, image, sound, **options)))


def write_comparison(
    path: Path, first: ExplanationData, second: ExplanationData, **options: Unpack[FigureLook]
) -> None:
    """Write two explanations, of two inputs, to one file, atomically; options and errors as in :func:`write`."""
    ending = _ending(path, COMPARISON_ENDINGS, options)
    save(path, lambda: write_atomically(path, _comparison(ending, first, second, **options)))


def _ending(path: Path, known: Collection[str], options: Collection[str]) -> str:
    ending = check_path(path, known)
    if options and ending not in PICTURES:
        raise OptionError(f"{', '.join(options)}: options of figures ({', '.join(PICTURES)}), and {path} is none")
    return ending


def save(path: Path, action: Callable[[], None]) -> None:
    """Call ``action``, which writes ``path``; InputError says why it cannot."""
    try:
        action()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def comparison_json(*explanations: ExplanationData) -> str:
    """Several explanations as a JSON list."""
    return "[{}]".format(",\n".join(map(to_json, explanations)))


def figure_bytes(figure: Figure, ending: str, dots: float = DOTS) -> bytes:
    """A figure as ``.png`` (``dots`` an inch), ``.svg`` or ``.pdf``, without the date, so that it is always the same."""
    buffer = BytesIO()
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending)
    figure.savefig(buffer, format=ending[1:], dpi=dots, metadata=undated)
    return buffer.getvalue()


def to_json(explanation: ExplanationData) -> str:
    """The explanation as strict JSON text; see :func:`to_data`."""
    return json.dumps(to_data(explanation), allow_nan=False, indent=1)


def to_data(explanation: ExplanationData) -> dict[str, object]:
    """The explanation as plain JSON data, of the same shape as the object: lists run over the batch.

    A value that is not finite becomes None; whole maps (``full=True``) are left out.
    """
    prediction = explanation.prediction
    return {
        "target": _plain(explanation.target),
        "score": _numbers(explanation.scores),
        "prediction": None if prediction is None else prediction.tolist(),
        "prediction_label": _plain(explanation.prediction_labels),
        "method": explanation.method,
        "options": _plain(dict(explanation.options)),
        "segments": {name: _segment(segment) for name, segment in explanation.segments.items()},
        "flow": explanation.flow.to_dict(),
        "top": None if explanation.top is None else _top(explanation.top),
        "origin": dict(explanation.origin),
        **({} if explanation.box is None else {"box": _numbers(explanation.box)}),
        **({} if explanation.answer is None else {"answer": _answer(explanation.answer)}),
    }


def bundle(
    explanation: ExplanationData, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> dict[str, str]:
    """MIME type → sample 0 in that form, a picture in base64: the types of ``include`` (None: all) but ``exclude``."""
    wanted = [kind for kind in FORMS if (include is None or kind in include) and kind not in (exclude or ())]
    return {kind: FORMS[kind](explanation) for kind in wanted}


def page(explanation: ExplanationData, index: int = 0, image: Shown = None, sound: Sound | None = None) -> str:
    """Sample ``index`` as a page that stands alone; of an answer one with a script, see :mod:`heedmap.render.answer_page`."""
    from heedmap.render.answer_page import answer_page
    from heedmap.render.page import explanation_page

    if explanation.answer is not None:
        return answer_page(explanation, index, image, sound)
    return explanation_page(explanation, index, image, sound)


def page_fragment(explanation: ExplanationData) -> str:
    """What :func:`page` shows of sample 0, as a part of a page, for notebooks."""
    from heedmap.render.answer_page import answer_fragment
    from heedmap.render.page import explanation_fragment

    return (explanation_fragment if explanation.answer is None else answer_fragment)(explanation)


def figure(
    explanation: ExplanationData, index: int = 0, image: Shown = None, sound: Sound | None = None, **options: object
) -> Figure:
    """Sample ``index`` as a matplotlib figure.

    Args:
        explanation, index, image: what to draw.
        sound: as for :func:`write`; the figure of an answer has its wave below the rows of its words.
        options: of :func:`heedmap.render.figure.plot`, or of an answer :func:`heedmap.render.matrices.plot_rows`.

    Raises:
        OptionError: an unknown option, or one with a value that it cannot have.
        UnknownNameError: no such theme.
    """
    from heedmap.render.figure import plot
    from heedmap.render.matrices import answer_rows, plot_rows

    draw: Callable[..., Figure] = plot if explanation.answer is None else plot_rows
    check_options(draw, options, "a figure")
    shown = (explanation, index) if explanation.answer is None else (answer_rows(explanation, index),)
    return draw(*shown, image, sound, **options)


def check_options(draw: Callable[..., object], options: Collection[str], what: str) -> None:
    """See that ``draw`` has these options.

    Raises:
        OptionError: it has not; the message lists those that it has.
    """
    known = [name for name, p in signature(draw).parameters.items() if p.kind is Parameter.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise OptionError(f"{what} has no option {name!r}{closest(name, known)}; it has {', '.join(known)}")


def to_bytes(
    ending: str, explanation: ExplanationData, image: Shown, sound: Sound | None, **options: Unpack[MapFigureLook]
) -> bytes:
    """Sample 0 (``.json``: the whole batch) as a file of one of :data:`ENDINGS` but the last; see :func:`write`."""
    if ending == ".json":
        return to_json(explanation).encode()
    if ending != ".html":
        return figure_bytes(figure(explanation, 0, image, sound, **options), ending, options.get("dpi", DOTS))
    from heedmap.data.picture import Picture
    from heedmap.render.overlay import MOST_SIDE

    if isinstance(image, Picture):  # whole maps have places for what the model saw alone
        image = image.as_seen() if explanation.maps else image.fitted(1, MOST_SIDE)
    return page(explanation, 0, image, sound).encode()


def _comparison(ending: str, first: ExplanationData, second: ExplanationData, **options: Unpack[FigureLook]) -> bytes:
    if ending == ".json":
        return comparison_json(first, second).encode()
    if ending == ".html":
        from heedmap.render.page import comparison_page

        return comparison_page(first, second).encode()
    from heedmap.render.figure import side_by_side

    pair = {"first text": first, "second text": second}
    return figure_bytes(side_by_side(pair, **options), ending, options.get("dpi", DOTS))


def _picture(explanation: ExplanationData) -> str:
    return b64encode(figure_bytes(figure(explanation), ".png", 80)).decode()


def _top(top: Top) -> dict[str, object]:
    return {
        "function": top.function,
        "labels": _plain(top.labels),
        "probabilities": _numbers(top.probabilities),
        "target": _numbers(top.target),
    }


def _answer(answer: Answer) -> dict[str, object]:
    return {
        "text": _plain(answer.text),
        "tokens": answer.tokens.tolist(),
        "targets": _plain(answer.targets),
        "probabilities": _numbers(answer.probabilities),
        "top_labels": _plain(answer.top_labels),
        "top_probabilities": _numbers(answer.top_probabilities),
        "contrast": None if answer.others is None else answer.others.tolist(),
        "source": answer.source,
    }


def _segment(segment: Segment) -> dict[str, object]:
    return {
        "kind": segment.kind,
        "stream": segment.stream,
        "grid": _plain(segment.grid),
        "labels": _plain(segment.labels),
        "boundaries": _plain(segment.boundaries),
        **({} if segment.roles is None else {"roles": _plain(segment.roles)}),
        "positions": segment.positions.tolist(),
        "relevance": _numbers(segment.relevance),
    }


def _numbers(tensor: Tensor) -> Numbers:
    """Nested lists of the fewest digits that give the same float32 again."""
    if tensor.dim() > 1:
        return [_numbers(row) for row in tensor]
    return [float(str(x)) if math.isfinite(x) else None for x in tensor.detach().cpu().float().numpy()]


def _plain(value: object) -> object:
    """As JSON has it: lists, and as words what has no place there."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


FORMS: dict[str, Callable[[ExplanationData], str]] = {
    "text/html": page_fragment,
    "image/png": _picture,
    "text/plain": repr,
}
"""By MIME type, for notebooks; where HTML cannot be shown there is a picture, and text."""
