"""Reports in HTML that stand alone, with no script and nothing loaded from elsewhere, and fragments of them for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from heedmap.common.advice import PAGE, said_for
from heedmap.common.printable import visible
from heedmap.data.flow import ATTENTION_HEAD, STREAM_HEAD, attention_lines, stream_lines, summary
from heedmap.data.picture import Picture
from heedmap.render.cautions import facts, minded
from heedmap.render.html import document, fragment, render
from heedmap.render.naming import headline, is_token, question
from heedmap.render.outlines import outline
from heedmap.render.overlay import as_picture
from heedmap.render.picker import token_to_token
from heedmap.render.sample import batch_size, checked_index
from heedmap.render.scale import one_unit, shares
from heedmap.render.views import ALONE, Beside, common_scales, drawn_segments, figure, view

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.data.explanation import ExplanationData
    from heedmap.render.scale import Scale
    from heedmap.render.sound import Sound

SAME_UNIT = "All maps of one part of the input share one scale."
OTHER_UNITS = (
    "Numbers of two methods are not of one kind, so each map is divided by the sum of its absolute values: its numbers are "
    "shares. Then all maps of one part of the input share one scale."
)


def explanation_page(
    explanation: ExplanationData, index: int = 0, image: Image.Image | Picture | None = None, sound: Sound | None = None
) -> str:
    """Sample ``index`` as a self-contained HTML report.

    Args:
        explanation: what to show.
        index: the sample.
        image: as the model saw it, or a Picture, to lay the map of the patches on; without it they are drawn as a grid.
        sound: what the model heard, (samples,), and samples a second, to be drawn behind the curve of its frames.

    Raises:
        InputError: no such sample, or ``image`` is no PIL image.
    """
    index = checked_index(index, batch_size(explanation))
    body = _fragment(explanation, index, 1, _outlined(explanation, index, Beside(sound=sound, image=image)))
    return document(body, f"heedmap: {headline(explanation, index)}")


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
    same = one_unit(explanations)
    note = " ".join([SAME_UNIT if same else OTHER_UNITS, *minded({e.method: e for e in explanations})])
    shown = explanations if same else [shares(explanation) for explanation in explanations]
    scales = common_scales(shown)
    ranges = [{} if same else _ranges(explanation) for explanation in explanations]
    bodies = [_body(e, 0, 2, Beside(image=image), scales, more) for e, more in zip(shown, ranges, strict=True)]
    body = render("comparison.html", note=note, bodies=bodies)
    return document(fragment(body, image), "heedmap: comparison")


def column_bodies(
    columns: Sequence[tuple[ExplanationData, Image.Image | None, Mapping[str, Scale]]],
    beside: Beside,
) -> list[Markup]:
    """Explanations that have a picture each: with it, and with the scales that they share, by the part's name, or none.

    Each is to be put into a ``fragment``; the maps come first, and all else is folded below them.
    """
    return [
        _body(e, 0, 3, _outlined(e, 0, replace(beside, image=image)), scales, folded=True)
        for e, image, scales in columns
    ]


def _outlined(explanation: ExplanationData, index: int, beside: Beside) -> Beside:
    """With the box of the object that is explained, where nothing lies on the picture yet."""
    if beside.image is None or beside.objects:
        return beside
    return replace(beside, objects=outline(as_picture(beside.image), explanation, index))


def explanation_fragment(
    explanation: ExplanationData,
    index: int = 0,
    image: Image.Image | None = None,
    *,
    level: int = 2,
    clickable: bool = False,
    folded: bool = False,
    beside: Beside = ALONE,
) -> str:
    """What :func:`explanation_page` shows, as one ``<div>`` with its own style, for notebooks.

    Args:
        explanation: what to show.
        index: the sample.
        image: as the model saw it, to lay the map of the patches on.
        level: of its heading.
        clickable: whether tokens are buttons, see :mod:`heedmap.render.clickable`.
        folded: whether the maps come first, and all else is folded below them.
        beside: what else is drawn.

    Examples:
        >>> import heedmap
        >>> subject = heedmap.load("zoo/gpt-lists")
        >>> html = heedmap.explanation_fragment(subject.explain(text="dog red ? dog"))
        >>> html[:21]  # IPython.display.HTML(html) shows it
        '<div class="heedmap">'
    """
    return str(_fragment(explanation, index, level, replace(beside, image=image, clickable=clickable), folded))


def prediction_words(explanation: ExplanationData, index: int) -> str:
    """``cat``, ``class 3`` where it has no name of its own, a token's text, or that there are no classes."""
    if explanation.prediction is None:
        return "this output has no classes"
    top = int(explanation.prediction[index])
    label = None if explanation.prediction_labels is None else explanation.prediction_labels[index]
    if is_token(explanation, index):
        return f"token {top}" if not label else visible(label.strip() or label)
    return label if label and label != f"LABEL_{top}" else f"class {top}"


