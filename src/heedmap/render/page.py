"""HTML: a report that stands alone (no script, nothing loaded from elsewhere), and a fragment for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heedmap.printable import percent
from heedmap.render.choose import background
from heedmap.render.draws import draws
from heedmap.render.figure import common_scales, figure, image_html, segment_scale
from heedmap.render.made import made, option_words
from heedmap.render.sample import batch_size, checked_index
from heedmap.render.scale import one_unit, shares
from heedmap.render.style import style
from heedmap.render.text import html_text

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.explanation_data import ExplanationData
    from heedmap.render.scale import Scale

__all__ = [
    "comparison_page",
    "document",
    "explanation_fragment",
    "explanation_page",
    "image_html",
    "option_words",
    "prediction_words",
]

SAME_UNIT = "All maps of one part of the input share one scale."
OTHER_UNITS = (
    "Numbers of two methods are not of one kind, so each map is divided by the sum of its absolute values: its numbers are "
    "shares. Then all maps of one part of the input share one scale."
)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def explanation_page(explanation: ExplanationData, index: int = 0, image: Image.Image | None = None) -> str:
    """Sample ``index`` as a self-contained HTML report.

    Args:
        explanation: what to show.
        index: the sample.
        image: as the model saw it, to lay the map of the patches on; without it they are drawn as a grid.

    Raises:
        InputError: no such sample, or ``image`` is no PIL image.
    """
    body = explanation_fragment(explanation, index, image, level=1)
    return document(f"<main>\n{body}</main>\n", f"heedmap: {explanation.target[index]}")


def comparison_page(*explanations: ExplanationData, image: Image.Image | None = None) -> str:
    """Several explanations one below the other, such as the words that make two sentences alike.

    The maps of one part of the input share one scale. Numbers of two methods, or of one method with other options, are not
    of one kind: there each map is divided by the sum of its absolute values first, and what is shown are shares of it.

    Args:
        explanations: sample 0 of each is shown.
        image: as the model saw it, to lay maps of patches on.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> red, blue = subject.explain(text="dog red ; cat blue ? cat", target=["red", "blue"])
        >>> page = heedmap.comparison_page(red, blue)
        >>> page.splitlines()[0]
        '<!DOCTYPE html>'
    """
    note, bodies = comparison_bodies(*explanations, image=image)
    parts = "\n".join(f"<section>\n{body}</section>" for body in bodies)
    head = f"<h1>{len(explanations)} explanations</h1>\n<p>{note}</p>\n"
    return document(f"<main>\n{wrapped(head + parts, image)}</main>\n", "heedmap: comparison")


def comparison_bodies(
    *explanations: ExplanationData, image: Image.Image | None = None, level: int = 2
) -> tuple[str, list[str]]:
    """What :func:`comparison_page` shows: the words about the scale, and the HTML of each explanation, to be ``wrapped``."""
    same = one_unit(explanations)
    shown, scales = compared(explanations)
    given = [{} if same else _ranges(one) for one in explanations]
    bodies = [_body(e, 0, image, level, scales, facts) for e, facts in zip(shown, given, strict=True)]
    return SAME_UNIT if same else OTHER_UNITS, bodies


def compared(explanations: Sequence[ExplanationData]) -> tuple[Sequence[ExplanationData], Mapping[str, Scale]]:
    """The explanations, as shares where their numbers are not of one kind, and a scale for each part of the input."""
    shown = explanations if one_unit(explanations) else [shares(one) for one in explanations]
    return shown, common_scales(shown)


def explanation_fragment(
    explanation: ExplanationData,
    index: int = 0,
    image: Image.Image | None = None,
    *,
    level: int = 2,
    clickable: bool = False,
) -> str:
    """What :func:`explanation_page` shows, as one ``<div>`` with its own style, for notebooks.

    Args:
        explanation: what to show.
        index: the sample.
        image: as the model saw it, to lay the map of the patches on.
        level: of its heading.
        clickable: whether tokens are buttons, see :mod:`heedmap.render.starts`.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> html = heedmap.explanation_fragment(subject.explain(text="dog red ? dog"))
        >>> html[:21]  # IPython.display.HTML(html) shows it
        '<div class="heedmap">'
    """
    index = checked_index(index, batch_size(explanation))
    body = _body(explanation, index, image, level, None, clickable=clickable)
    return wrapped(body, image if explanation.maps else None)


def wrapped(body: str, image: Image.Image | None) -> str:
    """``body``, which is HTML, with the style and, where there is one, the picture that lies under its maps."""
    seen = "" if image is None else f' style="{background(image)};--shape:{image.width}/{image.height}"'
    return f'<div class="heedmap"{seen}>\n<style>{style()}</style>\n{body}\n</div>\n'


def document(body: str, title: str = "heedmap") -> str:
    """A page that loads nothing, with ``body``, which is HTML, and ``title``, which is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html_text(title)}</title>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def prediction_words(explanation: ExplanationData, index: int) -> str:
    """``cat (class 3)``, ``class 3`` where it has no name of its own, or that there are no classes."""
    if explanation.prediction is None:
        return "this output has no classes"
    top = int(explanation.prediction[index])
    label = None if explanation.prediction_labels is None else explanation.prediction_labels[index]
    return f"class {top}" if label in (None, "", f"LABEL_{top}") else f"{label} (class {top})"


