"""Box features in a ``.tsv``: one image a line, arrays in base64, as BUTD and LXMERT share theirs."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedmap.datasets.disk import described, image_id
from heedmap.datasets.features.boxes import from_arrays
from heedmap.errors import FileFormatError, SampleError

LAYOUTS = {
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf"),
        *("attrs_id", "attrs_conf", "num_boxes", "boxes", "features"),
    ),
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
}
"""Number of columns → their names: LXMERT's and BUTD's. Files have no line of names."""

ENCODED: dict[str, np.dtype[Any]] = {
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

    def read(self, image: str) -> dict[str, Any]:
        """The boxes of an image; SampleError where its line is damaged."""
        offset, length = self.ids[image]
        with self._path.open("rb") as file:
            file.seek(offset)
            line = file.read(length)
        fields = dict(zip(self._columns, line.rstrip(b"\r\n").split(b"\t"), strict=False))
        try:
            count = int(fields["num_boxes"])
            arrays: dict[str, Any] = {name: int(fields[name]) for name in self._columns if name[-2:] in ("_w", "_h")}
            for name, kind in ENCODED.items():
                if name != "objects_id" or (self._names and fields.get(name)):
                    arrays[name] = _array(fields[name], kind, count)
        except (KeyError, ValueError) as error:
            raise SampleError(f"image {image}: its line in {self._path.name} is damaged ({error})") from error
        return from_arrays(arrays.get, image, self._names)

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


def _array(text: bytes, kind: np.dtype[Any], count: int) -> Any:
    data = base64.b64decode(text, validate=True)
    if count < 1 or not data or len(data) % (count * kind.itemsize):
        raise ValueError(f"{len(data)} bytes are no whole number of {kind.name} for each of {count} boxes")
    return np.frombuffer(data, dtype=kind).reshape(count, -1)
