"""Which method the evidence supports best for a flow: a table of data, ``supported.json``, made by ``bench/which_method.py``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from heedmap.common.printable import counted

if TYPE_CHECKING:
    from heedmap.attention.flow import Graph

PAGE = "docs/which-method.md"
TABLE = Path(__file__).with_name("supported.json")
ALL = "all"
"""The cell of all tables together."""
KNOWN = ("audio", "boxes", "image", "text")
"""Segments that tables are of."""
ONE, CROSS, CO, TOWERS, MIXERS = "one stream", "cross-attention", "co-attention", "towers", "mixers"


class TableCell(TypedDict):
    """What the tables of one kind say: ``order`` has methods, the best supported first; ``beats`` their share of the others with
    its interval, and ``measured_in`` their number of tables."""

    models: list[str]
    tables: int
    order: list[str]
    beats: dict[str, list[float]]
    measured_in: dict[str, int]


class Ranks(TypedDict):
    """``mean``: method → its mean rank and both ends of its interval, over so many ``tables``, of so many ``methods``."""

    mean: dict[str, list[float]]
    tables: int
    methods: int


class Table(TypedDict):
    """``supported.json``; ``cells`` by their names."""

    cells: dict[str, TableCell]
    ranks: Ranks


@dataclass(frozen=True)
class Supported:
    """A method, and what supports it.

    Attributes:
        name: of the method.
        beats: share of the other methods that it is before, and both ends of its 95 % interval; 0 to 1.
        tables: number of tables that the share is a mean over.
        cell: what these tables are of.
    """

    name: str
    beats: tuple[float, float, float]
    tables: int
    cell: str

    @property
    def words(self) -> str:
        """Why it is taken, for people."""
        where = "all kinds of models" if self.cell == ALL else self.cell
        return f"it is before {percent(self.beats)} of the other methods in {counted(self.tables, 'table')} of {where} ({PAGE})"


def percent(share: Sequence[float]) -> str:
    """``71 % (65–78 %)``, of a share and both ends of its interval."""
    mean, low, high = (100 * value for value in share)
    return f"{mean:.0f} % ({low:.0f}–{high:.0f} %)"


def kind_of(graph: Graph, by_numbers: bool) -> str:
    """What kind of flow it is; ``by_numbers``: whether tokens are followed through mixers that are no softmax attention."""
    if by_numbers:
        return MIXERS
    if not graph.is_acyclic:
        return CO
    linked = [{s.index, *s.joins} for s in graph.streams] + [{e.stream, e.source} for e in graph.edges]
    group = {graph.streams[0].index}
    while more := set[int]().union(*(link for link in linked if link & group)) - group:
        group |= more
    if len(group) < len(graph.streams):
        return TOWERS
    return CROSS if any(not e.is_self and e.source not in graph.families[e.stream] for e in graph.edges) else ONE


def cell_of(kind: str, segments: Collection[str]) -> str:
    """The name of the cell of a flow: its kind, and which of :data:`KNOWN` its segments are of."""
    content = [name for name in KNOWN if any(segment.startswith(name) for segment in segments)]
    return f"{kind}: {' and '.join(content)}" if content else kind


@cache
def _read() -> Table:
    data: Table = json.loads(TABLE.read_text(encoding="utf-8"))
    return data


def ranks() -> Ranks:
    """The mean ranks over the tables."""
    return _read()["ranks"]


def table() -> Mapping[str, TableCell]:
    """The cells of ``supported.json``, by their names."""
    return _read()["cells"]


def ranking(kind: str, segments: Collection[str]) -> list[Supported]:
    """All methods of the table, the best supported for this flow first: by its own cell, else its kind's, else by all."""
    cells = table()
    name = next(cell for cell in (cell_of(kind, segments), kind, ALL) if cell in cells)
    cell = cells[name]
    return [
        Supported(method, (mean, low, high), cell["measured_in"][method], name)
        for method in cell["order"]
        for mean, low, high in [cell["beats"][method]]
    ]
