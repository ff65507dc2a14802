"""Files of data sets: found, chosen among, read and described; pictures and masks, opened with care.

Whatever is wrong with a picture is a SampleError.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.common.memory import ran_out
from heedmap.errors import FileFormatError, InputError, SampleError

if TYPE_CHECKING:
    from jaxtyping import Bool
    from PIL.Image import Image

FilePath = str | os.PathLike[str]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
"""Of the files that are taken for pictures, in small letters."""

PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Modes of Pillow whose colours are multiplied with their alpha → those of colours as they are."""

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


def chosen_files(folder: FilePath, split: str | None, *endings: str) -> list[Path]:
    """The file, or those of a folder, by name, whose names begin with ``split`` and end so; InputError where there are none."""
    path = Path(folder)
    if path.is_file():
        return [path]
    found = sorted(file for ending in endings for file in path.glob(f"{split or ''}*{ending}") if file.is_file())
    if not found:
        told = " or ".join(f"{split or ''}*{ending}" for ending in endings)
        raise InputError(f"there is no {told} at {path}; give such a file, or a folder of them")
    return found


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


def stored(value: object, folder: Path) -> object:
    """The bytes of a column, or the path in ``folder`` that it has, or either as the library ``datasets`` has them."""
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str) and value:
        return folder / value
    return value


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


def parsed(line: str | bytes) -> object:
    """What a line holds as JSON; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


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


# -- pictures ----------------------------------------------------------------------------------------------------------


def picture(source: Path | bytes, name: object) -> Image:
    """A picture as :func:`upright_rgb` gives it; of an animation the first frame.

    Args:
        source: the file, or what would be in it.
        name: what messages call it.

    Raises:
        SampleError: no such file, no image, a damaged one, or more pixels than Pillow considers safe.
    """
    with _opened(source, name) as opened:
        return upright_rgb(opened)


def mask(source: Path | bytes, name: object) -> Bool[np.ndarray, "height width"]:
    """Where a picture is not 0: any of its channels but transparency, or its number in the palette.

    Args:
        source: the file, or what would be in it.
        name: what messages call it.

    Raises:
        SampleError: as of :func:`picture`.
    """
    with _opened(source, name) as opened:
        if opened.mode in ("LA", "RGBA"):
            opened = opened.convert(opened.mode[:-1])
        pixels = np.asarray(opened)
    return (pixels.reshape(*pixels.shape[:2], -1) != 0).any(2)


@contextmanager
def _opened(source: Path | bytes, name: object) -> Iterator[Image]:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # odd metadata; the pixels are what is wanted
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                yield opened
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError(f"{name} is too large an image ({error}); give a smaller one") from error
    except Exception as error:  # for damaged files the decoders raise nearly anything
        if ran_out(error):
            raise SampleError(f"memory does not suffice to read the image {name}; give a smaller one") from error
        raise SampleError(
            f"{name} cannot be read as an image ({error}); expected a whole PNG, JPEG or the like"
        ) from error


def upright_rgb(image: Image) -> Image:
    """A picture as a person sees it, RGB: turned as its EXIF data says, of 16 bits scaled, what is transparent on white.

    Numbers of more than 8 bits are levels from 0 to 65,535, floats from 0 to 1; where they do not fit, from 0 to 255.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # converting these to RGB would clip all that is above 255
        image = Image.fromarray(_levels(np.asarray(image), deep=image.mode.startswith("I;16")))
    image = image.convert(PREMULTIPLIED.get(image.mode, image.mode))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _levels(values: np.ndarray, deep: bool) -> np.ndarray:
    """Grey levels of any depth as bytes."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        scaled = values * 255 if values.max(initial=0) <= 1 else values
    else:
        scaled = values.clip(0, 0xFFFF) >> 8 if deep or values.max(initial=0) > 255 else values
    return scaled.clip(0, 255).round().astype(np.uint8)
