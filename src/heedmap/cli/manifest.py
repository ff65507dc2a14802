"""A folder of maps: their names, and what is known of them, in ``results.jsonl`` for programs, ``index.html`` for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Required, TypedDict
from urllib.parse import quote

from heedmap.cli.inputs import InputRow
from heedmap.common.files import write_output
from heedmap.common.printable import counted, cut, without_folders
from heedmap.errors import InputError, OptionError, OutputError

RESULTS, INDEX = "results.jsonl", "index.html"
LONGEST = 160
"""Letters of an input that the page shows."""
COLUMNS = ("input", "map", "prediction", "explained", "score")
RESERVED = ("index", "results")
"""Names that no map may have."""


class Outcome(TypedDict, total=False):
    """What was explained, or why nothing was."""

    prediction: str
    target: str
    score: float
    file: str
    error: str


class MapEntry(Outcome):
    """An input of a folder; ``input``: role → text or path, ``key``: of all that its map depends on."""

    number: Required[int]
    name: Required[str]
    input: Required[dict[str, str | list[str]]]
    key: Required[str]


class Record:
    """The entries of a folder, by the name of the input; each is added as soon as its map is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = {entry["name"]: entry for entry in _read(folder / RESULTS)}

    def has(self, name: str, key: str, file: str) -> bool:
        """Whether the map of this very input is there."""
        known = self.entries.get(name)
        return known is not None and known["key"] == key and (self.folder / file).is_file()

    def check(self, keys: Mapping[str, str], ending: str) -> None:
        """See that no map of something else would be written over.

        Args:
            keys: name of an input → its key.
            ending: of its file.

        Raises:
            OptionError: one would.
        """
        others = [
            name for name, key in keys.items()
            if (self.folder / f"{name}{ending}").exists() and not self.has(name, key, f"{name}{ending}")
        ]  # fmt: skip
        if others:
            raise OptionError(
                f"{self.folder} holds {counted(len(others), 'map')} of the same names that were made of another input, model, "
                f"method or target, such as {others[0]}{ending}; give another folder with --out, or --overwrite"
            )

    def add(self, entry: MapEntry) -> None:
        """Keep an entry, also on disk; a line that is cut off by a crash is passed over when it is read again."""
        self.entries[entry["name"]] = entry.copy()
        try:
            with (self.folder / RESULTS).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.folder / RESULTS}: {error.strerror or error}") from error

    def finish(self, title: str, names: Iterable[str]) -> None:
        """Write both files anew: the inputs called ``names`` in this order, then what else the folder has."""
        names = dict.fromkeys((*names, *self.entries))
        entries = [self.entries[name] for name in names]
        write_output(self.folder / RESULTS, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
        write_output(self.folder / INDEX, index_page(entries, title).encode("utf-8", "replace"))


def index_page(entries: Iterable[MapEntry], title: str) -> str:
    """The entries as a page with a link to each map.

    Args:
        entries: of a folder.
        title: of the page.
    """
    from heedmap.render.html import document, render

    listed = [_shown(entry) for entry in entries]
    bad = sum("error" in entry for entry in listed)
    body = render("manifest.html", title=title, columns=COLUMNS, entries=listed, bad=bad)
    return document(body, f"heedmap: {title}", "wide")


def input_words(given: Mapping[str, object]) -> str:
    """An input in a few words: its text, and the paths of its files."""
    parts = [" | ".join(value) if isinstance(value, list | tuple) else str(value) for value in given.values()]
    words = " · ".join(parts)
    return cut(words, LONGEST)


def _shown(entry: MapEntry) -> dict[str, object]:
    """An entry with its input in words and the address of its map."""
    given = {
        role: without_folders(value) if role != "text" and isinstance(value, str) else value
        for role, value in entry["input"].items()
    }
    words = input_words(given) or entry["name"]
    return {**entry, "words": words, "link": quote(entry.get("file", ""))}


def _read(path: Path) -> Iterable[MapEntry]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry: MapEntry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and "key" in entry:
                yield entry


def names_of(rows: Sequence[InputRow]) -> list[str]:
    """A name for each row, without an ending: its ``id``; or that of its file, where it has one that no other has; or its
    number.

    Raises:
        InputError: an ``id`` is given to two rows, or is no name of a file.
    """
    for row in rows:
        if row.name and not _usable(row.name):
            raise InputError(f"the id {row.name!r} is no name for a file; give one without a slash, not {RESERVED}")
    stems = [row.name or _stem(row) for row in rows]
    width = max(4, len(str(max((row.number for row in rows), default=1))))
    numbered = [row.name or f"{row.number:0{width}}" for row in rows]
    names = stems if _distinct(stems) and all(map(_usable, stems)) else numbered
    if not _distinct(names):
        twice = next(name for name, count in Counter(map(str.casefold, names)).items() if count > 1)
        raise InputError(f"two inputs have the id {twice!r}; give each another, for the file of its map")
    return names


def _stem(row: InputRow) -> str:
    """Of its picture, or of what else it is read from."""
    paths = (row.given.get(role) for role in ("image", "audio", "boxes"))
    return next((path.stem for path in paths if isinstance(path, Path)), "")


def _usable(name: str) -> bool:
    plain = bool(name) and not name.startswith(".") and not set(name) & set('/\\\0:*?"<>|')
    return plain and name.casefold() not in RESERVED and len(name.encode()) < 200


def _distinct(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)
