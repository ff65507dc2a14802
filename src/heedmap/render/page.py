"""HTML: a page that stands alone (no script, nothing loaded from elsewhere), and a fragment for notebooks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from heedmap.render.colours import colour
from heedmap.render.overlay import heat_grid, overlay
from heedmap.render.sample import Sample, batch_size, checked_index, number, sample
from heedmap.render.table import ATTENTION_HEAD, STREAM_HEAD, Line, attention_lines, stream_lines, summary
from heedmap.render.text import html_text, text_html

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.explanation import Explanation, Flow, Segment

MOST_BARS = 50

STYLE = """
.heedmap { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; padding: 1rem; }
.heedmap h1, .heedmap h2 { font-size: 1.15rem; margin: 1.2rem 0 .4rem; }
.heedmap dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
.heedmap dt { color: #666; }
.heedmap dd { margin: 0; overflow-wrap: anywhere; }
.heedmap figure { margin: .8rem 0; }
.heedmap figcaption, .heedmap small { color: #666; font-size: .85rem; }
.heedmap .heat { line-height: 2; margin: .2rem 0; overflow-wrap: anywhere; }
.heedmap .token { padding: .15em .3em; border-radius: .2em; }
.heedmap img { display: block; width: 28rem; max-width: 100%; }
.heedmap svg { display: block; width: 100%; height: 7rem; }
.heedmap table { border-collapse: collapse; font-size: .85rem; color: inherit; }
.heedmap th, .heedmap td { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top; }
.heedmap th { color: #666; font-weight: normal; }
.heedmap .bars td { vertical-align: middle; }
.heedmap .bars td:nth-child(2) { width: 20rem; }
.heedmap .bar { height: .9rem; min-width: 1px; }
""".strip()


def explanation_page(explanation: Explanation, index: int = 0, image: Image.Image | None = None) -> str:
    """Sample ``index`` as a self-contained HTML page.

    Args:
        explanation: what to show.
        index: the sample.
        image: as the model saw it, to lay the map of the patches on; without it they are drawn as a grid.

    Raises:
        InputError: no such sample, or ``image`` is no PIL image.
    """
    return document(explanation_fragment(explanation, index, image))


def comparison_page(first: Explanation, second: Explanation) -> str:
    """Two explanations of one number, one below the other, such as the words that make two sentences similar."""
    return document(explanation_fragment(first) + explanation_fragment(second))


def explanation_fragment(explanation: Explanation, index: int = 0, image: Image.Image | None = None) -> str:
    """What :func:`explanation_page` shows, as one ``<div>`` with its own style, for notebooks."""
    index = checked_index(index, batch_size(explanation))
    figures = "\n".join(_figure(s, index, image) for s in explanation.segments.values())
    parts = [f"<style>{STYLE}</style>", _facts(explanation, index), figures, _flow(explanation.flow)]
    return '<div class="heedmap">\n' + "\n".join(parts) + "\n</div>\n"


def document(body: str, title: str = "heedmap") -> str:
    """A page that loads nothing, with ``body``, which is HTML, and ``title``, which is text."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html_text(title)}</title>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _facts(explanation: Explanation, index: int) -> str:
    facts = {
        "prediction": prediction_words(explanation, index),
        "target": explanation.target[index],
        "score": f"{float(explanation.scores[index]):.6g}",
        "method": explanation.method,
        "options": option_words(explanation.options),
    }
    if batch_size(explanation) > 1:
        facts["sample"] = f"{index} of a batch of {batch_size(explanation)}"
    rows = "\n".join(f'<dt>{k}</dt><dd dir="auto">{html_text(v)}</dd>' for k, v in facts.items())
    return f"<dl>\n{rows}\n</dl>"


def prediction_words(explanation: Explanation, index: int) -> str:
    """``cat (class 3)``, ``class 3`` where it has no name of its own, or that there are no classes."""
    if explanation.prediction is None:
        return "this output has no classes"
    top = int(explanation.prediction[index])
    label = None if explanation.prediction_labels is None else explanation.prediction_labels[index]
    return f"class {top}" if label in (None, "", f"LABEL_{top}") else f"{label} (class {top})"


def option_words(options: Mapping[str, Any]) -> str:
    """``normalize=True, cam='gradient'``."""
    return ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"


def _figure(segment: Segment, index: int, image: Image.Image | None) -> str:
    drawn = sample(segment, index)
    caption = f"{html_text(segment.name)} · {html_text(drawn.caption)}"
    return f"<figure>\n{_picture(segment, drawn, index, image)}\n<figcaption>{caption}</figcaption>\n</figure>"


def _picture(segment: Segment, drawn: Sample, index: int, image: Image.Image | None) -> str:
    if segment.grid is not None:
        picture = heat_grid(segment, index) if image is None else overlay(image, segment, index)
        return image_html(picture, f"relevance of {segment.name}")
    if segment.kind == "text":
        return text_html(segment, index)
    return _curve_html(drawn) if segment.kind == "audio" else _bars_html(drawn)


def image_html(picture: Image.Image, words: str) -> str:
    """``picture`` inside the page, with ``words`` for those who cannot see it."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return f'<img alt="{html_text(words)}" src="data:image/png;base64,{b64encode(buffer.getvalue()).decode()}">'


def _bars_html(drawn: Sample) -> str:
    top = drawn.top(MOST_BARS)
    rows = "\n".join(_bar_html(drawn, i) for i in top)
    rest = f"<small>the top {MOST_BARS} of {len(drawn.shown)}</small>" if len(top) < len(drawn.shown) else ""
    return f'<table class="bars">\n{rows}\n</table>{rest}'


def _bar_html(drawn: Sample, i: int) -> str:
    bar = (
        f'<div class="bar" style="width:{drawn.share[i]:.1%};background:{colour(0.15 + 0.85 * drawn.share[i])}"></div>'
    )
    return f'<tr><td dir="auto">{html_text(drawn.labels[i])}</td><td>{bar}</td><td>{number(drawn.values[i])}</td></tr>'


def _curve_html(drawn: Sample) -> str:
    """The share of each frame as a filled curve, most relevant on top."""
    height = 100 * (1 - np.asarray(drawn.share)[drawn.taken])
    steps = " ".join(f"{x},{y:.1f} {x + 1},{y:.1f}" for x, y in enumerate(height))
    width = max(1, len(height))
    shape = f'<polygon points="0,100 {steps} {width},100" fill="{colour(0.7)}"/>'
    return f'<svg viewBox="0 0 {width} 100" preserveAspectRatio="none" role="img">{shape}</svg>'


def _flow(flow: Flow) -> str:
    tables = _table(ATTENTION_HEAD, attention_lines(flow)) + "\n" + _table(STREAM_HEAD, stream_lines(flow))
    notes = "".join(f"<p>note: {html_text(note)}</p>" for note in flow.notes)
    return f"<details>\n<summary>{html_text(summary(flow))}</summary>\n{tables}\n{notes}</details>"


def _table(head: Line, lines: list[Line]) -> str:
    names = "".join(f"<th>{html_text(name)}</th>" for name in head)
    rows = "\n".join("<tr>" + "".join(f"<td>{html_text(cell)}</td>" for cell in line) + "</tr>" for line in lines)
    return f"<table>\n<tr>{names}</tr>\n{rows}\n</table>"
