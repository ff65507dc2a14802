"""Box features in an HDF5 file: one array over all images, or one group an image."""

from __future__ import annotations

import base64
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.disk import described, image_id
from heedmap.datasets.features.boxes import ALIASES, as_text, from_arrays
from heedmap.datasets.images import SUFFIXES
from heedmap.errors import FileFormatError, SampleError

if TYPE_CHECKING:
    import h5py
    from numpy.typing import ArrayLike

    from heedmap.types import Boxes

IDS = ("image_ids", "image_id", "img_id", "ids")
"""Names that the array of the images' ids goes by."""

KNOWN = tuple(name for names in ALIASES.values() for name in names)


class H5Features:
    """The features of a file: arrays such as ``features`` (images, N, d) with ``image_ids``, or groups named by id.

    Attributes:
        ids, problems, description: see :class:`~heedmap.datasets.features.boxes.Features`.
    """

    def __init__(self, path: Path, names: Sequence[str] | None) -> None:
        self._path, self._names = path, names
        self._h5py = library("h5py", "eval", "reading box features in HDF5 needs")
        self.problems: dict[str, str] = {}
        try:
            with self._h5py.File(path, "r") as file:
                self.ids: dict[str, int | str] = self._index(file)
        except OSError as error:
            raise FileFormatError(f"{path} cannot be read as HDF5 ({error}); fetch it again") from error
        self.description = described("h5", [path], len(self.ids))

    def read(self, image: str) -> Boxes:
        """The boxes of an image; SampleError where they are damaged."""
        place = self.ids[image]
        try:
            with self._h5py.File(self._path, "r") as file:
                arrays = self._row(file, place) if isinstance(place, int) else self._group(file[place])
            return from_arrays(arrays, image, self._names)
        except SampleError:
            raise
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise SampleError(f"image {image}: {self._path.name} cannot be read ({error}); fetch it again") from error

    def _index(self, file: h5py.File) -> dict[str, int | str]:
        ids = next((file[name][()] for name in IDS if name in file), None)
        if ids is not None:
            places: list[tuple[str, int | str]] = [(as_text(name), row) for row, name in enumerate(ids.ravel())]
        else:
            places = [(name, name) for name in file if file.get(name, getclass=True) is self._h5py.Group]
        if not places:
            raise FileFormatError(
                f"{self._path} holds {', '.join(file) or 'nothing'}; expected features with {IDS[0]}, or a group an image"
            )
        return self._once(places)

    def _once(self, places: list[tuple[str, int | str]]) -> dict[str, int | str]:
        known: dict[str, int | str] = {}
        for name, place in places:
            key = image_id(name)
            if key in known:
                self.problems[f"entry {place}"] = f"image {key} was there before"
            else:
                known[key] = place
        return known

    def _row(self, file: h5py.File, row: int) -> dict[str, ArrayLike]:
        return {name: file[name][row] for name in KNOWN if name in file}

    def _group(self, group: h5py.Group) -> dict[str, ArrayLike]:
        return {n: group.attrs[n] for n in KNOWN if n in group.attrs} | {n: group[n][()] for n in KNOWN if n in group}