def facts(entries: Mapping[str, Any]) -> str:
    """Names and what they are, as a description list."""
    rows = "\n".join(f'<dt>{html_text(k)}</dt><dd dir="auto">{html_text(str(v))}</dd>' for k, v in entries.items())
    return f"<dl>\n{rows}\n</dl>"


def _body(
    explanation: ExplanationData,
    index: int,
    image: Image.Image | None,
    level: int,
    scales: Mapping[str, Scale] | None,
    more: Mapping[str, str] | None = None,
    clickable: bool = False,
) -> str:
    title = f"What “{explanation.target[index]}” rests on"
    parts = [
        f'<h{level} dir="auto">{html_text(title)}</h{level}>',
        _answer(explanation, index, more or {}),
        _maps(explanation, index, image, scales, clickable),
        draws(explanation, index, level + 1, seen=image is not None),
        made(explanation, level + 1),
    ]
    return "\n".join(filter(None, parts))


def _ranges(explanation: ExplanationData) -> dict[str, str]:
    """Of each segment of sample 0, what its values were before they were divided."""
    return {f"{name} was": segment_scale(segment).range for name, segment in explanation.segments.items()}


def _answer(explanation: ExplanationData, index: int, more: Mapping[str, str]) -> str:
    entries: dict[str, Any] = {
        "prediction": prediction_words(explanation, index),
        "target": explanation.target[index] + _probability(explanation, index),
        "score": f"{float(explanation.scores[index]):.6g}",
        "method": explanation.method,
    }
    if explanation.origin.get("model"):
        entries["model"] = explanation.origin["model"]
    if explanation.flow.notes:
        entries["note"] = "; ".join(explanation.flow.notes)
    if batch_size(explanation) > 1:
        entries["sample"] = f"{index} of a batch of {batch_size(explanation)}"
    return facts({**entries, **more}) + _answers(explanation, index)


def _probability(explanation: ExplanationData, index: int) -> str:
    top = explanation.top
    return "" if top is None else f", probability {percent(float(top.target[index]))}"


def _answers(explanation: ExplanationData, index: int) -> str:
    top = explanation.top
    if top is None:
        return ""
    pairs = zip(top.labels[index], top.probabilities[index].tolist(), strict=True)
    rows = "\n".join(_answer_row(label, p) for label, p in pairs)
    head = f'<tr><th scope="col">answer</th><th scope="col">probability ({html_text(top.function)})</th></tr>'
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _answer_row(label: str, probability: float) -> str:
    return f'<tr><th scope="row" dir="auto">{html_text(label)}</th><td>{percent(probability)}</td></tr>'


def _maps(
    explanation: ExplanationData,
    index: int,
    image: Image.Image | None,
    scales: Mapping[str, Scale] | None,
    clickable: bool,
) -> str:
    segments: Sequence[Any] = list(explanation.segments.values())
    drawn: Iterable[str] = (figure(s, index, image, (scales or {}).get(s.name), clickable=clickable) for s in segments)
    pair = ' class="pair"' if len(segments) > 1 and any(s.grid is not None for s in segments) else ""
    return f"<div{pair}>\n{chr(10).join(drawn)}\n</div>"
