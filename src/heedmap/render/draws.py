"""What each token of one part of the input draws from another: the whole maps of ``full=True``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from heedmap.printable import number
from heedmap.render.choose import Choice, chooser, most_relevant, panel, place
from heedmap.render.sample import Sample, sample
from heedmap.render.scale import Scale, scale_of, start_of, token_scale
from heedmap.render.text import html_text
from heedmap.render.wordmap import legend
from heedmap.render.words import words

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from heedmap.explanation_data import ExplanationData, Segment

MOST_CHOICES = 256
WEIGHT = {"text": 45, "image": 4}
"""About how many bytes a token of a panel takes in the page."""
MOST_BYTES = 300_000
"""Of the panels of one pair."""


def draws(explanation: ExplanationData, index: int, level: int, *, seen: bool) -> str:
    """For each pair of parts that has a map: choose a token of one, see what it draws from the other.

    Args:
        explanation: with ``maps``; without there is nothing to show, ``""``.
        index: the sample.
        level: of the heading.
        seen: whether the picture that the model saw is the page's ``--seen``.
    """
    parts = list(explanation.segments.values())
    cross = [(a, b) for a in parts for b in parts if a is not b and (a.name, b.name) in explanation.maps]
    pairs = cross or [(a, a) for a in parts]
    found = [_pair(explanation, a, b, index, f"h{level + 1}", seen) for a, b in pairs]
    body = "\n".join(filter(None, found))
    return f"<section>\n<h{level}>What draws from what</h{level}>\n{body}\n</section>" if body else ""


def block(explanation: ExplanationData, a: Segment, b: Segment, index: int) -> Float[Tensor, "a b"] | None:
    """R^{ab} of sample ``index``: how much each token of ``b`` counts in each token of ``a``; None where it is not kept.

    Maps are keyed by streams, and where a stream has several segments by these.
    """
    whole = explanation.maps.get((a.name, b.name))
    if whole is None:
        return None
    one = whole[index].float()
    if (a.name, b.name) != (a.stream, b.stream):
        return one
    rows, columns = a.positions[index], b.positions[index]
    kept = one[rows.clamp(min=0)][:, columns.clamp(min=0)]
    return kept.masked_fill(~((rows >= 0)[:, None] & (columns >= 0)), 0.0)


def _pair(explanation: ExplanationData, a: Segment, b: Segment, index: int, tag: str, seen: bool) -> str:
    values = block(explanation, a, b, index)
    asked = sample(a, index)
    if values is not None and a is b:
        values = values.clone().fill_diagonal_(0.0)
    offered = [] if values is None else _offered(asked, b)
    if values is None or not offered:
        return ""
    rows = {i: _with(b, values[i], index) for i in offered}
    used = _scale(rows)
    own = token_scale(a, asked)
    choices = [_choice(a, asked, i, rows[i], used, own, seen) for i in offered]
    best = max(range(len(offered)), key=lambda n: float(values[offered[n]].sum()))
    few = f"; of {len(asked.shown)} tokens the {len(offered)} most relevant can be chosen" * (
        len(offered) < len(asked.shown)
    )
    own_share = "; a token’s share of itself is left out" if a is b else ""
    under = f"one scale for every choice; {used.about()}{few}{own_share}; the choices’ own colours: their relevance to the target"
    title = f"Choose a token of {a.name}: what it draws from {b.name}"
    key = legend(used, under, patches=b.grid is not None)
    return f"<{tag}>{html_text(title)}</{tag}>\n{chooser(title, choices, best, a.grid)}\n{key}"


def _offered(asked: Sample, b: Segment) -> list[int]:
    cost = WEIGHT.get("image" if b.grid else b.kind, WEIGHT["text"]) * b.relevance.shape[1] + 400
    most = max(1, min(MOST_CHOICES, MOST_BYTES // cost))
    return sorted(asked.top(most))


def _with(b: Segment, row: Tensor, index: int) -> Segment:
    """``b`` with the relevance that one token draws, as a batch of one."""
    pick = slice(index, index + 1)
    labels = None if b.labels is None else b.labels[pick]
    joints = None if b.joints is None else b.joints[pick]
    return replace(b, relevance=row[None], positions=b.positions[pick], labels=labels, joints=joints)


def _scale(rows: dict[int, Segment]) -> Scale:
    """One scale for all: of words, where the tokens are joined to words; special tokens set it too."""
    one = next(iter(rows.values()))
    if one.kind == "text" and one.grid is None:
        return scale_of(word.value for row in rows.values() for word in words(row) if not word.special)
    return scale_of(torch.cat([row.relevance[row.positions >= 0] for row in rows.values()]).tolist(), start_of(one))


def _choice(a: Segment, asked: Sample, i: int, row: Segment, used: Scale, own: Scale, seen: bool) -> Choice:
    drawn = sample(row)
    name = place(a, asked, i)
    total = number(float(np.nansum(drawn.values[drawn.taken])))
    told = f"{name} draws {total} in all; most from {most_relevant(row)}"
    html = f'<p class="fine" dir="auto">{html_text(told)}</p>{panel(row, 0, used, seen=seen)}'
    where = None if a.grid is None else divmod(i, a.grid[1])
    return Choice(name, html, own.step(float(asked.values[i])), place=where)
