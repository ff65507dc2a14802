"""Choose one thing, see its map, without a script: also what each token draws from another (``full=True``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import torch
from markupsafe import Markup

from heedmap.common.printable import number
from heedmap.render.html import macro, render
from heedmap.render.sample import Drawn, sample
from heedmap.render.scale import Scale, scale_of, start_of, token_scale
from heedmap.render.views import most_relevant, view

if TYPE_CHECKING:
    from torch import Tensor

    from heedmap.data.explanation import ExplanationData, Segment

CELL = 1.1
"""Side of a patch that can be chosen, in rem."""


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
    return render("picker.html", title=title, choices=choices, chosen=chosen, group=group, tracks=_tracks(grid))


def _tracks(grid: tuple[int, int] | None) -> str:
    """CSS of a grid of choices; ``""`` where there is none."""
    if grid is None:
        return ""
    rows, columns = grid
    across = f"grid-template-columns:repeat({columns},{CELL}rem) minmax(12rem,1fr)"
    return f"{across};grid-template-rows:repeat({rows},{CELL}rem) auto"


MOST_CHOICES = 256
MOST_BYTES = 300_000
"""About how many the panels of one pair take in the page."""


def token_to_token(explanation: ExplanationData, index: int, level: int, *, seen: bool) -> Markup:
    """For each pair of parts that has a map: choose a token of one, see what it draws from the other.

    Args:
        explanation: with ``maps``; without there is nothing to show, ``""``.
        index: the sample.
        level: of the heading.
        seen: whether the picture that the model saw is the page's ``--seen``.
    """
    segments = list(explanation.segments.values())
    cross = [(a, b) for a in segments for b in segments if a is not b and (a.name, b.name) in explanation.maps]
    pairs = [_pair(explanation, a, b, index, seen) for a, b in cross or [(a, a) for a in segments]]
    return render("token_to_token.html", level=level, pairs=[pair for pair in pairs if pair])


def _pair(explanation: ExplanationData, a: Segment, b: Segment, index: int, seen: bool) -> dict[str, object]:
    """The tokens of ``a`` to choose from, and what each draws from ``b``; nothing where there is no map."""
    values = explanation.block(a.name, b.name, index)
    drawn = sample(a, index)
    if values is not None and a is b:
        values = values.clone().fill_diagonal_(0.0)
    offered = [] if values is None else _offered(drawn, b)
    if values is None or not offered:
        return {}
    rows = {i: _with(b, values[i], index) for i in offered}
    used, of_target = _scale(rows), token_scale(a, drawn)
    choices = [_choice(a, drawn, i, rows[i], used, of_target, seen) for i in offered]
    most = max(range(len(offered)), key=lambda n: float(values[offered[n]].sum()))
    title = f"Choose a token of {a.name}: what it draws from {b.name}"
    return {
        "title": title,
        "picker": picker(title, choices, most, a.grid),
        "scale": used,
        "under": _under(used, len(offered), len(drawn.shown), a is b),
        "patches": view(b).patches,
    }


def _under(used: Scale, offered: int, shown: int, same: bool) -> str:
    few = f"; of {shown} tokens the {offered} most relevant can be chosen" if offered < shown else ""
    own_share = "; a token’s share of itself is left out" if same else ""
    return f"one scale for every choice; {used.about()}{few}{own_share}; the choices’ own colours: their relevance to the target"


def _offered(drawn: Drawn, b: Segment) -> list[int]:
    cost = view(b).weight * b.relevance.shape[1] + 400
    most = max(1, min(MOST_CHOICES, MOST_BYTES // cost))
    return sorted(drawn.top(most))


def _with(b: Segment, row: Tensor, index: int) -> Segment:
    """``b`` with the relevance that one token draws, as a batch of one."""
    return replace(b.sample(index), relevance=row[None])


def _scale(rows: dict[int, Segment]) -> Scale:
    """One scale for all: of words, where the tokens are joined to words; special tokens set it too."""
    first = next(iter(rows.values()))
    texts = [view(row).words(row) for row in rows.values()]
    if any(texts):
        return scale_of(word.value for text in texts for word in text if not word.special)
    return scale_of(torch.cat([row.relevance[row.positions >= 0] for row in rows.values()]).tolist(), start_of(first))


def _choice(a: Segment, drawn: Drawn, i: int, row: Segment, used: Scale, of_target: Scale, seen: bool) -> Choice:
    name, drawn_row = view(a).place(a, drawn, i), sample(row)
    total = number(float(np.nansum(drawn_row.values[drawn_row.taken])))
    told = f"{name} draws {total} in all; most from {most_relevant(row)}"
    panel = macro("segments.drawn_from", told, view(row).panel(row, 0, used, seen))
    where = None if a.grid is None else divmod(i, a.grid[1])
    return Choice(name, panel, of_target.css_class(float(drawn.values[i])), where)
