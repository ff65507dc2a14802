"""The page of the models: what was explained, how it was checked, and why the rest is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .processes import Row


def counts(rows: Sequence[Row]) -> str:
    """Counts by verdict."""
    return "\n".join(f"{count:6} {verdict}" for verdict, count in Counter(row["verdict"] for row in rows).most_common())


def written(rows: Sequence[Row]) -> str:
    """The page."""
    raise NotImplementedError
