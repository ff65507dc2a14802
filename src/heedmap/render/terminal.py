"""What a terminal shows: an explanation, with the heat of each segment, and the flow as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from string import digits

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, OverflowMethod
from rich.containers import Lines
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from heedmap.common.printable import SHELL, number, percent, said_for, visible
from heedmap.data.explanation import ExplanationData
from heedmap.data.flow import ATTENTION_HEAD, STREAM_HEAD, Flow, Line, attention_lines, stream_lines, summary
from heedmap.data.segments import Segment
from heedmap.render.answer_page import DrawnAnswers, answer_words
from heedmap.render.cautions import facts as remarks
from heedmap.render.naming import called, headline
from heedmap.render.page import prediction_words
from heedmap.render.sample import sample
from heedmap.render.sound import blocks, frame_seconds, strongest
from heedmap.render.views import drawn_segments, view
from heedmap.render.words import Chips, words

TOP, FEW, CURVE = 5, 3, 32
GLUE = "\ue000"
"""Stands for a space at which no line ends; what people wrote has none, see :func:`heedmap.common.printable.visible`."""


class Kept(Text):
    """Text in whose lines no number ends before its ``%``."""

    def wrap(
        self,
        console: Console,
        width: int,
        *,
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        tab_size: int = 8,
        no_wrap: bool | None = None,
    ) -> Lines:
        """As :meth:`rich.text.Text.wrap`."""
        lines = self._glued().wrap(
            console, width, justify=justify, overflow=overflow, tab_size=tab_size, no_wrap=no_wrap
        )
        for line in lines:
            line.plain = line.plain.replace(GLUE, " ")
        return lines

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return self._glued().__rich_measure__(console, options)

    def _glued(self) -> Text:
        glued = self.copy()
        glued.plain = self.plain.replace(" %", f"{GLUE}%")
        return glued


def terminal(explanation: ExplanationData, *, colours: bool = True) -> Group:
    """Sample 0 for a Rich console; without ``colours``, values are written out and grids shaded by letters.

    What has no relevance at all is left out, and so are a detector's queries, unless there is nothing else.
    """
    parts: list[Text | Chips] = [_facts(explanation)]
    for name in drawn_segments([explanation], 0):
        parts += [Text(), *_segment(explanation.segments[name], colours)]
    return Group(*parts)


def terminal_answer(explanation: ExplanationData) -> Group:
    """The words of sample 0's answer as a table: how probable each is, and what it rests on most.

    Raises:
        InputError: no answer.
    """
    said = answer_words(explanation)
    answer = explanation.answer
    assert answer is not None, "it has words"
    shown = _by_kin(name for name, segment in explanation.segments.items() if _by_people(segment))
    heads = [_head(explanation.segments[names[0]]) for names in shown.values()]
    lines = []
    for word in said:
        segments = explanation.span(word.tokens[0], word.tokens[-1] + 1).segments
        rests_on = (_rests_on([segments[name] for name in names]) for names in shown.values())
        lines.append((word.text, percent(float(answer.probabilities[0, list(word.tokens)].min())), *rests_on))
    facts = {"answer": answer.text[0], "method": explanation.method}
    return _table_under(facts, explanation.flow, ("word", "said with", *heads), lines)


def terminal_answers(answers: DrawnAnswers) -> Group:
    """Several answers as a table: each, what is explained, and what it rests on most."""
    first = answers.explanations[0]
    drawn = drawn_segments(answers.explanations, 0)
    shown = _by_kin(name for name in drawn if any(_by_people(e.segments[name]) for e in answers.explanations))
    heads = [_head(first.segments[names[0]]) for names in shown.values()]
    lines = [
        (name.strip(), *(_rests_on([explanation.segments[n] for n in names]) for names in shown.values()))
        for name, explanation in zip(answers.names, answers.explanations, strict=True)
    ]
    return _table_under({"method": first.method}, first.flow, ("answer", *heads), lines)


def _table_under(facts: Mapping[str, str], flow: Flow, head: Line, lines: Sequence[Line]) -> Group:
    note = {"note": said_for(SHELL, "; ".join(flow.notes))} if flow.notes else {}
    return Group(_told({**facts, **note}), Text(), _rich(head, lines))


def _by_kin(names: Iterable[str]) -> dict[str, list[str]]:
    """Segments under the name of the first of their kin: pictures and tiles of one sample are one column of a table."""
    found: dict[str, list[str]] = {}
    for name in names:
        first = name.rstrip(digits)
        found.setdefault(first if first in found else name, []).append(name)
    return found


def _by_people(segment: Segment) -> bool:
    """Whether a model took some of a segment in, and not special tokens alone."""
    if not bool((segment.positions[0] >= 0).any()):
        return False
    return segment.kind != "text" or any(not word.special for word in words(_whole(segment)))


def _whole(segment: Segment) -> Segment:
    """A segment with its steps taken together, where it has some."""
    return segment if segment.relevance.dim() == 2 else replace(segment, relevance=segment.relevance.mean(1))


def _head(segment: Segment) -> str:
    drawn = sample(_whole(segment))
    step = frame_seconds(drawn) if _is_sound(segment) else None
    end = f", 0 to {number(len(drawn.labels) * step)} s" if step is not None else ""
    return f"rests on: {called(segment.name)}{end}"


def _is_sound(segment: Segment) -> bool:
    return segment.kind == "audio" and segment.grid is None


def _rests_on(segments: Sequence[Segment]) -> str:
    """The most relevant of all; where there are several segments, with the name of its own. Of sound a curve."""
    if len(segments) == 1 and _is_sound(segments[0]):
        values = np.nan_to_num(sample(segments[0]).values)
        return blocks(strongest(values / (np.abs(values).max(initial=0.0) or 1.0), CURVE))
    tops = [
        (f"{called(segment.name)} {name.strip()}" if len(segments) > 1 else name.strip(), value)
        for segment in segments
        for name, value in view(segment).top(segment, 0, FEW)
    ]
    tops = sorted(tops, key=lambda top: -top[1])[:FEW]
    return " · ".join(f"{name} {number(value)}" for name, value in tops if value > 0)


def flow_rich(flow: Flow) -> Group:
    """What :func:`heedmap.data.flow.flow_table` says, as Rich tables."""
    notes = [Text(f"note: {visible(said_for(SHELL, note))}", style="yellow") for note in flow.notes]
    tables = _rich(ATTENTION_HEAD, attention_lines(flow)), _rich(STREAM_HEAD, stream_lines(flow))
    return Group(Text(summary(flow), style="bold"), *tables, *notes)


def _facts(explanation: ExplanationData) -> Text:
    facts = {} if explanation.prediction is None else {"prediction": prediction_words(explanation, 0)}
    facts |= {"target": headline(explanation, 0), "score": f"{float(explanation.scores[0]):.6g}"}
    facts["method"] = explanation.method
    if explanation.top is not None:
        pairs = zip(explanation.top.labels[0], explanation.top.probabilities[0].tolist(), strict=True)
        facts["answers"] = " · ".join(f"{label.strip()} {percent(probability)}" for label, probability in pairs)
    return _told(facts | remarks(explanation, 0, SHELL))


def _told(facts: Mapping[str, str]) -> Text:
    parts = [part for name, words in facts.items() for part in ("\n", (f"{name:<11}", "dim"), visible(words))]
    return Kept.assemble(*parts[1:])


def _segment(segment: Segment, colours: bool) -> list[Text | Chips]:
    seen = view(segment)
    used = seen.scale(segment)
    heading = Kept.assemble((visible(called(segment.name)), "bold"), (f" · {used.about()}", "dim"))
    between = " " if segment.grid is None else ": "
    told = (
        " · ".join(f"{name}{between}{number(value)}" for name, value in seen.top(segment, 0, TOP)) or "nothing finite"
    )
    return [heading, *seen.heat(segment, 0, used, colours), Kept.assemble(("top  ", "dim"), told)]


def _rich(head: Line, lines: Sequence[Line]) -> Table:
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in head:
        result.add_column(Kept(name), overflow="fold")
    for line in lines:
        result.add_row(*map(Kept, line))
    return result
