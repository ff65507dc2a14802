"""Pictures of a folder, and the readers of the evaluations, as rows."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from heedmap.datasets.disk import FilePath, dated, needed_folder
from heedmap.datasets.images import SUFFIXES
from heedmap.datasets.sample import Reader
from heedmap.datasets.sources.row import SourceRow
from heedmap.errors import InputError, SampleError


class Pictures:
    """A folder of pictures, also in folders of it; a row is a picture, its key the path below the folder.

    Attributes:
        description, roles, columns: see :class:`heedmap.datasets.sources.row.RowSource`.
    """

    roles: Collection[str] = ("image",)
    columns: Sequence[str] = ("image",)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = list(_names(folder))
        if not self._names:
            raise InputError(f"{folder} has no picture; expected files that end in {', '.join(sorted(SUFFIXES))}")
        described = [(name, folder / name) for name in self._names]
        self.description: Mapping[str, object] = dated("images", described, len(self))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: int) -> SourceRow:
        """``image``."""
        name = self._names[number]
        return SourceRow(name, {"image": self._folder / name})


class ReaderRows:
    """The samples of a reader as rows, without what is true of them.

    Attributes:
        description, roles, columns: see :class:`heedmap.datasets.sources.row.RowSource`.
    """

    roles: Collection[str] = ()
    columns: Sequence[str] = ()

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.description: Mapping[str, object] = {**reader.description, "rows": len(reader)}

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, number: int) -> SourceRow:
        """What a model is asked of the sample."""
        key = self._reader.keys[number]
        try:
            return SourceRow(key, dict(self._reader[number].inputs))
        except SampleError as error:
            return SourceRow(key, problem=str(error))


def open_pictures(folder: FilePath) -> Pictures:
    """A folder of pictures."""
    return Pictures(needed_folder(folder, "pictures"))


def _names(folder: Path) -> list[str]:
    """Paths of the pictures below a folder, sorted in each folder."""
    names: list[str] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(root).relative_to(folder)
        names += [(below / file).as_posix() for file in sorted(files) if Path(file).suffix.lower() in SUFFIXES]
    return names
