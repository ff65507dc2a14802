"""Reader of CTranslate2's ``model.bin``: named arrays and aliases, after a short header."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from heedmap.errors import FileFormatError

VERSION = 6
"""The version of the format that this reader knows."""
DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""CTranslate2's number of a data type → NumPy's name."""


class Cursor:
    """A place in some bytes, moving on with each value read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def number(self, code: str) -> int:
        """The next little-endian integer; ``code`` is the letter that :mod:`struct` has for it."""
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0])

    def text(self) -> str:
        """The next string: its length with the closing zero byte, then the bytes."""
        return self.take(self.number("H")).rstrip(b"\0").decode()

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        end = self.place + size
        if end > len(self.data):
            raise FileFormatError(
                f"the CTranslate2 file is truncated: it ends at {len(self.data)}, expected {end} or more"
            )
        self.place, start = end, self.place
        return self.data[start:end]


def read(data: bytes) -> dict[str, Tensor]:
    """The arrays of a CTranslate2 model by name, aliases included, in the type they are stored in.

    Raises:
        FileFormatError: truncated, or of another version of the format.
    """
    cursor = Cursor(data)
    version = cursor.number("I")
    if version != VERSION:
        raise FileFormatError(f"the CTranslate2 file has format version {version}; this reader knows {VERSION}")
    cursor.text(), cursor.number("I")  # the kind of model and its revision
    arrays = dict(_arrays(cursor))
    for _ in range(cursor.number("I")):
        alias, name = cursor.text(), cursor.text()
        arrays[alias] = arrays[name]
    return arrays


def _arrays(cursor: Cursor) -> Iterator[tuple[str, Tensor]]:
    for _ in range(cursor.number("I")):
        name = cursor.text()
        shape = [cursor.number("I") for _ in range(cursor.number("B"))]
        dtype = DTYPES[cursor.number("B")]
        array = np.frombuffer(cursor.take(cursor.number("I")), dtype).reshape(shape)
        yield name, torch.from_numpy(array.copy())
