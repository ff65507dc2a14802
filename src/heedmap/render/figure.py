"""A segment as an HTML figure: text, picture, bars or curve, with its scale written under it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from heedmap.render.choose import bars, most_relevant
from heedmap.render.colours import colour
from heedmap.render.overlay import as_picture, heat_grid, overlay
from heedmap.render.sample import Sample, sample
from heedmap.render.scale import Scale, joined, token_scale
from heedmap.render.starts import patch_buttons
from heedmap.render.text import html_text
from heedmap.render.wordmap import legend, word_map
from heedmap.render.words import words, words_scale

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.explanation_data import ExplanationData, Segment

MOST_BARS = 50


def figure(
    segment: Segment,
    index: int = 0,
    image: Image.Image | None = None,
    given: Scale | None = None,
    *,
    clickable: bool = False,
) -> str:
    """The map of a segment.

    Args:
        segment: what to draw.
        index: the sample.
        image: as the model saw it, to lay patches on.
        given: a scale that several maps share; None: the map's own.
        clickable: whether its tokens are buttons, see :mod:`heedmap.render.starts`; those of sound are none.

    Raises:
        InputError: no such sample, or ``image`` is no PIL image.
    """
    drawn = sample(segment, index)
    caption = html_text(segment.name)
    own = segment_scale(segment, index)
    used = given or own
    if segment.grid is None and segment.kind == "text":
        return _figure(caption, word_map(segment, index, given, clickable=clickable))
    if segment.grid is not None:
        body = f"{_patches(segment, index, image, used, clickable)}\n{legend(used, '', patches=True)}"
    elif segment.kind == "audio":
        body = _curve(drawn, used)
    else:
        body = bars(drawn, used, MOST_BARS, segment.name if clickable else "")
    return _figure(f"{caption} · {html_text(used.about(own))}", body)


def _figure(caption: str, body: str) -> str:
    return f"<figure>\n<figcaption>{caption}</figcaption>\n{body}\n</figure>"


def segment_scale(segment: Segment, index: int = 0) -> Scale:
    """The segment's own scale: of its words, where it is text, else of its tokens."""
    if segment.kind == "text" and segment.grid is None:
        return words_scale(words(segment, index))
    return token_scale(segment, sample(segment, index))


def common_scales(explanations: Iterable[ExplanationData]) -> dict[str, Scale]:
    """By the segment's name, one scale for all explanations (sample 0)."""
    found: dict[str, list[Scale]] = {}
    for explanation in explanations:
        for name, segment in explanation.segments.items():
            found.setdefault(name, []).append(segment_scale(segment))
    return {name: joined(scales) for name, scales in found.items()}


def image_html(picture: Image.Image, words_instead: str) -> str:
    """``picture`` inside the page, with words for those who cannot see it."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    data = b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html_text(words_instead)}" src="data:image/png;base64,{data}">'


def _patches(segment: Segment, index: int, image: Image.Image | None, used: Scale, clickable: bool) -> str:
    picture = heat_grid(segment, index, scale=used) if image is None else overlay(image, segment, index, scale=used)
    drawn = image_html(picture, f"relevance of {segment.name}; most relevant: {most_relevant(segment, index)}")
    if not clickable:
        return drawn
    buttons = patch_buttons(segment, index, as_picture(picture if image is None else image).geometry)
    return f'<div class="stack" style="aspect-ratio:{picture.width}/{picture.height}">{drawn}{buttons}</div>'


def _curve(drawn: Sample, used: Scale) -> str:
    """Each frame's value as a filled curve, from 0."""
    level = np.array([used.share(value) for value in drawn.values])[drawn.taken]
    zero = 50 if used.signed else 100
    steps = " ".join(f"{x},{zero - zero * y:.1f} {x + 1},{zero - zero * y:.1f}" for x, y in enumerate(level))
    width = max(1, len(level))
    shape = f'<polygon points="0,{zero} {steps} {width},{zero}" fill="{colour(0.7)}"/>'
    name = "relevance over time; most relevant: " + ", ".join(drawn.labels[i] for i in drawn.top(3))
    return f'<svg viewBox="0 0 {width} 100" preserveAspectRatio="none" role="img" aria-label="{html_text(name)}">{shape}</svg>'
