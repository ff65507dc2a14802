"""Rows with columns: Parquet files, JSON lines, and data sets that the library ``datasets`` has saved."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.disk import FilePath, dated, needed_file
from heedmap.datasets.parquet import Rows
from heedmap.datasets.sources.row import SourceRow, chosen_columns, made_row
from heedmap.errors import FileFormatError, InputError, SampleError

if TYPE_CHECKING:
    import pyarrow

TRIED = 100
"""Lines that are looked at to learn which columns there are."""


class TableSource(ABC):
    """Rows of some files, one file after the other.

    Attributes:
        description, roles, columns: see :class:`heedmap.datasets.sources.row.RowSource`.
    """

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
            :data:`~heedmap.datasets.sources.row.ROLES`.
        split: only the files whose name begins with it.
    """
    return ParquetSource(Path(folder), _files(folder, split, ".parquet"), columns or {})


def open_jsonl(folder: FilePath, *, columns: Mapping[str, str] | None = None, split: str | None = None) -> JsonLines:
    """Files with a JSON object a line; arguments as for :func:`open_parquet`."""
    return JsonLines(Path(folder), _files(folder, split, ".jsonl", ".ndjson"), columns or {})


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
        return _files(folder, None, ".arrow")
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


def _files(folder: FilePath, split: str | None, *endings: str) -> list[Path]:
    """The file, or those of a folder, by name."""
    path = Path(folder)
    if path.is_file():
        return [path]
    found = sorted(file for ending in endings for file in path.glob(f"{split or ''}*{ending}") if file.is_file())
    if not found:
        told = " or ".join(f"{split or ''}*{ending}" for ending in endings)
        raise InputError(f"there is no {told} at {path}; give such a file, or a folder of them")
    return found


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
            try:
                data = json.loads(line)
            except (ValueError, RecursionError):
                continue
            names |= dict.fromkeys(data) if isinstance(data, dict) else {}
    return list(names)
