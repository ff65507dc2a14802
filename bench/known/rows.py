"""Measurements, kept as they come, so that a run that stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from heedmap.errors import HeedmapError

Row = dict[str, Any]
"""One measurement: ``unit`` (what is resampled), ``key`` (of the work it came from), ``method``, and figures by name."""


def kept(path: Path, key: str, make: Callable[[], Iterable[Row]]) -> None:
    """Append the rows that ``make`` gives to the file, unless that was done for ``key`` already, also where they were none."""
    if not any(line["key"] == key for line in _lines(path)):
        made = [{"key": key, **row} for row in make()] or [{"key": key}]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in made))
        print(key, flush=True)


def refused(method: str, error: HeedmapError) -> Row:
    """The row of a method that a model refuses."""
    return {"method": method, "refused": str(error).partition(": ")[2].partition(";")[0]}


def read(path: Path) -> list[Row]:
    """All rows of the file; none where there is no file."""
    return [line for line in _lines(path) if set(line) != {"key"}]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The rows, and for work that gave none its key alone."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
