"""Box features in an HDF5 file: one array over all images, or one group an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heedmap.datasets.disk import described, image_id
from heedmap.datasets.features.boxes import ALIASES, from_arrays
from heedmap.datasets.libraries import library
from heedmap.errors import FileFormatError, SampleError

IDS = ("image_ids", "image_id", "img_id", "ids")
"""Names that the array of the images' ids goes by."""


class H5Features:
    """The features of a file: arrays such as ``features`` (images, N, d) with ``image_ids``, or groups named by id.

    Attributes:
        ids, problems, description: see :class:`~heedmap.datasets.features.boxes.Features`.
    """

    def __init__(self, path: Path, names: Sequence[str] | None) -> None:
        self._path, self._names = path, names
        self._h5py = library("h5py", "box features in HDF5")
        self.problems: dict[str, str] = {}
        try:
            with self._h5py.File(path, "r") as file:
                self.ids: dict[str, int | str] = self._index(file)
        except OSError as error:
            raise FileFormatError(f"{path} cannot be read as HDF5 ({error}); fetch it again") from error
        self.description = described("h5", [path], len(self.ids))

    def read(self, image: str) -> dict[str, Any]:
        """The boxes of an image; SampleError where they are damaged."""
        place = self.ids[image]
        try:
            with self._h5py.File(self._path, "r") as file:
                arrays = self._row(file, place) if isinstance(place, int) else self._group(file[place])
            return from_arrays(arrays.get, image, self._names)
        except SampleError:
            raise
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise SampleError(f"image {image}: {self._path.name} cannot be read ({error}); fetch it again") from error

    def _index(self, file: Any) -> dict[str, int | str]:
        ids = next((file[name][()] for name in IDS if name in file), None)
        if ids is not None:
            names = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in ids.ravel()]
            places: list[tuple[str, int | str]] = [(name, row) for row, name in enumerate(names)]
        else:
            places = [(name, name) for name in file if file.get(name, getclass=True) is self._h5py.Group]
        if not places:
            raise FileFormatError(
                f"{self._path} holds {', '.join(file) or 'nothing'}; expected features with {IDS[0]}, or a group an image"
            )
        return self._once(places)

    def _once(self, places: list[tuple[str, int | str]]) -> dict[str, int | str]:
        found: dict[str, int | str] = {}
        for name, place in places:
            key = image_id(name)
            if key in found:
                self.problems[f"entry {place}"] = f"image {key} was there before"
            else:
                found[key] = place
        return found

    def _row(self, file: Any, row: int) -> dict[str, Any]:
        return {name: file[name][row] for names in ALIASES.values() for name in names if name in file}

    def _group(self, group: Any) -> dict[str, Any]:
        known = [name for names in ALIASES.values() for name in names]
        return {n: group.attrs[n] for n in known if n in group.attrs} | {n: group[n][()] for n in known if n in group}
