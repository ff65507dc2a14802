"""Classification and segmentation as ImageNet has them: a folder of pictures for each class, and pictures with their object.

ImageNet-Segmentation (Guillaumin, Küttel and Ferrari, 2014) has the pixels of each picture's object. Its ``gtsegs_ijcv.mat`` is
a MATLAB file of version 7.3, which is HDF5; a cell array is an array of references there, and every array has its axes the
other way round.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.extras import library
from heedmap.datasets.files import (
    SUFFIXES,
    FilePath,
    described,
    needed_file,
    needed_folder,
    picture,
    read_json,
    read_lines,
)
from heedmap.datasets.sample import Foreground, RightAnswers, Sample
from heedmap.errors import FileFormatError, InputError, SampleError

if TYPE_CHECKING:
    import h5py
    from jaxtyping import Bool, UInt8
    from numpy.typing import ArrayLike

FILE = "gtsegs_ijcv.mat"
IMAGES, MASKS, NAMES, TARGETS = "value/img", "value/gt", "value/id", "value/target"


# -- a folder of classes -----------------------------------------------------------------------------------------------


class Folder:
    """A folder of classes, a :class:`~heedmap.datasets.sample.Reader`; a sample's key is the path below the folder."""

    def __init__(self, folder: Path, names: Path | None) -> None:
        self._folder = folder
        folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        if not folders:
            raise InputError(f"there is no folder in {folder}; expected one a class, with pictures in it")
        self._names = {name: name for name in folders} if names is None else _class_names(names)
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self.problems: dict[str, str] = {}
        keys: list[str] = []
        for name in folders:
            pictures = list(_pictures(folder, name)) if name in self._names else []
            keys += pictures
            if not pictures:
                self.problems[name] = "it has no picture" if name in self._names else "it is not among the class names"
        self.keys: Sequence[str] = keys
        more = {"classes": len(self._names), "folder": folder.name}
        self.description = described("folder", [names] if names else [], len(keys), **more)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``image``; the truth is RightAnswers: the class by name, and by number in the order of the names."""
        key = self.keys[index]
        name = key.split("/", 1)[0]
        image = picture(self._folder / key, key)
        return Sample(key, {"image": image}, RightAnswers({self._names[name]: 1.0}, index=self._numbers[name]))


def open_folder(folder: FilePath, *, names: FilePath | None = None) -> Folder:
    """Open a folder of classes.

    Args:
        folder: has one folder a class; their sorted order gives the classes their numbers.
        names: of the classes, where they are more than their folders' names. A text file of lines such as
            ``n01440764 tench, Tinca tinca``, or JSON: folder → name, or number → [folder, name]. Its order gives the
            classes their numbers, so that a part of ImageNet keeps ImageNet's.

    Raises:
        InputError: a file or folder is not there.
        FileFormatError: the file of names is not what it should be.
    """
    path = None if names is None else needed_file(names, "class names")
    return Folder(needed_folder(folder, "classes"), path)


def _pictures(folder: Path, name: str) -> Iterator[str]:
    """Paths of the pictures below one class, sorted in each folder."""
    for root, folders, files in os.walk(folder / name):
        folders.sort()
        below = Path(root).relative_to(folder).as_posix()
        yield from (f"{below}/{file}" for file in sorted(files) if Path(file).suffix.lower() in SUFFIXES)


def _class_names(path: Path) -> dict[str, str]:
    names = _names_of_json(read_json(path), path) if path.suffix.lower() == ".json" else _names_of_lines(path)
    if not names:
        raise FileFormatError(f"{path} names no class; expected lines such as 'n01440764 tench, Tinca tinca'")
    return names


def _names_of_lines(path: Path) -> dict[str, str]:
    lines = [line.split(None, 1) for line in read_lines(path) if line.strip()]
    return {line[0]: line[-1].strip() for line in lines}


def _names_of_json(data: Mapping[str, object], path: Path) -> dict[str, str]:
    """Folder → name, or number → [folder, name], in the order of the numbers."""
    names = {folder: name for folder, name in data.items() if isinstance(name, str)}
    if len(names) == len(data):
        return names
    try:
        pairs = [pair for _, pair in sorted(data.items(), key=lambda item: int(item[0])) if isinstance(pair, list)]
        if len(pairs) < len(data):
            raise TypeError("there is something else than a list")
        return {folder: str(name) for folder, name in pairs}
    except (TypeError, ValueError) as error:
        shown = json.dumps(data)[:80]
        raise FileFormatError(f"{path} holds {shown}; expected folder → name, or number → [folder, name]") from error


# -- ImageNet-Segmentation ---------------------------------------------------------------------------------------------


class ImageNetSegmentation:
    """The file, a :class:`~heedmap.datasets.sample.Reader`; a sample's key is its name in the file, or else its number."""

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
