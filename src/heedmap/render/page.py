"""Reports in HTML that stand alone, with no script and nothing loaded from elsewhere, and fragments of them for notebooks; in
them one of several things can be chosen, to see its map: an answer, or a token and what it draws from others (``full=True``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image

from heedmap.common.printable import PAGE, number, said_for, visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.flow import ATTENTION_HEAD, STREAM_HEAD, attention_lines, stream_lines, summary
from heedmap.data.picture import Picture
from heedmap.data.segments import Segment
from heedmap.render.cautions import facts, minded
from heedmap.render.html import document, fragment, macro, render
from heedmap.render.naming import headline, is_token, question
from heedmap.render.overlay import Shown, as_picture, framed
from heedmap.render.sample import Drawn, batch_size, checked_index, sample
from heedmap.render.scale import Scale, one_unit, scale_of, shares, start_of, token_scale
from heedmap.render.sound import Sound
from heedmap.render.views import ALONE, Beside, common_scales, drawn_segments, most_relevant, view

MOST_CHOICES = 256
MOST_BYTES = 300_000
"""About how many the panels of one pair take in the page."""
PATCH = 1.1
"""Side of a patch that can be chosen, in rem."""
SAME_UNIT = "All maps of one part of the input share one scale."
OTHER_UNITS = (
    "Numbers of two methods are not of one kind, so each map is divided by the sum of its absolute values: its numbers are "
    "shares. Then all maps of one part of the input share one scale."
)


def explanation_page(
    explanation: ExplanationData, index: int = 0, image: Shown = None, sound: Sound | None = None
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
    ranges = [  # what the values of each part were before they were divided
        {} if same else {f"{name} was": view(s).scale(s).range for name, s in e.segments.items()} for e in explanations
    ]
    bodies = [_body(e, 0, 2, Beside(image=image), scales, more) for e, more in zip(shown, ranges, strict=True)]
    body = render("comparison.html", note=note, bodies=bodies)
    return document(fragment(body, image), "heedmap: comparison")


def column_body(
    explanation: ExplanationData, image: Image.Image | None, scales: Mapping[str, Scale], beside: Beside
) -> Markup:
    """An explanation beside others: on its own picture, with the scales that they share, by the part's name, or none.

    It is to be put into a ``fragment``; the maps come first, and all else is folded below them.
    """
    shown = _outlined(explanation, 0, replace(beside, image=image))
    return _body(explanation, 0, 3, shown, scales, folded=True)


def _outlined(explanation: ExplanationData, index: int, beside: Beside) -> Beside:
    """With the box of the object that sample ``index`` explains, if it does, where nothing lies on the picture yet."""
    if beside.image is None or beside.objects:
        return beside
    frames = framed(replace(as_picture(beside.image), frames={}), explanation, index).frames
    return replace(beside, objects=Markup().join(macro("segments.outline", box, name) for name, box in frames.items()))


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
        clickable: whether tokens are buttons, see :class:`~heedmap.render.views.Beside`.
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
        figures=[view(s).figure(s, index, scales.get(s.name), beside, folded=s.name not in drawn) for s in segments],
        token_to_token=token_to_token(explanation, index, level + 1, seen=beside.image is not None),
        provenance=provenance(explanation, level + 1),
        folded=folded,
    )


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


@dataclass(frozen=True)
class Choice:
    """Something that can be chosen.

    Attributes:
        name: of it, for people.
        panel: what is seen when it is chosen.
        step: the class of its colour, see :meth:`heedmap.render.scale.Scale.css_class`.
        place: row and column, from 0, where the choices lie in a grid.
    """

    name: str
    panel: Markup
    step: str = ""
    place: tuple[int, int] | None = None


def picker(title: str, choices: Sequence[Choice], chosen: int, grid: tuple[int, int] | None = None) -> Markup:
    """The choices, and under them the panel of the one that is chosen.

    Args:
        title: what is chosen, for those who cannot see it.
        choices: in reading order; in a grid all have a place.
        chosen: at first.
        grid: rows and columns of the grid in which the choices lie; their maps stand beside it.
    """
    whole = "\0".join((title, *(choice.panel for choice in choices)))
    group = "heedmap-" + sha256(whole.encode("utf-8", "replace")).hexdigest()[:12]
    tracks = ""
    if grid is not None:
        rows, columns = grid
        across = f"grid-template-columns:repeat({columns},{PATCH}rem) minmax(12rem,1fr)"
        tracks = f"{across};grid-template-rows:repeat({rows},{PATCH}rem) auto"
    return render("picker.html", title=title, choices=choices, chosen=chosen, group=group, tracks=tracks)


def token_to_token(explanation: ExplanationData, index: int, level: int, *, seen: bool) -> Markup:
    """For each pair of parts that has a map: choose a token of one, see what it draws from the other; ``""`` without maps.

    ``seen``: whether the picture that the model saw is the page's ``--seen``.
    """
    segments = list(explanation.segments.values())
    cross = [(a, b) for a in segments for b in segments if a is not b and (a.name, b.name) in explanation.maps]
    pairs = [_pair_maps(explanation, a, b, index, seen) for a, b in cross or [(a, a) for a in segments]]
    return render("token_to_token.html", level=level, pairs=[pair for pair in pairs if pair])


def _pair_maps(explanation: ExplanationData, a: Segment, b: Segment, index: int, seen: bool) -> dict[str, object]:
    """The tokens of ``a`` to choose from, and what each draws from ``b``; nothing where there is no map."""
    values = explanation.block(a.name, b.name, index)
    drawn = sample(a, index)
    if values is not None and a is b:
        values = values.clone().fill_diagonal_(0.0)
    offered = [] if values is None else _offered(drawn, b)
    if values is None or not offered:
        return {}
    rows = {i: replace(b.sample(index), relevance=values[i][None]) for i in offered}
    used, of_target = _common_scale(rows), token_scale(a, drawn)
    choices = [_token_choice(a, drawn, i, rows[i], used, of_target, seen) for i in offered]
    most = max(range(len(offered)), key=lambda n: float(values[offered[n]].sum()))
    title = f"Choose a token of {a.name}: what it draws from {b.name}"
    return {
        "title": title,
        "picker": picker(title, choices, most, a.grid),
        "scale": used,
        "under": _about_choices(used, len(offered), len(drawn.shown), a is b),
        "patches": view(b).patches,
    }


def _about_choices(used: Scale, offered: int, shown: int, same: bool) -> str:
    few = f"; of {shown} tokens the {offered} most relevant can be chosen" if offered < shown else ""
    own_share = "; a token’s share of itself is left out" if same else ""
    return f"one scale for every choice; {used.about()}{few}{own_share}; the choices’ own colours: their relevance to the target"


def _offered(drawn: Drawn, b: Segment) -> list[int]:
    cost = view(b).weight * b.relevance.shape[1] + 400
    most = max(1, min(MOST_CHOICES, MOST_BYTES // cost))
    return sorted(drawn.top(most))


def _common_scale(rows: dict[int, Segment]) -> Scale:
    """One scale for all: of words that are no special tokens, where the tokens are joined to words."""
    first = next(iter(rows.values()))
    texts = [view(row).words(row) for row in rows.values()]
    if any(texts):
        return scale_of(word.value for text in texts for word in text if not word.special)
    return scale_of(torch.cat([row.relevance[row.positions >= 0] for row in rows.values()]).tolist(), start_of(first))


def _token_choice(a: Segment, drawn: Drawn, i: int, row: Segment, used: Scale, of_target: Scale, seen: bool) -> Choice:
    name, drawn_row = view(a).place(a, drawn, i), sample(row)
    total = number(float(np.nansum(drawn_row.values[drawn_row.taken])))
    told = f"{name} draws {total} in all; most from {most_relevant(row)}"
    panel = macro("segments.drawn_from", told, view(row).panel(row, 0, used, seen))
    where = None if a.grid is None else divmod(i, a.grid[1])
    return Choice(name, panel, of_target.css_class(float(drawn.values[i])), where)
