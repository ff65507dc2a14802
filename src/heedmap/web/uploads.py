"""Files that people upload: measured by their headers, then read as the command line reads them. No message tells a path."""

from __future__ import annotations

import math
import threading
import wave
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from heedmap.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

ARRAYS = ("features", "boxes", "features.npy", "boxes.npy")
"""What is read of an .npz, under either of the names by which numpy finds it."""
MB = 2**20
"""Bytes that Gradio calls a megabyte: so the page says one limit."""
_READING = threading.Lock()
"""Reading a picture sets the process's filters of warnings for a moment."""


def picture(path: str | Path | None, limits: Limits) -> Image | None:
    """A picture as RGB, the right way up; None where there is none.

    Raises:
        InputError: too many bytes or pixels, or no picture.
    """
    if path is None:
        return None
    from heedmap.datasets.files import picture

    with _READING:
        check_bytes(Path(path), "picture", limits)
        width, height = _size(Path(path))
        if width * height > limits.pixels or max(width, height) > limits.side:
            raise InputError(
                f"the picture has {width} × {height} pixels, {width * height / 1e6:.1f} million; the page takes up to "
                f"{limits.pixels / 1e6:g} million and sides up to {limits.side:,}: make it smaller"
            )
        return picture(Path(path).read_bytes(), "the picture")  # messages about bytes tell no path


def sound(path: str | Path | None, limits: Limits) -> tuple[NDArray[np.float32], int] | None:
    """A 16-bit .wav file as (samples, rate), one channel; None where there is none.

    Raises:
        InputError: too many bytes or seconds, or no such file.
    """
    if path is None:
        return None
    from heedmap.models.media import read_audio

    check_bytes(Path(path), "sound", limits)
    seconds = _seconds(Path(path))
    if seconds > limits.sound:
        raise InputError(f"the sound lasts {seconds:.1f} s; the page takes up to {limits.sound:g} s: give a part of it")
    return read_audio(Path(path), "the sound")


def boxes(path: str | Path | None, limits: Limits) -> dict[str, NDArray[np.float32]] | None:
    """``features``, (N, d), and maybe ``boxes``, (N, 4), of an .npz file; None where there is none.

    Raises:
        InputError: too many bytes, also unpacked, or no such file.
    """
    if path is None:
        return None
    from heedmap.models.media import read_boxes

    check_bytes(Path(path), "file of boxes", limits)
    for name, size in _arrays(Path(path)):
        if size > limits.unpacked:
            raise InputError(
                f"the array {name!r} of the boxes has {size / 1e6:.1f} MB; the page takes up to "
                f"{limits.unpacked / 1e6:g} MB: give fewer boxes"
            )
    return read_boxes(Path(path), "the file of boxes")


def check_bytes(path: Path, what: str, limits: Limits) -> None:
    """InputError where a file is larger than the page takes."""
    size = path.stat().st_size
    if size > limits.bytes:
        raise InputError(f"the {what} has {size / MB:.2f} MB; the page takes up to {limits.bytes / MB:g} MB")


def _size(path: Path) -> tuple[int, int]:
    """Width and height by the header; (0, 0) where reading will tell better what is wrong."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return opened.size
    except UnidentifiedImageError:
        raise InputError("the picture cannot be read as an image; expected a whole PNG, JPEG or the like") from None
    except Exception:  # for damaged files the decoders raise nearly anything
        return 0, 0


def _seconds(path: Path) -> float:
    """By the header; 0 where reading will tell better what is wrong."""
    try:
        with wave.open(str(path), "rb") as opened:
            return opened.getnframes() / max(1, opened.getframerate())
    except (OSError, EOFError, wave.Error):
        return 0.0


def _arrays(path: Path) -> list[tuple[str, int]]:
    """Names and bytes of the arrays that will be read, by what their headers claim."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [
                (name.removesuffix(".npy"), _claimed(archive, name)) for name in archive.namelist() if name in ARRAYS
            ]
    except Exception as error:  # for damaged archives zipfile raises nearly anything
        raise InputError(
            f"the file of boxes cannot be read ({error}); expected an .npz file with an array 'features'"
        ) from None


def _claimed(archive: zipfile.ZipFile, name: str) -> int:
    """The larger of what the archive and the array's own header say: numpy allocates by the one, and reads by the other."""
    from numpy.lib import format as npy

    with archive.open(name) as file:
        opened = cast("BinaryIO", file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(opened)
        if version not in read:
            raise ValueError(f"version {version} of numpy's format")
        shape, _, dtype = read[version](opened)
    return max(archive.getinfo(name).file_size, math.prod(map(int, shape)) * int(dtype.itemsize))


@dataclass(frozen=True)
class Limits:
    """Limits of one request, and of how many there may be.

    Attributes:
        bytes: of a file that is uploaded.
        pixels: of a picture, known from its header before it is decoded.
        side: pixels of a picture's longer side.
        unpacked: bytes of a file of boxes, unpacked.
        sound: seconds of a sound.
        letters: characters of a text.
        rows: samples of a table.
        passes: the largest number that an option of a method may be, such as its steps.
        seconds: that a request may take, from when it is its turn in the queue.
        at_once: requests that are worked on at once.
        waiting: requests that may wait in the queue.
    """

    bytes: int = 10 * MB
    pixels: int = 20_000_000
    side: int = 20_000
    unpacked: int = 50_000_000
    sound: float = 60.0
    letters: int = 10_000
    rows: int = 50
    passes: int = 1_000
    seconds: float = 60.0
    at_once: int = 8
    waiting: int = 64

    def __str__(self) -> str:
        return (
            f"Files up to {self.bytes / MB:g} MB, pictures up to {self.pixels / 1e6:g} million pixels, sounds up to "
            f"{self.sound:g} seconds, texts up to {self.letters:,} characters, {self.seconds:g} seconds a request."
        )

    def text(self, text: str | None) -> str | None:
        """``text``, or None where there is none; InputError where it is too long, or no text that can be written."""
        if text is not None and len(text) > self.letters:
            raise InputError(
                f"the text has {len(text):,} characters; the page takes up to {self.letters:,}: shorten it, or explain "
                "it on the command line"
            )
        if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError("the text holds half a character (a lone surrogate); type it again")
        return text or None
