"""What a run found, for people: curves, a report, which is one HTML file that loads nothing, and tables for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD

from heedmap.common.printable import counted, without_folders
from heedmap.evaluate.folder import SUMMARY, RunFolder, Summary, SummaryCurve
from heedmap.evaluate.statistics import MeasureFigures, MethodFigure
from heedmap.methods.cards import CHANCE
from heedmap.render.files import figure_bytes
from heedmap.render.html import data_url, document, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

REPORT = "report.html"
CLEAR = 0.05
"""A difference with a smaller p is called clear."""
COLOURS = {"better": "green", "worse": "red", "": ""}
DOTS = 110
INK, FAINT = "#40346e", "#9a9aa2"
MARKS = ("-", "--", ":", "-.")
METHOD, RANK, FIGURE = 23, 5, 6
"""Columns of a terminal: for a method's name, its rank and a figure, with the space after."""
AGREEMENT = "how alike two methods rank the tokens (rank correlation of their maps, mean over the samples)"


def conclude(folder: RunFolder, summary: Summary, parts: int) -> None:
    """Write what the run found, its curves and its report."""
    pictures = {curve["key"]: curve_png(curve, summary["reference"]) for curve in summary["curves"]}
    for key, data in pictures.items():
        folder.write_file(f"curves/{key.replace('/', '-')}.png", data)
    folder.write_file(REPORT, report(summary, pictures, folder.seconds(parts)).encode())
    folder.write_json(SUMMARY, summary)


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
