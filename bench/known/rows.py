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
    """Append the rows that ``make`` gives to the file, unless it has those of ``key`` already."""
    if not any(row["key"] == key for row in read(path)):
        made = [json.dumps({"key": key, **row}) + "\n" for row in make()]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(made))
        print(key, flush=True)


def refused(method: str, error: HeedmapError) -> Row:
    """The row of a method that a model refuses."""
    return {"method": method, "refused": str(error).partition(": ")[2].partition(";")[0]}


def read(path: Path) -> list[Row]:
    """All rows of the file; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