def _fragment(explanation: ExplanationData, index: int, level: int, beside: Beside, folded: bool = False) -> Markup:
    index = checked_index(index, batch_size(explanation))
    image = beside.image if explanation.maps else None
    seen = image.as_seen() if isinstance(image, Picture) else image
    return fragment(_body(explanation, index, level, beside, {}, folded=folded), seen)


def _body(
    explanation: ExplanationData,
    index: int,
    level: int,
    beside: Beside,
    scales: Mapping[str, Scale],
    more: Mapping[str, str] | None = None,
    folded: bool = False,
) -> Markup:
    segments, top = list(explanation.segments.values()), explanation.top
    drawn = drawn_segments([explanation], index, bars=True)
    return render(
        "explanation.html",
        level=level,
        heading=question(explanation, index).replace(" %", "\N{NO-BREAK SPACE}%"),
        entries={**_entries(explanation, index), **(more or {})},
        answers=[] if top is None else list(zip(top.labels[index], top.probabilities[index].tolist(), strict=True)),
        function=None if top is None else top.function,
        pair=len(segments) > 1 and any(view(segment).patches for segment in segments),
        figures=[figure(s, index, scales.get(s.name), beside, folded=s.name not in drawn) for s in segments],
        token_to_token=token_to_token(explanation, index, level + 1, seen=beside.image is not None),
        provenance=provenance(explanation, level + 1),
        folded=folded,
    )


def _ranges(explanation: ExplanationData) -> dict[str, str]:
    """Of each segment of sample 0, what its values were before they were divided."""
    return {f"{name} was": view(segment).scale(segment).range for name, segment in explanation.segments.items()}


def _entries(explanation: ExplanationData, index: int) -> dict[str, str]:
    """What was explained."""
    entries = {
        "prediction": prediction_words(explanation, index),
        "target": headline(explanation, index),
        "score": f"{float(explanation.scores[index]):.6g}",
        "method": explanation.method,
    }
    if explanation.origin.get("model"):
        entries["model"] = explanation.origin["model"]
    entries |= facts(explanation, index, PAGE)
    if batch_size(explanation) > 1:
        entries["sample"] = f"{index} of a batch of {batch_size(explanation)}"
    return entries


def provenance(explanation: ExplanationData, level: int) -> Markup:
    """A section whose heading is of ``level``."""
    flow = explanation.flow
    return render(
        "provenance.html",
        level=level,
        entries=_origin(explanation),
        method=explanation.method,
        card=_card(explanation.method),
        summary=summary(flow),
        tables=[
            ("attentions", ATTENTION_HEAD, attention_lines(flow)),
            ("streams", STREAM_HEAD, stream_lines(flow)),
        ],
        flow_notes=[said_for(PAGE, note) for note in flow.notes],
    )


def option_words(options: Mapping[str, object]) -> str:
    """``normalize=True, cam='gradient'``."""
    return ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"


def _origin(explanation: ExplanationData) -> dict[str, str]:
    origin = dict(explanation.origin)
    model = [origin.pop(key) for key in ("model", "class") if key in origin]
    return {
        "model": " · ".join(model) or "not told",
        "method": explanation.method,
        "options": option_words(explanation.options),
        "versions": ", ".join(f"{name} {version}" for name, version in origin.items()) or "not told",
    }


def _card(name: str) -> dict[str, str]:
    """What the method's card says; nothing of a method that has none."""
    from heedmap.methods import METHODS
    from heedmap.methods.cards import CARDS, evidence

    if name not in CARDS or name not in METHODS:
        return {}
    card, method = CARDS[name], METHODS[name]
    return {
        "what": method.summary,
        "computes": card.equation,
        "from": method.source,
        "needs": card.needs,
        "passes": f"{card.forwards} forward, {card.backwards} backward",
        "mind": card.fails,
        "evidence": evidence(name),
    }
