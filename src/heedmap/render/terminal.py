"""An Explanation in a terminal: what was predicted, and the heat of each segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Group
from rich.style import Style
from rich.text import Text

from heedmap.printable import number, percent, visible
from heedmap.render.colours import colour
from heedmap.render.overlay import grid_values
from heedmap.render.page import prediction_words
from heedmap.render.sample import Sample, batch_size, checked_index, sample
from heedmap.render.scale import Scale, token_scale
from heedmap.render.text import text_heat
from heedmap.render.words import Word, top_words, words, words_scale

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData, Segment

WIDEST_GRID = 36
TOP = 5
SHADES = " ·:-=+*#%@"
"""Ten levels of darkness, for terminals without colour."""


def terminal(explanation: ExplanationData, index: int = 0, *, colours: bool = True) -> Group:
    """Sample ``index`` for a Rich console; without ``colours``, values are written out and grids shaded by letters.

    Raises:
        InputError: no such sample.
    """
    index = checked_index(index, batch_size(explanation))
    parts = [_facts(explanation, index)]
    for segment in explanation.segments.values():
        parts += [Text(), *_segment(segment, index, colours)]
    return Group(*parts)


def _facts(explanation: ExplanationData, index: int) -> Text:
    facts = {
        "prediction": prediction_words(explanation, index),
        "target": explanation.target[index],
        "score": f"{float(explanation.scores[index]):.6g}",
        "method": explanation.method,
    }
    if explanation.top is not None:
        pairs = zip(explanation.top.labels[index], explanation.top.probabilities[index].tolist(), strict=True)
        facts["answers"] = " · ".join(f"{label.strip()} {percent(probability)}" for label, probability in pairs)
    if explanation.flow.notes:
        facts["note"] = "; ".join(explanation.flow.notes)
    lines = [Text.assemble((f"{name:<11}", "dim"), visible(words)) for name, words in facts.items()]
    return Text("\n").join(lines)


def _segment(segment: Segment, index: int, colours: bool) -> list[Text]:
    drawn = sample(segment, index)
    found = words(segment, index) if segment.kind == "text" else []
    used = words_scale(found) if found else token_scale(segment, drawn)
    heading = Text.assemble((visible(segment.name), "bold"), (f" · {used.about()}", "dim"))
    return [heading, *_heat(segment, drawn, used, index, colours), _top(segment, drawn, found)]


def _heat(segment: Segment, drawn: Sample, used: Scale, index: int, colours: bool) -> list[Text]:
    if segment.grid is not None:
        return [_grid(_fitted(grid_values(segment, used.places(drawn.known)), used.signed), used.cmap, colours)]
    return [text_heat(segment, index, numbers=not colours)] if segment.kind == "text" else []


def _top(segment: Segment, drawn: Sample, found: list[Word]) -> Text:
    told = [f"{word.text} {number(word.value)}" for word in top_words(found, TOP)]
    if not found:
        told = [f"{_place(segment, drawn, i)} {number(drawn.values[i])}" for i in drawn.top(TOP)]
    return Text.assemble(("top  ", "dim"), " · ".join(told) or "nothing finite")


def _place(segment: Segment, drawn: Sample, i: int) -> str:
    if segment.grid is None:
        return drawn.labels[i]
    row, column = divmod(i, segment.grid[1])
    return f"row {row}, column {column}:"


def _fitted(share: NDArray[np.float64], signed: bool) -> NDArray[np.float64]:
    """The grid, where it is too wide for a terminal made smaller by averaging and, unless signed, scaled to 1 again."""
    scale = WIDEST_GRID / max(share.shape)
    if scale >= 1:
        return share
    size = max(1, round(share.shape[1] * scale)), max(1, round(share.shape[0] * scale))
    small = np.asarray(Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BOX), dtype=np.float64)
    return small if signed else small / (small.max() or 1)


def _grid(share: NDArray[np.float64], cmap: str, colours: bool) -> Text:
    return Text("\n").join(Text.assemble(*(_cell(s, cmap, colours) for s in row)) for row in share.clip(0, 1))


def _cell(share: float, cmap: str, colours: bool) -> tuple[str, Style]:
    if colours:
        return "  ", Style(bgcolor=colour(float(share), cmap))
    return SHADES[round(float(share) * (len(SHADES) - 1))] * 2, Style()
