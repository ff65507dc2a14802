"""ImageNet-Segmentation (Guillaumin, Küttel and Ferrari, 2014): pictures with the pixels of their object.

``gtsegs_ijcv.mat`` is a MATLAB file of version 7.3, which is HDF5; a cell array is an array of references there, and
every array has its axes the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.disk import FilePath, described, needed_file
from heedmap.datasets.sample import Foreground, Sample
from heedmap.errors import FileFormatError, SampleError

if TYPE_CHECKING:
    import h5py
    from jaxtyping import Bool, UInt8
    from numpy.typing import ArrayLike

FILE = "gtsegs_ijcv.mat"
IMAGES, MASKS, NAMES, TARGETS = "value/img", "value/gt", "value/id", "value/target"


class ImageNetSegmentation:
    """The file; a sample is a picture, its key the name that the file gives it, or else its number.

    Attributes:
        keys, problems, description: see :class:`heedmap.datasets.sample.Reader`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._h5py = library("h5py", "eval", "reading ImageNet-Segmentation needs")
        try:
            with self._h5py.File(path, "r") as file:
                self._count = self._checked(file)
                self.keys: Sequence[str] = _keys(_texts(file, NAMES), self._count)
                self._labels = _texts(file, TARGETS)
        except OSError as error:
            raise FileFormatError(
                f"{path} cannot be read as a MATLAB 7.3 (HDF5) file ({error}); fetch it again"
            ) from error
        self.problems: dict[str, str] = {}
        self.description = described("imagenet-segmentation", [path], self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        """``image``; the truth is a Foreground, by the first of the picture's masks."""
        from PIL import Image

        key = self.keys[index]
        index %= self._count
        try:
            with self._h5py.File(self._path, "r") as file:
                pixels = _cell(file, IMAGES, index)
                mask = _first_mask(file, index)
        except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise SampleError(f"picture {key} cannot be read from {self._path.name} ({error})") from error
        pixels = _upright(pixels, key)
        if mask.shape != pixels.shape[:2]:
            raise SampleError(f"picture {key} has {pixels.shape[:2]} pixels, and its mask {mask.shape}")
        label = self._labels[index] if index < len(self._labels) else None
        return Sample(key, {"image": Image.fromarray(pixels)}, Foreground(mask, label))

    def _checked(self, file: h5py.File) -> int:
        for name in (IMAGES, MASKS):
            if name not in file or self._h5py.check_ref_dtype(getattr(file[name], "dtype", None)) is None:
                raise FileFormatError(f"{self._path} has no cell array {name}; expected {FILE} as it is published")
        images, masks = file[IMAGES].size, file[MASKS].size
        if images != masks:
            raise FileFormatError(f"{self._path} has {images} pictures and {masks} masks; expected one each")
        return int(images)


def open_imagenet_segmentation(folder: FilePath, *, file: FilePath | None = None) -> ImageNetSegmentation:
    """Open ImageNet-Segmentation.

    Args:
        folder: has ``gtsegs_ijcv.mat``, so far as no other path is given.
        file: its path.

    Raises:
        InputError: it is not there.
        FileFormatError: it is not what it should be.
        MissingLibraryError: h5py is not installed.
    """
    return ImageNetSegmentation(needed_file(file or Path(folder, FILE), "ImageNet-Segmentation"))


def _cell(file: h5py.File, name: str, index: int) -> np.ndarray:
    """What entry ``index`` of a cell array refers to, as it is stored."""
    return file[file[name][()].ravel()[index]][()]


def _first_mask(file: h5py.File, index: int) -> Bool[np.ndarray, "height width"]:
    masks = _cell(file, MASKS, index)
    mask = file[masks.ravel()[0]][()] if masks.dtype == object else masks
    if mask.ndim != 2:
        raise ValueError(f"its mask has shape {mask.shape}; expected (width, height)")
    return mask.T != 0


def _upright(pixels: np.ndarray, key: str) -> UInt8[np.ndarray, "height width 3"]:
    """(3, width, height) or (width, height) → (height, width, 3)."""
    stored = np.stack([pixels] * 3) if pixels.ndim == 2 else pixels
    if stored.ndim != 3 or len(stored) != 3 or stored.dtype != np.uint8 or not stored.size:
        raise SampleError(f"picture {key} has shape {pixels.shape}, {pixels.dtype}; expected (3, width, height), uint8")
    return np.ascontiguousarray(stored.transpose(2, 1, 0))


def _texts(file: h5py.File, name: str) -> list[str]:
    """The texts of a cell array, or whole numbers as text; none where the file has nothing of that kind."""
    try:
        entries = file[name][()].ravel()
        return [_text(file[entry][()] if entries.dtype == object else entry) for entry in entries]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):  # names are no more than welcome
        return []


def _text(stored: ArrayLike) -> str:
    """MATLAB's texts are arrays of 16-bit letters."""
    values = np.ravel(stored)
    if values.dtype == np.uint16:
        return "".join(map(chr, values))
    return " ".join(str(int(value)) for value in values)


def _keys(names: Sequence[str], count: int) -> list[str]:
    once = all(number == 1 for number in Counter(names).values())
    return list(names) if once and len(names) == count and all(names) else [str(number) for number in range(count)]
