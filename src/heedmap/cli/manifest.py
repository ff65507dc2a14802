"""What is known of a folder of maps: ``results.jsonl`` for programs, ``index.html`` for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from heedmap.atomic import write_output
from heedmap.errors import OptionError, OutputError

RESULTS, INDEX = "results.jsonl", "index.html"
LONGEST = 160
"""Letters of an input that the page shows."""
COLUMNS = ("input", "map", "prediction", "explained", "score")


class Record:
    """The entries of a folder, by the name of the input; each is added as soon as its map is written.

    An entry is plain JSON data: ``number``, ``name``, ``input`` (role → text or path), ``key`` (of all that its map depends
    on), and either ``prediction``, ``target``, ``score`` and ``file``, or ``error``.
    """

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
                f"{self.folder} holds {len(others)} maps of the same names that were made of another input, model, method "
                f"or target, such as {others[0]}{ending}; give another folder with --out, or --overwrite"
            )

    def add(self, entry: Mapping[str, Any]) -> None:
        """Keep an entry, also on disk; a line that is cut off by a crash is passed over when it is read again."""
        self.entries[entry["name"]] = dict(entry)
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


def index_page(entries: Iterable[Mapping[str, Any]], title: str) -> str:
    """The entries as a page with a link to each map.

    Args:
        entries: see :class:`Record`.
        title: of the page.
    """
    from heedmap.render.html import document, render

    listed = [_shown(entry) for entry in entries]
    bad = sum("error" in entry for entry in listed)
    body = render("manifest.html", title=title, columns=COLUMNS, entries=listed, bad=bad)
    return document(body, f"heedmap: {title}", "wide")


def input_words(given: Mapping[str, Any]) -> str:
    """An input in a few words: its text, and the paths of its files."""
    parts = [" | ".join(value) if isinstance(value, list | tuple) else str(value) for value in given.values()]
    words = " · ".join(parts)
    return words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with its input in words and the address of its map."""
    words = input_words(entry["input"]) or entry["name"]
    return {**entry, "words": words, "link": quote(entry.get("file", ""))}


def _read(path: Path) -> Iterable[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and "key" in entry:
                yield entry
