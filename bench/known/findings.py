"""What was found behind figures that surprise, with the numbers from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from known.rows import Row
from known.summary import Table


def told(tables: Mapping[str, Table], reacted: Sequence[Row]) -> dict[str, str]:
    """The text after each table."""
    return {"reactions": "", "speech": ""}
