"""Several answers on one page: choose one, see its map; a text that rests on a text also as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from heedmap.printable import number
from heedmap.render.choose import Choice, chooser, most_relevant, panel
from heedmap.render.figure import segment_scale
from heedmap.render.made import made
from heedmap.render.page import document, facts, wrapped
from heedmap.render.scale import Scale, scale_of, step_class
from heedmap.render.text import html_text, scrolled
from heedmap.render.wordmap import legend
from heedmap.render.words import words

if TYPE_CHECKING:
    from PIL import Image

    from heedmap.explanation_data import ExplanationData, Segment

Box = tuple[float, float, float, float]
MOST_CELLS = 20_000
ROW_NOTE = (
    "each row is one answer, coloured from 0 to its own largest value, which stands at its end: different answers are "
    "different scores, so colours compare within a row only"
)


class Answers(Protocol):
    """What is drawn: see :class:`heedmap.models.answers.Answers`."""

    @property
    def names(self) -> Sequence[str]:
        """Of the answers."""

    @property
    def explanations(self) -> Sequence[ExplanationData]:
        """One an answer, of a batch of one."""

    @property
    def boxes(self) -> Sequence[Box]:
        """Where each answer lies, or none."""

    @property
    def joined(self) -> bool:
        """Whether the answers are the tokens of one text."""

    def __len__(self) -> int: ...


def answers_page(answers: Answers, image: Image.Image | None = None) -> str:
    """All answers as a self-contained page.

    Args:
        answers: what to show.
        image: as the model saw it, to lay maps of patches on.
    """
    return document(f"<main>\n{answers_fragment(answers, image, level=1)}</main>\n", "heedmap: several answers")


def answers_fragment(answers: Answers, image: Image.Image | None = None, *, level: int = 2) -> str:
    """What :func:`answers_page` shows, as one ``<div>``, for notebooks; ``level`` of its heading."""
    said = ("" if answers.joined else ", ").join(answers.names)
    first = answers.explanations[0]
    tables = [matrix(answers, name, level + 1) for name in first.segments if name != "decoder"]
    parts = [
        f'<h{level} dir="auto">What each of {len(answers)} answers rests on</h{level}>',
        facts({"answers": said, "method": first.method, "model": first.origin.get("model", "not told")}),
        *filter(None, tables),
        f"<h{level + 1}>One answer at a time</h{level + 1}>",
        chooser("Choose an answer", [_choice(answers, n, image is not None) for n in range(len(answers))], 0),
        made(first, level + 1),
    ]
    return wrapped("\n".join(parts), image)


def matrix(answers: Answers, name: str, level: int) -> str:
    """The answers' relevance of the words of a text as a table, a row an answer; ``""`` where it is no text, or too large.

    Args:
        answers: what to show.
        name: of the segment.
        level: of the heading.
    """
    segments = [explanation.segments[name] for explanation in answers.explanations if name in explanation]
    if not segments or segments[0].kind != "text" or segments[0].grid or not answers.joined:
        return ""
    heads = words(segments[0])
    if len(heads) * len(answers) > MOST_CELLS:
        return ""
    columns = "".join(f'<th scope="col" dir="auto">{html_text(word.text)}</th>' for word in heads)
    rows = "\n".join(_row(label, segment) for label, segment in zip(answers.names, segments, strict=True))
    table = (
        f'<table class="matrix">\n<thead><tr><td></td>{columns}<th scope="col" class="end">largest</th></tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table>"
    )
    return (
        f"<h{level}>What is said, and what in {html_text(name)} it rests on</h{level}>\n"
        f"{scrolled(table, f'alignment with {name}')}\n"
        f'<p class="fine">{ROW_NOTE}</p>'
    )


def _row(label: str, segment: Segment) -> str:
    found = words(segment)
    used = scale_of(word.value for word in found)
    cells = "".join(_cell(word.value, used) for word in found)
    return f'<tr><th scope="row" dir="auto">{html_text(label)}</th>{cells}<td class="end">{number(used.most)}</td></tr>'


def _cell(value: float, used: Scale) -> str:
    kind = step_class(used.step(value))
    attribute = f' class="{kind}"' if kind else ""
    return f'<td{attribute} title="{number(value)}"></td>'


def _choice(answers: Answers, n: int, seen: bool) -> Choice:
    explanation = answers.explanations[n]
    box = _outline(answers.boxes[n]) if answers.boxes else ""
    maps = [_map(segment, seen, box) for segment in explanation.segments.values()]
    told = f"{explanation.target[0]}, score {float(explanation.scores[0]):.6g}"
    return Choice(answers.names[n], f'<p dir="auto">{html_text(told)}</p>{"".join(maps)}')


def _map(segment: Segment, seen: bool, box: str) -> str:
    used = segment_scale(segment)
    from_picture = segment.grid is not None
    if used.empty:
        return ""
    about = f"{segment.name}: {used.about()}; most relevant: {most_relevant(segment)}"
    body = panel(segment, 0, used, seen=seen and from_picture, boxes=box if from_picture else "")
    return f"{body}\n{legend(used, about, patches=from_picture)}"


def _outline(box: Box) -> str:
    left, top, right, bottom = box
    place = f"left:{left:.2%};top:{top:.2%};width:{right - left:.2%};height:{bottom - top:.2%}"
    return f'<i style="{place}"></i>'
