"""Reader of TensorFlow's checkpoints, without TensorFlow: an index, which is a sorted table of strings, and the values."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from torch import Tensor

from heedmap.errors import FileFormatError

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48
FLOAT = 1
"""TensorFlow's number of float32, the only type that is read."""
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
"""How the key of a variable ends."""
DTYPE, SHAPE, SHARD, OFFSET, SIZE = 1, 2, 3, 4, 5
"""Fields of an entry of the index."""


def read_bundle(index: bytes, values: bytes) -> dict[str, Tensor]:
    """The float32 variables of a checkpoint of one shard by name, in their own memory.

    Args:
        index: of ``variables.index``, its blocks not compressed.
        values: of ``variables.data-00000-of-00001``.

    Raises:
        FileFormatError: it is no such index, is compressed or cut short, or a size does not fit its shape.
    """
    return {
        key.decode().removesuffix(VALUE): _tensor(key.decode(), dict(_fields(entry)), values)
        for key, entry in _entries(index)
        if key.endswith(VALUE.encode())
    }


def _tensor(key: str, entry: dict[int, int | bytes], values: bytes) -> Tensor:
    shape = [int(dict(_fields(bytes(size))).get(1, 0)) for _, size in _fields(bytes(entry.get(SHAPE, b"")))]
    start, size = int(entry.get(OFFSET, 0)), int(entry.get(SIZE, 0))
    if entry.get(DTYPE) != FLOAT or entry.get(SHARD, 0) != 0:
        raise FileFormatError(f"{key} has type {entry.get(DTYPE)} in shard {entry.get(SHARD, 0)}; float32 in 0 is read")
    if size != 4 * prod(shape):
        raise FileFormatError(f"{key} has {size} bytes; its shape {shape} needs {4 * prod(shape)}")
    return torch.from_numpy(np.frombuffer(_cut(values, start, size, key), "<f4").reshape(shape).copy())


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table."""
    if len(table) < FOOTER or table[-len(MAGIC) :] != MAGIC:
        raise FileFormatError(f"the index does not end as a sorted table of strings does ({table[-8:].hex()})")
    _, after = _span(table[-FOOTER:], 0)  # of what tells of the table itself
    blocks, _ = _span(table[-FOOTER:], after)
    for _, handle in _block(table, *blocks):
        yield from _block(table, *_span(handle, 0)[0])


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block: each key says how many of its first bytes are those of the key before."""
    block = _cut(table, start, size + 1, "a block of the index")
    if block[-1] != 0:
        raise FileFormatError(f"a block of the index is compressed (type {block[-1]}); only plain ones are read")
    (restarts,) = struct.unpack("<I", _cut(block, size - 4, 4, "a block of the index"))
    place, end, key = 0, size - 4 - 4 * restarts, b""
    if end < 0:
        raise FileFormatError(f"a block of the index has {size} bytes, and {restarts} places to begin at")
    while place < end:
        shared, place = _number(block, place)
        rest, place = _number(block, place)
        length, place = _number(block, place)
        key = key[:shared] + _cut(block, place, rest, "a key of the index")
        yield key, _cut(block, place + rest, length, "an entry of the index")
        place += rest + length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and contents of a protocol buffer's fields."""
    place = 0
    while place < len(message):
        tag, place = _number(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _number(message, place)
            yield tag >> 3, value
        elif kind in (1, 2, 5):
            size, place = _number(message, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
            yield tag >> 3, _cut(message, place, size, "a field of the index")
            place += size
        else:
            raise FileFormatError(f"an entry of the index has a field of kind {kind}; 0, 1, 2 and 5 are known")


def _span(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Start and size of a block, and the place after these two numbers."""
    start, place = _number(data, place)
    size, place = _number(data, place)
    return (start, size), place


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The number of seven bits a byte that begins at ``place``, and the place after it."""
    value = shift = 0
    while True:
        (byte,) = _cut(data, place, 1, "a number of the index")
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _cut(data: bytes, start: int, size: int, what: str) -> bytes:
    if start < 0 or start + size > len(data):
        raise FileFormatError(f"{what} is at {start} to {start + size}; there are {len(data)} bytes")
    return data[start : start + size]
