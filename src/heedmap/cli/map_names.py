"""What the maps of many inputs are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from heedmap.cli.input_lists import Row
from heedmap.errors import InputError

RESERVED = ("index", "results")
"""Names of the files that list the maps."""


def names_of(rows: Sequence[Row]) -> list[str]:
    """A name for each row, without an ending: its ``id``; or that of its file, where it has one that no other has; or its
    number.

    Raises:
        InputError: an ``id`` is given to two rows, or is no name of a file.
    """
    for row in rows:
        if row.name and not _usable(row.name):
            raise InputError(f"the id {row.name!r} is no name for a file; give one without a slash, not {RESERVED}")
    stems = [row.name or _stem(row) for row in rows]
    own = stems if _distinct(stems) and all(map(_usable, stems)) else []
    width = max(4, len(str(max((row.number for row in rows), default=1))))
    found = own or [row.name or f"{row.number:0{width}}" for row in rows]
    if not _distinct(found):
        twice = next(name for name, count in Counter(map(str.casefold, found)).items() if count > 1)
        raise InputError(f"two inputs have the id {twice!r}; give each another, for the file of its map")
    return found


def _stem(row: Row) -> str:
    """Of its picture, or of what else it is read from."""
    paths = [row.given[role] for role in ("image", "audio", "boxes") if isinstance(row.given.get(role), Path)]
    return paths[0].stem if paths else ""


def _usable(name: str) -> bool:
    plain = bool(name) and not name.startswith(".") and not set(name) & set('/\\\0:*?"<>|')
    return plain and name.casefold() not in RESERVED and len(name.encode()) < 200


def _distinct(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)
