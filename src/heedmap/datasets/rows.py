"""Rows of Parquet files, read when they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedmap.datasets.libraries import library
from heedmap.errors import FileFormatError, SampleError

AT_ONCE = 1 << 26
"""Bytes of a row group, uncompressed, that are held at a time, about; of a larger one only a piece."""


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

    def __init__(self, paths: Sequence[Path]) -> None:
        self._parquet = library("pyarrow.parquet", "Parquet files")
        self._groups: list[Group] = []
        self.counts: list[int] = []
        self.schema: Any = None
        for path in paths:
            self._add(path)
        self._firsts = [group.first for group in self._groups]
        self._group: Group | None = None
        self._pieces: Iterator[Any] = iter(())
        self._start, self._piece = 0, None

    def column(self, path: Path, name: str) -> list[Any]:
        """All values of a column of a file; FileFormatError where it is damaged."""
        try:
            with self._parquet.ParquetFile(path) as file:
                return file.read(columns=[name]).column(name).to_pylist()
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error

    def read(self, row: int, columns: Sequence[str]) -> dict[str, Any]:
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
        file = self._parquet.ParquetFile(group.path)
        self._pieces = file.iter_batches(group.rows, row_groups=[group.number], columns=list(columns))
        self._group, self._start, self._piece = group, group.first, None

    def _add(self, path: Path) -> None:
        try:
            with self._parquet.ParquetFile(path) as file:
                schema, metadata = file.schema_arrow, file.metadata
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        self.schema = self.schema or schema
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


def _damaged(path: Path, error: Exception) -> FileFormatError:
    return FileFormatError(f"{path.name} cannot be read as Parquet ({error or 'cut off'}); fetch it again")
