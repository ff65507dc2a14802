"""What a run leaves in its folder: its configuration, its measurements part by part, what they say, and that for people.

``config.json`` is written first. Each part of the samples is one Parquet file, written whole or not at all, so a run that was
killed goes on behind its last whole part. ``summary.json``, the curves and the report come last. The report is one HTML
file that loads nothing; of the same summary is the leaderboard for the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import ascii_uppercase
from types import ModuleType
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from rich.box import SIMPLE_HEAD

from heedmap.common.extras import library
from heedmap.common.files import HeldFolder
from heedmap.common.printable import counted, without_folders
from heedmap.errors import FileFormatError
from heedmap.evaluate.statistics import CurveLine, MeanRank, MeasureFigures, MethodFigure, Row
from heedmap.methods.cards import CHANCE
from heedmap.render.files import figure_bytes
from heedmap.render.html import data_url, document, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

FORMAT = "heedmap-evaluation"
VERSION = 1
SUMMARY, REPORT = "summary.json", "report.html"

CLEAR = 0.05
"""A difference with a smaller p is called clear."""
COLOURS = {"better": "green", "worse": "red", "": ""}
DOTS = 110
INK, FAINT = "#40346e", "#9a9aa2"
MARKS = ("-", "--", ":", "-.")
METHOD, RANK, FIGURE = 23, 5, 6
"""Columns of a terminal: for a method's name, its rank and a figure, with the space after."""
AGREEMENT = "how alike two methods rank the tokens (rank correlation of their maps, mean over the samples)"


class RunConfig(TypedDict):
    """All on which a run depends."""

    evaluation: str
    settings: dict[str, object]
    model: dict[str, str]
    data: dict[str, object]
    samples: int
    seed: int
    part: int
    contenders: list[dict[str, object]]


class SummaryCurve(TypedDict):
    """A curve as a summary has it."""

    key: str
    title: str
    x_label: str
    y_label: str
    x: list[float]
    lines: dict[str, CurveLine]


class Skipped(TypedDict):
    """How many samples a run skipped, and why the first ones."""

    count: int
    why: dict[str, str]


class Summary(RunConfig):
    """What a run found, as ``summary.json`` holds it."""

    format: str
    version: int
    reference: str
    skipped: Skipped
    refused: dict[str, str]
    leaderboard: list[MeanRank]
    measures: list[MeasureFigures]
    curves: list[SummaryCurve]
    facts: dict[str, object]


class RunFolder(HeldFolder[RunConfig]):
    """The folder of an evaluation."""

    format, version, holds = FORMAT, VERSION, "an evaluation"

    def has_part(self, number: int) -> bool:
        """Whether this part of the samples is measured."""
        return (self.path / _part(number)).exists()

    def write_part(self, number: int, rows: Sequence[Row], skipped: Mapping[str, str], seconds: float) -> None:
        """Write the measurements of a part, and which of its samples were skipped and why."""
        arrow, parquet = _libraries()
        facts = {"skipped": json.dumps(dict(skipped)), "seconds": repr(seconds)}
        table = arrow.Table.from_pylist(list(rows)).replace_schema_metadata(facts)
        buffer = arrow.BufferOutputStream()
        parquet.write_table(table, buffer)
        self.write_file(_part(number), buffer.getvalue().to_pybytes())

    def rows(self, parts: int) -> Iterator[Row]:
        """All measurements, in order of parts; FileFormatError names a damaged file."""
        _, parquet = _libraries()
        for number in range(parts):
            with _whole(self.path / _part(number)) as path:
                table = parquet.read_table(path)
            yield from table.to_pylist()

    def skipped(self, parts: int) -> dict[str, str]:
        """Key → why, of the samples that were skipped."""
        skipped: dict[str, str] = {}
        for number in range(parts):
            skipped |= json.loads(self._facts(number)[b"skipped"])
        return dict(sorted(skipped.items()))

    def seconds(self, parts: int) -> float:
        """How long the measurements took."""
        return sum(float(self._facts(number)[b"seconds"]) for number in range(parts))

    def conclude(self, summary: Summary, parts: int) -> None:
        """Write what the run found, its curves and its report."""
        pictures = {curve["key"]: curve_png(curve, summary["reference"]) for curve in summary["curves"]}
        for key, data in pictures.items():
            self.write_file(f"curves/{key.replace('/', '-')}.png", data)
        self.write_file(REPORT, report(summary, pictures, self.seconds(parts)).encode())
        self.write_json(SUMMARY, summary)

    def _facts(self, number: int) -> Mapping[bytes, bytes]:
        _, parquet = _libraries()
        with _whole(self.path / _part(number)) as path:
            return dict(parquet.read_schema(path).metadata)


