"""Rows with columns: Parquet files, JSON lines, and data sets that the library ``datasets`` has saved.

A run has them as they are stored; of Parquet files there are also samples with their truth.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.files import FilePath, chosen_files, dated, described, mask, needed_file, parsed, picture, stored
from heedmap.datasets.rows import SourceRow, chosen_columns, made_row
from heedmap.datasets.sample import Foreground, RightAnswers, Sample, SampleInputs, Truth
from heedmap.datasets.vqa import SCORINGS, soft_scores
from heedmap.errors import FileFormatError, InputError, OptionError, SampleError

if TYPE_CHECKING:
    import pyarrow
    from PIL.Image import Image
    from pyarrow.parquet import ParquetFile

TRIED = 100
"""Lines that are looked at to learn which columns there are."""
AT_ONCE = 1 << 26
"""Bytes of a row group, uncompressed, that are held at a time, about; of a larger one only a piece."""
TRUTHS = ("mask", "answers", "label")
"""The first of these that there is a column of is the truth."""
ROLES = ("text", "text_pair", "image", *TRUTHS, "id")
"""What a column of a sample may be."""
VOTERS = 10
"""Of so many answers or more each is a vote, as in VQA; fewer are all right."""


# -- rows for a run ----------------------------------------------------------------------------------------------------


class TableSource(ABC):
    """Rows of some files, one file after the other: a :class:`~heedmap.datasets.rows.RowSource`."""

    kind = ""

    def __init__(
        self,
        where: Path,
        paths: Sequence[Path],
        counts: Sequence[int],
        names: Sequence[str],
        columns: Mapping[str, str],
    ) -> None:
        self._paths, self._ends = list(paths), list(accumulate(counts))
        self._folder = paths[0].parent
        self.columns: Sequence[str] = list(names)
        self._chosen = chosen_columns(self.columns, columns, where)
        self.roles: Collection[str] = tuple(self._chosen)
        self.description: Mapping[str, object] = dated(
            self.kind, [(path.name, path) for path in paths], len(self), columns=dict(self._chosen)
        )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> SourceRow:
        """The row; its key is its ``id``, or else file and row."""
        file = bisect_right(self._ends, number)
        row = number - (self._ends[file - 1] if file else 0)
        place = f"{self._paths[file].stem}:{row}"
        try:
            values = self._values(file, row, number)
        except SampleError as error:
            needed_file(self._paths[file], "rows")  # where it is gone, that is no fault of the row
            return SourceRow(place, problem=str(error))
        return made_row(place, {role: values.get(name) for role, name in self._chosen.items()}, self._folder)

    @abstractmethod
    def _values(self, file: int, row: int, number: int) -> Mapping[str, object]:
        """Column → value, of a row of a file, which is row ``number`` of all; SampleError where it cannot be read."""


class ParquetSource(TableSource):
    """Parquet files."""

    kind = "parquet"

    def __init__(self, where: Path, paths: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._rows = Rows(paths)
        super().__init__(where, paths, self._rows.counts, self._rows.schema.names, columns)

    def _values(self, file: int, row: int, number: int) -> Mapping[str, object]:
        return self._rows.read(number, list(self._chosen.values()))


class JsonLines(TableSource):
    """Files with a JSON object a line; empty lines are none."""

    kind = "jsonl"

    def __init__(self, where: Path, paths: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._starts = [_line_starts(path) for path in paths]
        names = _names(paths[0])
        super().__init__(where, paths, list(map(len, self._starts)), names, columns)

    def _values(self, file: int, row: int, number: int) -> Mapping[str, object]:
        try:
            with self._paths[file].open("rb") as lines:
                lines.seek(self._starts[file][row])
                data = json.loads(lines.readline())
        except (OSError, ValueError, RecursionError) as error:
            raise SampleError(f"it is no JSON ({error}); expected an object") from error
        if not isinstance(data, dict):
            raise SampleError(f"it is a {type(data).__name__}; expected a JSON object")
        return data


class ArrowFiles(TableSource):
    """Arrow files as the library ``datasets`` saves them; they are mapped, not read."""

    kind = "huggingface"

    def __init__(self, where: Path, paths: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._tables: dict[int, pyarrow.Table] = {}
        self._paths = list(paths)
        tables = [self._table(file) for file in range(len(paths))]
        super().__init__(where, paths, [table.num_rows for table in tables], tables[0].column_names, columns)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tables": {}}

    def _values(self, file: int, row: int, number: int) -> Mapping[str, object]:
        try:
            names = list(self._chosen.values())
            return self._table(file).select(names).slice(row, 1).to_pylist()[0]
        except (KeyError, ValueError, OSError) as error:
            raise SampleError(f"row {row} of {self._paths[file].name} cannot be read ({error})") from error

    def _table(self, file: int) -> pyarrow.Table:
        if file not in self._tables:
            arrow = library("pyarrow", "scale", "reading data sets of the library datasets needs")
            path = self._paths[file]
            try:
                self._tables[file] = arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all()
            except (OSError, ValueError) as error:
                raise FileFormatError(
                    f"{path} cannot be read as an Arrow stream ({error}); save the data set again with save_to_disk"
                ) from error
        return self._tables[file]


def open_parquet(
    folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None
) -> ParquetSource:
    """Parquet files.

    Args:
        folder: a file, or a folder of ``.parquet``.
        columns: role → name of its column, where they differ; roles are those of
            :data:`~heedmap.datasets.rows.ROLES`.
        split: only the files whose name begins with it.
    """
    return ParquetSource(Path(folder), chosen_files(folder, split, ".parquet"), columns or {})


def open_jsonl(folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None) -> JsonLines:
    """Files with a JSON object a line; arguments as for :func:`open_parquet`."""
    return JsonLines(Path(folder), chosen_files(folder, split, ".jsonl", ".ndjson"), columns or {})


def open_saved(folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None) -> ArrowFiles:
    """A folder that ``save_to_disk`` of the library ``datasets`` wrote.

    Args:
        folder: of a ``Dataset``, or of a ``DatasetDict``.
        columns: as for :func:`open_parquet`.
        split: of a ``DatasetDict``; None: the only one that there is.
    """
    where = Path(folder)
    splits = sorted(path.parent.name for path in where.glob("*/state.json"))
    if splits:
        if split not in splits and (split is not None or len(splits) > 1):
            raise InputError(
                f"{where} has the splits {', '.join(splits)}; choose one by split=, on the command line --file"
            )
        where = where / (split or splits[0])
    return ArrowFiles(where, _saved_files(where), columns or {})


def _saved_files(folder: Path) -> list[Path]:
    """The files of a saved data set in its own order."""
    state = folder / "state.json"
    if not state.is_file():
        return chosen_files(folder, None, ".arrow")
    try:
        told = json.loads(state.read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in told["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{state} is damaged ({error!r}); save the data set again with save_to_disk") from error
    if told.get("_indices_data_files"):
        raise InputError(f"{folder} holds a selection of rows beside its data; save it again after flatten_indices()")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise InputError(f"there is no {missing[0]} in {folder}, which its state.json names; copy the whole folder")
    return [folder / name for name in names]


def _line_starts(path: Path) -> np.ndarray:
    """Where each line that is not empty begins, in bytes."""
    starts, at = [], 0
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                starts.append(at)
            at += len(line)
    return np.array(starts, dtype=np.int64)


def _names(path: Path) -> list[str]:
    """The columns of the first lines."""
    names: dict[str, None] = {}
    with path.open("rb") as lines:
        for line in islice(lines, TRIED):
            data = parsed(line)
            names |= dict.fromkeys(data) if isinstance(data, dict) else {}
    return list(names)


# -- samples of Parquet files ------------------------------------------------------------------------------------------


class ParquetTable:
    """Parquet files, a :class:`~heedmap.datasets.sample.Reader`; a sample is a row, its key the ``id``, or else file and row."""

    def __init__(self, paths: Sequence[Path], columns: Mapping[str, str], scoring: str | None) -> None:
        self._rows = Rows(paths)
        self._folder = paths[0].parent
        self._columns, self._scoring = _present(self._rows.schema.names, columns), scoring
        self._names = _class_names(self._rows.schema, self._columns.get("label"))
        self.problems: dict[str, str] = {}
        numbers = dict(self._keyed(paths))
        self.keys: Sequence[str] = list(numbers)
        self._numbers = list(numbers.values())
        more = {"columns": dict(self._columns), **({"scoring": scoring} if scoring else {})}
        self.description = described("parquet", paths, len(self.keys), **more)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``text`` and ``image``, as far as there are columns; the truth is a Foreground or RightAnswers."""
        key = self.keys[index]
        row = self._rows.read(self._numbers[index], list(self._columns.values()))
        values = {role: row[name] for role, name in self._columns.items()}
        wanted = next(role for role in TRUTHS if role in values)
        for role in ("text", "image", wanted):
            if role in values and values[role] is None:
                raise SampleError(f"row {key} has no {role}; fill the column {self._columns[role]}, or leave it out")
        inputs: SampleInputs = {}
        image: Image | None = None
        if "text" in values:
            inputs["text"] = _text(key, values["text"], values.get("text_pair"))
        if "image" in values:
            image = inputs["image"] = picture(self._source(values["image"], key), f"the image of row {key}")
        return Sample(key, inputs, self._truth(wanted, key, values, image))

    def _keyed(self, paths: Sequence[Path]) -> Iterator[tuple[str, int]]:
        """Key and number of each row that has a key of its own."""
        number, seen = -1, set[str]()
        for path, count in zip(paths, self._rows.counts, strict=True):
            places = [f"{path.stem}:{row}" for row in range(count)]
            names = self._rows.column(path, self._columns["id"]) if "id" in self._columns else places
            for place, name in zip(places, names, strict=True):
                number += 1
                if name is None or str(name) in seen:
                    self.problems[place] = "it has no id" if name is None else f"the id {name} was there before"
                else:
                    seen.add(str(name))
                    yield str(name), number

    def _truth(self, role: str, key: str, values: Mapping[str, object], image: Image | None) -> Truth:
        if role == "mask":
            return self._region(key, values, image)
        if role == "answers":
            return self._answers(key, values["answers"])
        return RightAnswers(*self._label(values["label"], key))

    def _region(self, key: str, values: Mapping[str, object], image: Image | None) -> Foreground:
        pixels = mask(self._source(values["mask"], key), f"the mask of row {key}")
        if image is not None and pixels.shape != (image.height, image.width):
            raise SampleError(f"row {key} has an image of {image.size}, and a mask of {pixels.shape[::-1]} pixels")
        label = values.get("label")
        return Foreground(pixels, None if label is None else next(iter(self._label(label, key)[0])))

    def _answers(self, key: str, answers: object) -> RightAnswers:
        given = [answers] if isinstance(answers, str | Mapping) else answers
        if not isinstance(given, Sequence):
            raise SampleError(f"row {key} has the answers {answers!r}; expected a text, or a list of them")
        written = [answer.get("answer") if isinstance(answer, Mapping) else answer for answer in given]
        texts = [text for text in written if isinstance(text, str)]
        scores = soft_scores(texts, self._scoring or ("official" if len(texts) >= VOTERS else "any"))
        if not scores:
            raise SampleError(f"row {key} has no answer that scores; fill the column {self._columns['answers']}")
        return RightAnswers(scores)

    def _label(self, label: object, key: str) -> tuple[dict[str, float], int | None]:
        if isinstance(label, str):
            return {label: 1.0}, None
        if not isinstance(label, int) or (self._names and not 0 <= label < len(self._names)):
            raise SampleError(f"row {key} has the label {label!r}; expected a text, or the number of a class")
        return {self._names[label] if self._names else str(int(label)): 1.0}, int(label)

    def _source(self, value: object, key: str) -> Path | bytes:
        found = stored(value, self._folder)
        if found == "":
            raise SampleError(f"row {key} has an empty path as a picture; expected bytes, or a path")
        if not isinstance(found, Path | bytes):
            raise SampleError(f"row {key} has a {type(found).__name__} as a picture; expected bytes, or a path")
        return found


