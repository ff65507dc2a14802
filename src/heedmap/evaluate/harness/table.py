"""A run's leaderboard for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD

from heedmap.evaluate.harness.page import verdict

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"better": "green", "worse": "red", "": ""}


def leaderboard(summary: Mapping[str, Any]) -> Table:
    """Methods by mean rank, a lettered column a measure; green and red: clearly better or worse than the paper's method."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{summary['evaluation']} of {summary['model']['name']}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("method", min_width=22, overflow="ellipsis", no_wrap=True)
    table.add_column("rank", justify="right", min_width=4, no_wrap=True)
    for letter, _ in _lettered(summary):
        table.add_column(letter, justify="right", min_width=5, no_wrap=True)
    for entry in summary["leaderboard"]:
        cells = [Text(*_cell(entry["method"], measure)) for _, measure in _lettered(summary)]
        bold = "bold" if entry["method"] == summary["reference"] else ""
        table.add_row(Text(entry["method"]), f"{entry['rank']:.1f}", *cells, style=bold)
    return table


def notes(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the columns are, and what was left out."""
    for letter, measure in _lettered(summary):
        yield f"  {letter}: {measure['title']} ({measure['better']} is better)"
    for name, why in summary["refused"].items():
        yield f"left out: {name}: {why}"
    skipped = summary["skipped"]
    if skipped["count"]:
        key, why = next(iter(skipped["why"].items()))
        yield f"{skipped['count']:,} samples were skipped, such as {key}: {why}; summary.json lists them"


def _lettered(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(ascii_uppercase, summary["measures"], strict=False))


def _cell(name: str, measure: Mapping[str, Any]) -> tuple[str, str]:
    row = next((one for one in measure["rows"] if one["method"] == name), None)
    if row is None or row["value"] is None:
        return "–", ""
    return f"{row['value']:.3f}", STYLES[verdict(row, measure)]
