"""A table of one's own samples: several files, or the rows of a JSON lines or CSV file, each asked by itself."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heedmap.common.printable import cut
from heedmap.datasets.files import SUFFIXES
from heedmap.errors import InputError
from heedmap.web.form_inputs import FormValues, Takes
from heedmap.web.uploads import Limits, check_bytes

LISTS = (".jsonl", ".csv")
"""Endings of files that list texts."""
COLUMNS = ("text", "second")
LONGEST = 80


@dataclass(frozen=True)
class TableRow:
    """One sample of a table.

    Attributes:
        name: what it is called: its text, or the name of its file.
        given: as if it had been given in the fields.
        answer: what the model says first; "" where it was not asked yet.
        probability: of it; None: it has none.
        error: why there is no answer.
    """

    name: str
    given: FormValues
    answer: str = ""
    probability: float | None = None
    error: str = ""


@dataclass(frozen=True)
class AnswersTable:
    """What a model says of many samples: one person's own, until the next table."""

    model: str
    rows: tuple[TableRow, ...]

    def row(self, number: int) -> TableRow:
        """Row ``number``, from 0; InputError where there is none."""
        if not 0 <= number < len(self.rows):
            raise InputError("this row is not in the table; ask for the table again")
        return self.rows[number]


def rows_of(files: Sequence[str | Path], given: FormValues, takes: Takes, limits: Limits) -> list[TableRow]:
    """The samples of the files; what a row does not say is taken from ``given``.

    Raises:
        InputError: no file, none that the model can take, one without the column that is needed, or too many rows.
    """
    rows: list[TableRow] = []
    given = given if "boxes" in takes.roles else replace(given, number=None)  # of a sample its boxes alone are taken
    for path in map(Path, files):
        rows += _of_file(path, given, takes, limits)
        if len(rows) > limits.rows:
            raise InputError(f"there are more than {limits.rows} samples; give at most so many at once")
    if not rows:
        raise InputError("there is no sample; give pictures, sounds, or a .jsonl or .csv file with a column text")
    return rows


def _of_file(path: Path, given: FormValues, takes: Takes, limits: Limits) -> list[TableRow]:
    ending = path.suffix.lower()
    check_bytes(path, f"file {path.name}", limits)
    if ending in LISTS and "text" in takes.roles:
        return list(_texts(path, given, takes, limits))
    if ending in SUFFIXES and "image" in takes.roles:
        return [TableRow(path.name, replace(given, image=str(path)))]
    if ending == ".wav" and "audio" in takes.roles:
        return [TableRow(path.name, replace(given, audio=str(path)))]
    known = {"text": "a .jsonl or .csv file", "image": "pictures", "audio": ".wav files"}
    wanted = " or ".join(what for role, what in known.items() if role in takes.roles)
    raise InputError(f"{path.name} is nothing that this model takes; give {wanted}")


def _texts(path: Path, given: FormValues, takes: Takes, limits: Limits) -> Iterator[TableRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        read = list((_json if path.suffix.lower() == ".jsonl" else _csv)(text, path.name))
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path.name} cannot be read ({error}); expected a CSV file with a header") from None
    if len(read) > limits.rows:
        raise InputError(f"{path.name} has {len(read)} rows; the page takes up to {limits.rows}: give a part of it")
    for place, row in read:
        first, second = (_string(row, name, place) for name in COLUMNS)
        if second and not takes.pair:
            raise InputError(f"{place} has a second text, and this model reads one; leave the column second out")
        name = cut(first or "", LONGEST)
        yield TableRow(name or f"{place}: empty", replace(given, text=first or "", second=second or given.second))


def _string(row: Mapping[str, object], name: str, place: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{place}: its {name} is {value!r:.60}; expected a string")
    return value


def _json(text: str, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place} is no JSON ({error}); expected an object a line") from None
        if not isinstance(row, dict) or "text" not in row:
            told = f"the columns {', '.join(map(str, row))}" if isinstance(row, dict) else f"{type(row).__name__}"
            raise InputError(f'{place} has {told:.200}; a text is needed: {{"text": "…"}} a line')
        yield place, row


def _csv(text: str, name: str) -> Iterator[tuple[str, dict[str, object]]]:
    table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = list(table.fieldnames or ())
    if "text" not in columns:
        told = ", ".join(columns) or "none"
        raise InputError(f"{name} has the columns {told:.200}; a column called text is needed")
    for row in table:
        yield f"{name}, line {table.line_num}", {key: row[key] for key in COLUMNS if row.get(key) is not None}
