"""From rows to figures with intervals, and what may be said of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import heedmap
from heedmap.evaluate.statistics import interval
from known.rows import Row

PAPER = "generic"
TITLES = {
    "share": "share inside",
    "rest": "share inside, but for the first",
    "atoms": "share inside, atoms and bonds",
    "group": "share inside, with =O",
    "pointing": "pointing game",
    "auc": "ROC-AUC",
    "centre": "centre off by, s",
    "peak": "peak off by, s",
    "nearest": "nearest atom",
    "distance": "mean distance, cells",
    "hops-1": "1 hop",
    "hops-2": "2 hops",
    "hops-4": "4 hops",
    "hops-6": "6 hops",
}
LOWER = ("centre", "peak", "distance")
"""Figures of which less is better."""

Table = Mapping[str, Mapping[str, Sequence[float]]]
"""Method → figure → mean, and the ends of its interval."""


def summary(rows: Sequence[Row], figures: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """The table of some rows: a unit is the mean of its rows, a figure the mean of the units, which are resampled."""
    units: dict[str, dict[Any, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        units[row["method"]][row["unit"]].append(row)
    return {
        method: {figure: _interval(by_unit.values(), figure) for figure in figures} for method, by_unit in units.items()
    }


def _interval(units: Any, figure: str) -> list[float]:
    values = np.array([np.mean([row[figure] for row in rows]) for rows in units])
    return [round(float(value), 4) for value in interval(values)]


def best(table: Table, figure: str) -> float:
    """The best mean of a figure."""
    values = [entry[figure][0] for entry in table.values()]
    return min(values) if figure in LOWER else max(values)


def verdict(table: Table, figure: str) -> str:
    """Whether the paper's method has the best figure, and if not, which have a better one."""
    own = table[PAPER][figure]
    better = {name: entry[figure] for name, entry in table.items() if _is_better(entry[figure][0], own[0], figure)}
    if not better:
        equal = [f"`{n}`" for n, entry in table.items() if n != PAPER and entry[figure][0] == own[0]]
        return f"{TITLES[figure]}: the paper's method is best{' (as good: ' + ', '.join(equal) + ')' if equal else ''}."
    told = " and ".join(f"{called(name)} {values[0]:.3f} ({_apart(own, values)})" for name, values in better.items())
    return f"{TITLES[figure]}: **the paper's method does not win**, {own[0]:.3f} against {told}."


def _is_better(value: float, own: float, figure: str) -> bool:
    return value < own if figure in LOWER else value > own


def _apart(one: Sequence[float], other: Sequence[float]) -> str:
    return "intervals overlap" if one[2] >= other[1] and other[2] >= one[1] else "intervals apart"


def called(name: str) -> str:
    """How a row is called on the page: what is no method is not written as code."""
    return f"`{name}`" if name.split(",")[0] in heedmap.METHODS else name