def _part(number: int) -> str:
    return f"rows/part-{number:05d}.parquet"


def read_summary(path: Path) -> Summary:
    """The summary of a finished run.

    Raises:
        FileFormatError: there is none, or it is damaged.
    """
    try:
        summary: Summary = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        if summary["format"] == FORMAT:
            return summary
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise FileFormatError(f"{path / SUMMARY} is no summary of an evaluation; run the evaluation to its end")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """The path of a part; whatever is wrong with it is a FileFormatError."""
    try:
        yield path
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{path} is damaged ({error}); remove it and run again: only this part is measured anew"
        ) from error


def _libraries() -> tuple[ModuleType, ModuleType]:
    needs = "the measurements' Parquet files need"
    return library("pyarrow", "eval", needs), library("pyarrow.parquet", "eval", needs)


# -- the page ----------------------------------------------------------------------------------------------------------


def report(summary: Summary, pictures: Mapping[str, bytes], seconds: float) -> str:
    """The page.

    Args:
        summary: of the run.
        pictures: key of a curve → PNG file.
        seconds: that the measurements took.
    """
    name = f"{summary['evaluation']} of {summary['model']['name']}"
    body = render(
        "report.html",
        name=name,
        facts=_facts(summary, seconds),
        reference=summary["reference"],
        measures=summary["measures"],
        leaderboard=[
            {**entry, "cells": [_cell(entry["method"], measure) for measure in summary["measures"]]}
            for entry in summary["leaderboard"]
        ],
        curves=[{**curve, "url": data_url(pictures[curve["key"]])} for curve in summary["curves"]],
        refused=summary["refused"],
        skipped=summary["skipped"],
        agreement=_agreements(summary),
    )
    return document(body, f"heedmap: {name}", "wide")


def row_of(name: str, measure: MeasureFigures) -> MethodFigure | None:
    """What a measure of a summary says of a contender; None: it has no value."""
    return next((row for row in measure["rows"] if row["method"] == name and row["value"] is not None), None)


def verdict(row: MethodFigure, measure: MeasureFigures) -> str:
    """``"better"`` or ``"worse"`` than the paper's method, where the difference is clear (p < 0.05), else ``""``."""
    p, difference = row.get("p"), row.get("difference")
    if p is None or p >= CLEAR or not difference:
        return ""
    return "better" if (difference > 0) == (measure["better"] == "higher") else "worse"


def _facts(summary: Summary, seconds: float) -> dict[str, object]:
    skipped = summary["skipped"]["count"]
    return {
        "model": f"{summary['model']['name']} (weights {summary['model']['weights']})",
        "data": ", ".join(
            f"{key}: {without_folders(value) if isinstance(value, str) else value}"
            for key, value in summary["data"].items()
        ),
        "samples": f"{summary['samples']:,}" + (f", {skipped:,} skipped" if skipped else ""),
        "settings": ", ".join(f"{key}: {json.dumps(value)}" for key, value in summary["settings"].items()),
        "seed": summary["seed"],
        "measured in": _duration(seconds),
    }


def _duration(seconds: float) -> str:
    """``12 s``, ``3.4 min`` or ``2.1 h``."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.5 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cell(method: str, measure: MeasureFigures) -> dict[str, object]:
    """A value with its interval and the classes that say how good it is; nothing where it was not measured."""
    row = row_of(method, measure)
    if row is None:
        return {}
    best = "best" if row["value"] == measure["rows"][0]["value"] else ""
    return {**row, "kind": f"{verdict(row, measure)} {best}".strip()}


# -- curves ------------------------------------------------------------------------------------------------------------


def curve_png(curve: SummaryCurve, reference: str) -> bytes:
    """One curve of a summary as a PNG file.

    Args:
        curve: an entry of the summary's ``curves``.
        reference: the contender whose line is drawn thick, with its interval.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 4.4), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw(axes, curve, reference)
    axes.set(title=curve["title"], xlabel=curve["x_label"], ylabel=curve["y_label"])
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7.5, frameon=False)
    return figure_bytes(figure, ".png", DOTS)


