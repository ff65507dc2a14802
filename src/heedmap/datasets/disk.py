"""Files and folders of data sets: found, chosen among, listed and described."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from heedmap.datasets.images import SUFFIXES
from heedmap.errors import FileFormatError, InputError

FilePath = str | os.PathLike[str]

_COCO_NAME = re.compile(r"(?:COCO_[A-Za-z]+\d{4}_)?0*(\d+)")


def needed_file(path: FilePath, what: str) -> Path:
    """The path of a file that is there; InputError where it is not."""
    if not Path(path).is_file():
        raise InputError(f"there is no file of {what} at {path}; give its path")
    return Path(path)


def needed_folder(path: FilePath, what: str) -> Path:
    """The path of a folder that is there; InputError where it is not."""
    if not Path(path).is_dir():
        raise InputError(f"there is no folder of {what} at {path}; give its path")
    return Path(path)


def chosen_subset(folder: FilePath, pattern: str, split: str | None) -> str:
    """Which part of a data set to read, such as ``val2014``, by the files that are there.

    Args:
        folder: of the data set.
        pattern: path in it of a file that each part has, with ``{}`` for the part's name.
        split: the name, or its letters without the year; None where there is one only.

    Raises:
        InputError: no such folder, no such file, or several.
    """
    folder = needed_folder(folder, "the data set")
    subsets = sorted(subset_of(path, pattern) for path in folder.glob(pattern.replace("{}", "*")))
    fitting = [name for name in subsets if split in (None, name, name.rstrip("0123456789"))]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        have = f"; there are those of {', '.join(subsets)}" if subsets else ""
        raise InputError(f"there is no {pattern.format(split or '*')} in {folder}{have}; give split=, or paths")
    raise InputError(f"{folder} has {pattern} of {', '.join(fitting)}; choose one by split=")


def subset_of(path: FilePath, pattern: str) -> str:
    """The part's name in the name of such a file; the name without its suffix where it is none."""
    before, after = Path(pattern).name.split("{}")
    name = Path(path).name
    fits = name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
    return name[len(before) : -len(after)] if fits else Path(path).stem


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; FileFormatError where it is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no UTF-8 text ({error}); fetch it again") from error


def read_json(path: Path, hook: Callable[[dict[str, object]], object] | None = None) -> dict[str, object]:
    """The object that a JSON file holds.

    Args:
        path: the file.
        hook: what each object in it is replaced by as soon as it is parsed.

    Raises:
        FileFormatError: not JSON, or not an object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            data = json.load(file, object_hook=hook)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is no JSON ({error}); fetch it again") from error
    if not isinstance(data, dict):
        raise FileFormatError(f"{path} holds a {type(data).__name__}; expected a JSON object")
    return data


def listed(data: Mapping[str, object], name: str, path: Path) -> list[object]:
    """The list of that name in a file's object; FileFormatError where there is none."""
    rows = data.get(name)
    if not isinstance(rows, list):
        raise FileFormatError(f"{path} has no list {name!r} but {', '.join(map(str, data)) or 'nothing'}")
    return rows


def image_id(name: str | int) -> str:
    """What names an image, alike in every file: COCO's ``COCO_val2014_000000000042`` and ``000000000042`` are 42."""
    match = _COCO_NAME.fullmatch(str(name))
    return match[1] if match else str(name)


def images_by_id(folder: Path) -> dict[str, str]:
    """Names of the pictures of a folder by :func:`image_id`."""
    names = sorted((name for name in os.listdir(folder) if Path(name).suffix.lower() in SUFFIXES), reverse=True)
    return {image_id(Path(name).stem): name for name in names}


def described(kind: str, files: Iterable[Path], samples: int, **more: object) -> dict[str, object]:
    """A reader's description: the files by name and size alone, so that it is the same wherever they lie."""
    sizes = [{"name": path.name, "bytes": path.stat().st_size} for path in files]
    return {"kind": kind, "files": sizes, "samples": samples, **more}


def dated(kind: str, files: Sequence[tuple[str, Path]], rows: int, **more: object) -> dict[str, object]:
    """A description in which any change of the files is seen: their number, bytes, and a digest of names, sizes and dates.

    Args:
        kind: of the data set.
        files: name and path of each.
        rows: of all.
        more: what else tells which data these are.
    """
    stats = [(name, path.stat()) for name, path in files]
    told = "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    digest = sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    size = sum(stat.st_size for _, stat in stats)
    return {"kind": kind, "files": len(files), "bytes": size, "names_sizes_dates": digest, "rows": rows, **more}
