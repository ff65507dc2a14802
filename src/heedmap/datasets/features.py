"""Box features that a detector found beforehand, by image id: in an HDF5 file, a folder of ``.npz`` files, or a ``.tsv``.

Whatever the file, an image's features are read when they are asked for, checked and scaled to what a Model takes as ``boxes``;
opening reads where they are.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.files import SUFFIXES, FilePath, described, image_id, needed_file, read_lines
from heedmap.errors import FileFormatError, InputError, SampleError

if TYPE_CHECKING:
    import h5py
    from jaxtyping import Float32
    from numpy.typing import ArrayLike

    from heedmap.types import Boxes

ALIASES = {
    "features": ("features", "x", "image_features", "feats"),
    "boxes": ("boxes", "bbox", "bboxes", "image_bb"),
    "count": ("num_boxes", "num_bbox"),
    "width": ("image_w", "img_w", "width", "widths", "image_width"),
    "height": ("image_h", "img_h", "height", "heights", "image_height"),
    "labels": ("labels",),
    "objects": ("objects_id", "objects"),
}
"""What arrays mean → the names that they go by."""

SLACK = 1.0
"""Pixels by which a detector's box may go beyond the image; it is cut off."""

IDS = ("image_ids", "image_id", "img_id", "ids")
"""Names that the array of the images' ids goes by."""

KNOWN = tuple(name for names in ALIASES.values() for name in names)


class Features(Protocol):
    """Box features of many images on disk."""

    @property
    def ids(self) -> Collection[str]:
        """Of the images, as :func:`heedmap.datasets.files.image_id` has them."""

    @property
    def problems(self) -> Mapping[str, str]:
        """What was left out on opening: id or place → why."""

    @property
    def description(self) -> Mapping[str, object]:
        """Plain JSON data."""

    def read(self, image: str) -> Boxes:
        """``features`` (N, d), float32, ``boxes`` (N, 4), where known, and maybe ``labels``; SampleError if damaged."""


def open_features(path: FilePath, names: FilePath | None = None) -> Features:
    """Open box features.

    Args:
        path: a ``.tsv`` as BUTD or LXMERT share theirs, an HDF5 file, or a folder of ``.npz`` files.
        names: text file with the names of the object classes, one a line, for ``labels``.

    Raises:
        InputError: no such file, or of another kind.
        FileFormatError: it is not what it should be.
        MissingLibraryError: HDF5 without h5py.
    """
    path = Path(path)
    vocabulary = None if names is None else read_names(needed_file(names, "object names"))
    if path.is_dir():
        return NpzFeatures(path, vocabulary)
    needed_file(path, "box features")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}; expected {', '.join(FORMATS)} or a folder of .npz files")
    return FORMATS[path.suffix.lower()](path, vocabulary)


def read_names(path: Path) -> list[str]:
    """Names of object classes, one a line, of which the first counts where several are given with commas."""
    return [line.split(",")[0].strip() for line in read_lines(path)]


# -- files -------------------------------------------------------------------------------------------------------------


class H5Features:
    """:class:`Features` of a file: arrays such as ``features`` (images, N, d) with ``image_ids``, or groups named by id."""

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
        with _readable(image, self._path.name), self._h5py.File(self._path, "r") as file:
            if isinstance(place, int):
                arrays = {name: file[name][place] for name in KNOWN if name in file}
            else:
                group = file[place]
                arrays = {name: group.attrs[name] for name in KNOWN if name in group.attrs}
                arrays |= {name: group[name][()] for name in KNOWN if name in group}
            return from_arrays(arrays, image, self._names)

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
        known: dict[str, int | str] = {}
        for name, place in places:
            key = image_id(name)
            if key in known:
                self.problems[f"entry {place}"] = f"image {key} was there before"
            else:
                known[key] = place
        return known