def open_table(
    folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None, scoring: str | None = None
) -> ParquetTable:
    """Open Parquet files.

    Args:
        folder: a ``.parquet`` file, or a folder of them.
        columns: role → name of its column, where they differ. Roles are ``text``, ``text_pair``, ``image`` (bytes, a
            path, or a struct of both), ``label`` (a text, or the number of a class), ``answers`` (a text or
            a struct with ``answer``, or a list of these), ``mask`` (bytes of a PNG), and ``id``.
        split: only the files whose name begins with it, such as "test".
        scoring: of the answers, a key of :data:`~heedmap.datasets.vqa.SCORINGS`; by default "official" of ten people's
            and "any" of fewer.

    Raises:
        InputError: no such file, or columns are missing.
        FileFormatError: a file is damaged, or has other columns than the first.
        OptionError: no such role or scoring.
        MissingLibraryError: pyarrow is not installed.
    """
    columns = columns or {}
    if not set(columns) <= set(ROLES):
        raise OptionError(f"columns are given for {', '.join(columns)}; expected some of {', '.join(ROLES)}")
    if scoring is not None and scoring not in SCORINGS:
        raise OptionError(f"scoring is {scoring!r}; expected one of {', '.join(SCORINGS)}")
    return ParquetTable(chosen_files(folder, split, ".parquet"), columns, scoring)


