"""What a terminal shows: an explanation, with the heat of each segment, and the flow as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from heedmap.flow import ATTENTION_HEAD, STREAM_HEAD, Flow, Line, attention_lines, stream_lines, summary
from heedmap.printable import percent, visible
from heedmap.render.page import prediction_words
from heedmap.render.sample import batch_size, checked_index
from heedmap.render.views import view

if TYPE_CHECKING:
    from heedmap.explanation_data import ExplanationData, Segment

TOP = 5


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


def flow_rich(flow: Flow) -> Group:
    """What :func:`heedmap.flow.flow_table` says, as Rich tables."""
    notes = [Text(f"note: {visible(note)}", style="yellow") for note in flow.notes]
    tables = _rich(ATTENTION_HEAD, attention_lines(flow)), _rich(STREAM_HEAD, stream_lines(flow))
    return Group(Text(summary(flow), style="bold"), *tables, *notes)


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
    seen = view(segment)
    used = seen.scale(segment, index)
    heading = Text.assemble((visible(segment.name), "bold"), (f" · {used.about()}", "dim"))
    told = " · ".join(seen.told(segment, index, TOP)) or "nothing finite"
    return [heading, *seen.heat(segment, index, used, colours), Text.assemble(("top  ", "dim"), told)]


def _rich(head: Line, lines: Sequence[Line]) -> Table:
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in head:
        result.add_column(name, overflow="fold")
    for line in lines:
        result.add_row(*map(Text, line))
    return result
