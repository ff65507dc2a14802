"""Figures as a table for the terminal, and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from heedmap.common.printable import counted
from heedmap.methods import METHODS
from heedmap.methods.cards import CHANCE, PAPER
from heedmap.zoo.evidence import ABLATED, EVEN, FIGURES, PRIOR, KeptFigures, ModelFigures, SegmentFigures

if TYPE_CHECKING:
    from rich.table import Table

SEGMENTS = {"text": "the words", "image": "the picture", "image_encoder": "the picture's patches", "boxes": "the boxes"}
REFERENCES = (CHANCE, PRIOR, EVEN)
"""Rows that know nothing of the model."""

HEAD = """# Evidence that is known

<!-- Written by `heedmap zoo evidence --out docs/zoo.json --markdown docs/zoo.md`; do not edit. -->

Nobody can say what a model of the hub *should* look at. For heedmap's own small models it is known, word by word and pixel
by pixel, as their data are made by a program. So a map can be measured against the truth:

- **share inside**: the part of the relevance that lies on the evidence (a patch counts by the share of its area);
- **pointing game**: how often the most relevant token is evidence (for a patch: touches it);
- **IoU after Otsu**, of pictures: intersection over union of the evidence and the map cut by Otsu's threshold.

Each is the mean over samples of the test split with its 95 % bootstrap interval (1,000 resamples), one sample being the
mean of its answers. Only right answers are explained. All tokens count, `[CLS]`, `</s>` and the like included, none of
which is evidence. `random` draws numbers, the *centre prior* prefers the middle of the picture, and *chance* is what a map
has that is the same everywhere. None of the three knows the model. The methods are those that take a pass or two; those that take
dozens (`integrated_gradients`, `smoothgrad`, `gradient_shap`, `occlusion`) are left out where they are not in the table.

Where a model answers in words (`bart-dates`, `gpt-lists`, `idefics-shapes`), the whole right answer is given to it and its
words are explained from that one pass: the maps, and so the figures, are those of [`heedmap.explain_answer`](answers.md). Of
`idefics-shapes` it is each colour and each shape of an answer that is right in every word; the truth is the one object that the
word stands for, also where others look the same. Its *picture* is the tokens that the language model reads, two by two patches
each; methods that are carried on through this merging also have a map of *the picture's patches*.

The evidence is what the *task* depends on. A model may rightly look elsewhere too (at the word "?" to know where it is), so
1 is not the aim of every map; but a method that does better than another on all of them has found more of the reasons.
Two things to know when reading the figures. The models are shallow: where the last attention does the looking up by itself,
`raw_attention`, which knows nothing else, is at its best; with depth it falls behind ([two deeper
models](which-method.md#does-depth-change-it)). And where there is cross-attention, the paper's method is also
measured without its normalisation (rules 8 and 9), which gives what the key tokens took in from each other half of the
weight, however little it matters to the answer.
"""


def tables(name: str, figures: ModelFigures) -> Iterator[Table]:
    """A table for each segment of a model."""
    from rich.table import Table

    for segment, entry in figures["segments"].items():
        table = Table(
            title=f"zoo/{name}: {SEGMENTS[segment]}, {counted(entry['samples'], 'sample')}", title_justify="left"
        )
        table.add_column("method")
        for figure in _figures(entry):
            table.add_column(FIGURES[figure], justify="right")
        for row, values in entry["rows"].items():
            table.add_row(row, *(_cell(values[figure]) for figure in values), style="dim" if row in REFERENCES else "")
        yield table


def markdown(measured: Mapping[str, KeptFigures]) -> str:
    """The page of all models that were measured, by name."""
    return "\n".join((HEAD, *(_model(name, measured[name]) for name in sorted(measured))))


def verdict(figure: str, rows: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Whether the paper's method has the best figure, and if not, which have a better one."""
    paper = rows[PAPER][figure]
    better = [row for row in rows if row != PAPER and rows[row][figure][0] > paper[0]]
    equal = [_row_name(row) for row in rows if row != PAPER and rows[row][figure][0] == paper[0]]
    if not better:
        among = f" (as good: {', '.join(equal)})" if equal else ""
        return f"{FIGURES[figure]}: the paper's method is best{among}."
    told = " and ".join(
        f"{_row_name(row)} {rows[row][figure][0]:.3f} ({_apart(paper, rows[row][figure])})" for row in better
    )
    return f"{FIGURES[figure]}: **the paper's method does not win**, {paper[0]:.3f} against {told}."


def _apart(paper: list[float], other: list[float]) -> str:
    return "intervals overlap" if paper[2] >= other[1] else "intervals apart"


def _model(name: str, figures: KeptFigures) -> str:
    right = f"{figures['right']} of {counted(figures['samples'], 'sample')} answered rightly"
    facts = f"{right}, {counted(figures['answers'], 'answer')} explained."
    if figures.get("refused"):
        facts += f" Not defined for it: {', '.join(map(_row_name, figures['refused']))}."
    parts = [_segment(segment, entry) for segment, entry in figures["segments"].items()]
    return f"## zoo/{name}\n\n{facts}\n\n" + "\n".join(parts)


def _segment(segment: str, entry: SegmentFigures) -> str:
    figures, rows = _figures(entry), entry["rows"]
    best = {figure: max(values[figure][0] for values in rows.values()) for figure in figures}
    head = f"| | {' | '.join(FIGURES[figure] for figure in figures)} |\n|---|{'---|' * len(figures)}"
    lines = [
        f"| {_row_name(row)} | {' | '.join(_marked(values[f], best[f]) for f in figures)} |"
        for row, values in rows.items()
    ]
    verdicts = "\n".join(f"- {verdict(figure, rows)}" for figure in figures)
    title = f"### {SEGMENTS[segment].capitalize()} ({counted(entry['samples'], 'sample')})"
    return "\n".join((title, "", head, *lines, "", verdicts, ""))


def _figures(entry: SegmentFigures) -> list[str]:
    return list(next(iter(entry["rows"].values())))


def _row_name(row: str) -> str:
    return f"`{row}`" if row in (*METHODS, ABLATED) else row


def _marked(values: list[float], best: float) -> str:
    return f"**{values[0]:.3f}** ({values[1]:.3f}–{values[2]:.3f})" if values[0] == best else _cell(values)


def _cell(values: list[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f}–{values[2]:.3f})"
