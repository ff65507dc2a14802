"""Box features in a folder of ``.npz`` files, one an image and named by its id."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedmap.datasets.disk import image_id
from heedmap.datasets.features.boxes import ALIASES, from_arrays
from heedmap.datasets.images import SUFFIXES
from heedmap.errors import FileFormatError, SampleError

KNOWN = frozenset(name for names in ALIASES.values() for name in names)


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

    def read(self, image: str) -> dict[str, Any]:
        """The boxes of an image; SampleError where its file is damaged."""
        place = self.ids[image]
        try:
            with (self._folder / place).open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files if name in KNOWN}
            return from_arrays(arrays.get, image, self._names)
        except SampleError:
            raise
        except (OSError, ValueError, TypeError, AttributeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise SampleError(f"image {image}: {place} cannot be read ({error}); fetch it again") from error


def _id_of(stem: str) -> str:
    """Of ``COCO_val2014_000000000042`` and ``000000000042.jpg`` alike."""
    path = Path(stem)
    return image_id(path.stem if path.suffix.lower() in SUFFIXES else stem)