class NpzFeatures:
    """The features of a folder, sub-folders included.

    Attributes:
        ids, problems, description: see :class:`~heedmap.datasets.features.boxes.Features`.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None) -> None:
        self._folder, self._names = folder, names
        self.ids: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        for path in sorted(folder.rglob("*.npz")):
            place = path.relative_to(folder).as_posix()
            key = _id_of(path.stem)
            if key in self.ids:
                self.problems[place] = f"image {key} is {self.ids[key]} already"
            else:
                self.ids[key] = place
        if not self.ids:
            raise FileFormatError(f"there is no .npz file in {folder}; expected one an image, named by its id")
        self.description = {"kind": "npz", "files": [{"name": folder.name}], "samples": len(self.ids)}

    def read(self, image: str) -> Boxes:
        """The boxes of an image; SampleError where its file is damaged."""
        place = self.ids[image]
        try:
            with (self._folder / place).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files if name in KNOWN}
            return from_arrays(arrays, image, self._names)
        except SampleError:
            raise
        except (OSError, ValueError, TypeError, AttributeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise SampleError(f"image {image}: {place} cannot be read ({error}); fetch it again") from error


def _id_of(stem: str) -> str:
    """Of ``COCO_val2014_000000000042`` and ``000000000042.jpg`` alike."""
    path = Path(stem)
    return image_id(path.stem if path.suffix.lower() in SUFFIXES else stem)


LAYOUTS = {
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf"),
        *("attrs_id", "attrs_conf", "num_boxes", "boxes", "features"),
    ),
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
}
"""Number of columns → their names: LXMERT's and BUTD's. Files have no line of names."""

ENCODED: dict[str, np.dtype[np.generic]] = {
    "objects_id": np.dtype("<i8"),
    "boxes": np.dtype("<f4"),
    "features": np.dtype("<f4"),
}

HEAD = 1 << 16
"""Bytes of a line that are looked at on opening; the rest, the features, is only passed over."""


class TsvFeatures:
    """The features of a file, found by the offset of their line.

    Attributes:
        ids, problems, description: see :class:`~heedmap.datasets.features.boxes.Features`.
    """

    def __init__(self, path: Path, names: Sequence[str] | None) -> None:
        self._path, self._names = path, names
        self.ids: dict[str, tuple[int, int]] = {}
        self.problems: dict[str, str] = {}
        columns = 0
        for number, (offset, length, head) in enumerate(_lines(path), 1):
            columns = columns or _columns(head, path)
            if head.startswith((b"img_id\t", b"image_id\t")) or not head.strip():
                continue
            self._add(number, offset, length, head.split(b"\t", columns - 1), columns)
        if not columns:
            raise FileFormatError(f"{path} is empty; expected box features, one image a line")
        self._columns = LAYOUTS[columns]
        self.description = described("tsv", [path], len(self.ids))

    def read(self, image: str) -> Boxes:
        """The boxes of an image; SampleError where its line is damaged."""
        offset, length = self.ids[image]
        with self._path.open("rb") as file:
            file.seek(offset)
            line = file.read(length)
        fields = dict(zip(self._columns, line.rstrip(b"\r\n").split(b"\t"), strict=False))
        try:
            count = int(fields["num_boxes"])
            arrays: dict[str, ArrayLike] = {
                name: int(fields[name]) for name in self._columns if name[-2:] in ("_w", "_h")
            }
            for name, kind in ENCODED.items():
                if name != "objects_id" or (self._names and fields.get(name)):
                    arrays[name] = _array(fields[name], kind, count)
        except (KeyError, ValueError) as error:
            raise SampleError(f"image {image}: its line in {self._path.name} is damaged ({error})") from error
        return from_arrays(arrays, image, self._names)

    def _add(self, number: int, offset: int, length: int, fields: list[bytes], columns: int) -> None:
        key = image_id(fields[0].decode("utf-8", "replace").strip())
        if len(fields) != columns:
            self.problems[key or f"line {number}"] = f"line {number} has {len(fields)} columns; expected {columns}"
        elif key in self.ids:
            self.problems[f"line {number}"] = f"image {key} was there before"
        else:
            self.ids[key] = (offset, length)


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Offset, length and beginning of each line; a line is never in memory as a whole."""
    offset = 0
    with path.open("rb") as file:
        while head := file.readline(HEAD):
            length, last = len(head), head
            while not last.endswith(b"\n") and (last := file.readline(HEAD)):
                length += len(last)
            yield offset, length, head
            offset += length


def _columns(head: bytes, path: Path) -> int:
    count = head.count(b"\t") + 1
    if count not in LAYOUTS:
        known = " or ".join(f"{number} ({', '.join(names)})" for number, names in LAYOUTS.items())
        raise FileFormatError(f"the first line of {path} has {count} columns; expected {known}")
    return count


def _array(text: bytes, kind: np.dtype[np.generic], count: int) -> np.ndarray:
    data = base64.b64decode(text, validate=True)
    if count < 1 or not data or len(data) % (count * kind.itemsize):
        raise ValueError(f"{len(data)} bytes are no whole number of {kind.name} for each of {count} boxes")
    return np.frombuffer(data, dtype=kind).reshape(count, -1)