def _draw(axes: Axes, curve: SummaryCurve, reference: str) -> None:
    from matplotlib import colormaps

    colours, steps = colormaps["tab10"], curve["x"]
    drawn = {
        name: {key: np.array(values, dtype=float) for key, values in line.items()}
        for name, line in curve["lines"].items()
    }
    for place, name in enumerate(name for name in drawn if name not in (reference, CHANCE)):
        (line,) = axes.plot(steps, drawn[name]["y"], linewidth=1.1, alpha=0.85, label=name)
        line.set(color=colours(place % 10), linestyle=MARKS[place // 10 % len(MARKS)])
    if CHANCE in drawn:
        axes.plot(steps, drawn[CHANCE]["y"], color=FAINT, linewidth=2, label=CHANCE)
    if reference in drawn:
        own = drawn[reference]
        axes.fill_between(steps, own["low"], own["high"], color=INK, alpha=0.15, linewidth=0)
        axes.plot(steps, own["y"], color=INK, linewidth=2.6, label=reference)


# -- the terminal ------------------------------------------------------------------------------------------------------


def tables(summary: Summary, width: int) -> Iterator[Table]:
    """The leaderboard, in as many tables as a terminal of ``width`` columns needs, and which methods agree.

    Of the leaderboard: methods by mean rank, a lettered column a measure; green and red: clearly better or worse than the
    paper's method.
    """
    lettered, room = _lettered(summary), max(1, (width - METHOD - RANK) // FIGURE)
    for start in range(0, len(lettered), room):
        yield _leaderboard(summary, lettered[start : start + room], again=start > 0)
    for segment, names, rows in _agreements(summary):
        yield from _agreement_tables(segment, names, rows, width)


def _leaderboard(summary: Summary, lettered: Sequence[tuple[str, MeasureFigures]], *, again: bool) -> Table:
    from rich.text import Text

    table = _table(f"{summary['evaluation']} of {summary['model']['name']}{', more measures' if again else ''}")
    table.add_column("method", width=METHOD - 1, overflow="fold")
    table.add_column("rank", justify="right", width=RANK - 1, no_wrap=True)
    for letter, _ in lettered:
        table.add_column(letter, justify="right", width=FIGURE - 1, no_wrap=True)
    for entry in summary["leaderboard"]:
        cells = [Text(*_shown(entry["method"], measure)) for _, measure in lettered]
        bold = "bold" if entry["method"] == summary["reference"] else ""
        table.add_row(Text(entry["method"]), f"{entry['rank']:.1f}", *cells, style=bold)
    return table


def _agreement_tables(
    segment: str, names: Sequence[str], rows: Sequence[Sequence[float]], width: int
) -> Iterator[Table]:
    """The rank correlations of the methods' maps, a lettered column a method."""
    room = max(1, (width - METHOD - 3) // FIGURE)
    for start in range(0, len(names), room):
        table = _table(f"{segment}: {AGREEMENT}")
        table.add_column("method", width=METHOD + 2, overflow="fold")
        for number in range(start, min(start + room, len(names))):
            table.add_column(_letter(number), justify="right", width=FIGURE - 1, no_wrap=True)
        for number, (name, row) in enumerate(zip(names, rows, strict=True)):
            table.add_row(f"{_letter(number)} {name}", *(f"{value:.2f}" for value in row[start : start + room]))
        yield table


def _table(title: str) -> Table:
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)


def notes(summary: Summary) -> Iterator[str]:
    """What the columns are, and what was left out."""
    for letter, measure in _lettered(summary):
        yield f"  {letter}: {measure['title']} ({measure['better']} is better)"
    for name, why in summary["refused"].items():
        yield f"left out: {name}: {why}"
    skipped = summary["skipped"]
    if skipped["count"]:
        key, why = next(iter(skipped["why"].items()))
        were = "was" if skipped["count"] == 1 else "were"
        yield f"{counted(skipped['count'], 'sample')} {were} skipped, such as {key}: {why}; summary.json lists them"


def _lettered(summary: Summary) -> list[tuple[str, MeasureFigures]]:
    return [(_letter(number), measure) for number, measure in enumerate(summary["measures"])]


def _letter(number: int) -> str:
    """A, B … Z, AA, AB …, as columns of a spreadsheet are called."""
    before, place = divmod(number, len(ascii_uppercase))
    return (_letter(before - 1) if before else "") + ascii_uppercase[place]


def _agreements(summary: Summary) -> list[tuple[str, Sequence[str], Sequence[Sequence[float]]]]:
    """Of each segment the methods, and how alike the maps of any two rank the tokens; none where that was not asked."""
    found = summary["facts"].get("agreement")
    segments = found.items() if isinstance(found, dict) else ()
    return [(segment, facts["methods"], facts["spearman"]) for segment, facts in segments]


def _shown(name: str, measure: MeasureFigures) -> tuple[str, str]:
    row = row_of(name, measure)
    return ("–", "") if row is None else (f"{row['value']:.3f}", COLOURS[verdict(row, measure)])