def _present(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Role → column, of those that are there."""
    missing = [name for name in columns.values() if name not in names]
    present = {role: columns.get(role, role) for role in ROLES if columns.get(role, role) in names}
    if missing or not {"text", "image"} & set(present) or not set(TRUTHS) & set(present):
        wanted = f"the columns {', '.join(missing)}" if missing else "text or image, and one of label, answers or mask"
        raise InputError(f"the columns are {', '.join(names)}; expected {wanted}: give columns={{'text': …}}")
    return present


def _text(key: str, text: object, pair: object) -> str | tuple[str, str]:
    if not isinstance(text, str) or not isinstance(pair, str | None):
        raise SampleError(f"row {key} has {text!r} and {pair!r} as texts; expected a text, or two")
    return text if pair is None else (text, pair)


def _class_names(schema: pyarrow.Schema, column: str | None) -> list[str] | None:
    """The names of the classes, where the library ``datasets`` has left them in the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


# -- the rows of Parquet files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """A row group of a file.

    Attributes:
        path: of the file.
        number: in the file.
        first: number of its first row in all files.
        rows: how many of them are read at a time.
    """

    path: Path
    number: int
    first: int
    rows: int


class Rows:
    """The rows of some Parquet files, as if they were one; for one thread at a time.

    The piece that was read last is kept, so that reading in order reads everything once.

    Attributes:
        counts: rows of each file.
        schema: of all files.
    """

    schema: pyarrow.Schema

    def __init__(self, paths: Sequence[Path]) -> None:
        self._groups: list[Group] = []
        self.counts: list[int] = []
        for path in paths:
            self._add(path)
        self._firsts = [group.first for group in self._groups]
        self._group: Group | None = None
        self._pieces: Iterator[pyarrow.RecordBatch] = iter(())
        self._piece: pyarrow.RecordBatch | None = None
        self._start = 0

    def __getstate__(self) -> dict[str, object]:
        """Without the piece that was read last: another process begins anew."""
        return {**self.__dict__, "_group": None, "_pieces": iter(()), "_piece": None}

    def column(self, path: Path, name: str) -> list[object]:
        """All values of a column of a file; FileFormatError where it is damaged."""
        try:
            with _opened(path) as file:
                return file.read(columns=[name]).column(name).to_pylist()
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error

    def read(self, row: int, columns: Sequence[str]) -> dict[str, object]:
        """The values of a row in some columns, always the same ones; SampleError where they are damaged."""
        group = self._groups[bisect_right(self._firsts, row) - 1]
        try:
            if group is not self._group or row < self._start:
                self._begin(group, columns)
            while self._piece is None or row >= self._start + self._piece.num_rows:
                self._start += 0 if self._piece is None else self._piece.num_rows
                self._piece = next(self._pieces)
            return self._piece.slice(row - self._start, 1).to_pylist()[0]
        except (OSError, ValueError, StopIteration) as error:
            self._group = None
            raise SampleError(
                f"row {row - group.first} of row group {group.number}: {_damaged(group.path, error)}"
            ) from error

    def _begin(self, group: Group, columns: Sequence[str]) -> None:
        file = _opened(group.path)
        self._pieces = file.iter_batches(group.rows, row_groups=[group.number], columns=list(columns))
        self._group, self._start, self._piece = group, group.first, None

    def _add(self, path: Path) -> None:
        try:
            with _opened(path) as file:
                schema, metadata = file.schema_arrow, file.metadata
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        if not self.counts:
            self.schema = schema
        if schema.names != self.schema.names:
            names = f"{', '.join(schema.names)}; the first file {', '.join(self.schema.names)}"
            raise FileFormatError(f"{path} has the columns {names}; expected the same in all files")
        first = sum(self.counts)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            if group.num_rows:
                at_once = max(1, group.num_rows * AT_ONCE // max(group.total_byte_size, AT_ONCE))
                self._groups.append(Group(path, number, first, at_once))
                first += group.num_rows
        self.counts.append(metadata.num_rows)


def _opened(path: Path) -> ParquetFile:
    return library("pyarrow.parquet", "eval", "reading Parquet files needs").ParquetFile(path)


def _damaged(path: Path, error: Exception) -> FileFormatError:
    return FileFormatError(f"{path.name} cannot be read as Parquet ({error or 'cut off'}); fetch it again")