class NpzFeatures:
    """:class:`Features` of a folder, sub-folders included."""

    def __init__(self, folder: Path, names: Sequence[str] | None) -> None:
        self._folder, self._names = folder, names
        self.ids: dict[str, str] = {}
        self.problems: dict[str, str] = {}
        for path in sorted(folder.rglob("*.npz")):
            place = path.relative_to(folder).as_posix()
            stem = Path(path.stem)  # ``COCO_val2014_000000000042`` and ``000000000042.jpg`` are alike
            key = image_id(stem.stem if stem.suffix.lower() in SUFFIXES else path.stem)
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
        with (
            _readable(image, place),
            (self._folder / place).open("rb") as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            arrays = {name: archive[name] for name in archive.files if name in KNOWN}
            return from_arrays(arrays, image, self._names)


@contextmanager
def _readable(image: str, file: str) -> Iterator[None]:
    """Whatever a reader of arrays raises is a SampleError of the image."""
    try:
        yield
    except SampleError:
        raise
    except (AttributeError, EOFError, LookupError, OSError, TypeError, ValueError, BadZipFile, ZlibError) as error:
        raise SampleError(f"image {image}: {file} cannot be read ({error}); fetch it again") from error


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
    """:class:`Features` of a file, found by the offset of their line."""

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


FORMATS: dict[str, Callable[[Path, Sequence[str] | None], Features]] = {
    ".tsv": TsvFeatures,
    ".h5": H5Features,
    ".hdf5": H5Features,
}


# -- the boxes of one image --------------------------------------------------------------------------------------------


def as_text(value: object) -> str:
    """A text as arrays store it, in bytes or not."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def from_arrays(stored: Mapping[str, ArrayLike], image: str, names: Sequence[str] | None) -> Boxes:
    """The boxes of an image out of arrays that go by one of :data:`ALIASES` each.

    Args:
        stored: name → array.
        image: id of it, for messages.
        names: of the object classes, or None.

    Raises:
        SampleError: another shape, numbers that are not finite, or boxes that are not on the image.
    """

    def find(meaning: str) -> np.ndarray | None:
        return next((np.asarray(value) for name in ALIASES[meaning] if (value := stored.get(name)) is not None), None)

    arrays = {meaning: find(meaning) for meaning in ALIASES}
    if arrays["features"] is None:
        raise SampleError(f"image {image} has no array of features; expected one of {', '.join(ALIASES['features'])}")
    if arrays["count"] is not None:
        arrays |= _cut(arrays, int(np.ravel(arrays["count"])[0]))
    size = (arrays["width"], arrays["height"])
    known = None if size[0] is None or size[1] is None else (int(np.ravel(size[0])[0]), int(np.ravel(size[1])[0]))
    labels = _labels(arrays["labels"], arrays["objects"], names)
    return _checked(image, arrays["features"], arrays["boxes"], known, labels)


def _checked(
    image: str,
    features: ArrayLike,
    boxes: ArrayLike | None,
    size: tuple[int, int] | None,
    labels: Sequence[str] | None = None,
) -> Boxes:
    """The boxes of an image, in the form that a Model takes.

    ``features`` are (N, d), or (d, N) where the number of boxes shows that; ``boxes`` (N, 4), x1 y1 x2 y2 in pixels or as parts
    of the ``size``, which is width and height in pixels; there are N ``labels``.
    """
    rows = np.asarray(features, dtype=np.float32)
    places = None if boxes is None else np.asarray(boxes, dtype=np.float32)
    if rows.ndim == 2 and places is not None and len(places) == rows.shape[1] != len(rows):
        rows = rows.T
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise SampleError(f"image {image}: its features have shape {rows.shape}; expected finite numbers, (N, d)")
    entry: Boxes = {"features": np.ascontiguousarray(rows)}
    if places is not None:
        entry["boxes"] = _parts(image, places, len(rows), size)
    if labels is not None:
        if len(labels) != len(rows):
            raise SampleError(f"image {image}: {len(labels)} labels for {len(rows)} boxes; expected one each")
        entry["labels"] = list(labels)
    return entry


def _parts(image: str, places: np.ndarray, count: int, size: tuple[int, int] | None) -> Float32[np.ndarray, "count 4"]:
    if places.shape != (count, 4) or not np.isfinite(places).all():
        raise SampleError(f"image {image}: its boxes have shape {places.shape}; expected finite numbers, ({count}, 4)")
    if places.min() >= 0 and places.max() <= 1:
        return places
    if size is None or min(size) < 1:
        raise SampleError(
            f"image {image}: its boxes are in pixels, and its size is {size}; width and height are needed"
        )
    whole = np.array([*size, *size], dtype=np.float32)
    if places.min() < -SLACK or (places > whole + SLACK).any():
        raise SampleError(
            f"image {image}: its boxes go from {places.min():g} to {places.max():g}, beyond its {size[0]} × {size[1]}"
        )
    return (places / whole).clip(0, 1)


def _cut(arrays: Mapping[str, np.ndarray | None], count: int) -> dict[str, np.ndarray]:
    """Without the rows that only fill up."""
    rows = {name: arrays[name] for name in ("features", "boxes", "labels", "objects")}
    return {name: value[:count] if len(value) > count else value for name, value in rows.items() if value is not None}


def _labels(labels: np.ndarray | None, objects: np.ndarray | None, names: Sequence[str] | None) -> list[str] | None:
    if labels is not None and labels.dtype.kind in "USO":
        return [as_text(label) for label in labels]
    if objects is None or names is None:
        return None
    return [names[n] if 0 <= n < len(names) else str(n) for n in (int(number) for number in np.ravel(objects))]
