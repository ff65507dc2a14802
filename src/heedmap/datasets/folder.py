"""Classification as ImageNet has it: a folder of folders, one a class, with pictures in them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from heedmap.datasets.disk import FilePath, described, needed_file, needed_folder, read_json, read_lines
from heedmap.datasets.images import SUFFIXES, picture
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import FileFormatError, InputError


class Folder:
    """A folder of classes; a sample is a picture, its key the path below the folder.

    Attributes:
        keys, problems, description: see :class:`heedmap.datasets.sample.Reader`.
    """

    def __init__(self, folder: Path, names: Path | None) -> None:
        self._folder = folder
        folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        if not folders:
            raise InputError(f"there is no folder in {folder}; expected one a class, with pictures in it")
        self._names = {name: name for name in folders} if names is None else _read_names(names)
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


def _read_names(path: Path) -> dict[str, str]:
    names = _from_json(read_json(path), path) if path.suffix.lower() == ".json" else _from_lines(path)
    if not names:
        raise FileFormatError(f"{path} names no class; expected lines such as 'n01440764 tench, Tinca tinca'")
    return names


def _from_lines(path: Path) -> dict[str, str]:
    lines = [line.split(None, 1) for line in read_lines(path) if line.strip()]
    return {line[0]: line[-1].strip() for line in lines}


def _from_json(data: Mapping[str, object], path: Path) -> dict[str, str]:
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
