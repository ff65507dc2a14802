"""What may be given to the page, and what of it is refused before any work is done."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heedmap.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_READING = threading.Lock()
"""Reading a picture sets the process's filters of warnings for a moment."""


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes:
        bytes: of a file that is uploaded.
        pixels: of a picture, known from its header before it is decoded.
        letters: characters of a text.
        seconds: that a request may take, from when it is its turn in the queue.
    """

    bytes: int = 10_000_000
    pixels: int = 20_000_000
    letters: int = 10_000
    seconds: float = 60.0

    def __str__(self) -> str:
        return (
            f"Pictures up to {self.bytes / 1e6:g} MB and {self.pixels / 1e6:g} million pixels, texts up to "
            f"{self.letters:,} characters, {self.seconds:g} seconds a request."
        )

    def text(self, text: str | None) -> str | None:
        """``text``, or None where there is none; InputError where it is too long."""
        if text is not None and len(text) > self.letters:
            raise InputError(
                f"the text has {len(text):,} characters; the page takes up to {self.letters:,}: shorten it, or explain "
                "it on the command line"
            )
        return text or None

    def picture(self, path: str | Path | None) -> Image | None:
        """An uploaded file as RGB, read as the command line reads it; None where there is none.

        Raises:
            InputError: too many bytes or pixels, or no picture.
        """
        if path is None:
            return None
        from heedmap.data.images import picture

        with _READING:
            self._check(Path(path))
            return picture(Path(path).read_bytes(), "the picture")  # messages about bytes tell no path

    def _check(self, path: Path) -> None:
        size = path.stat().st_size
        if size > self.bytes:
            raise InputError(f"the picture has {size / 1e6:.1f} MB; the page takes up to {self.bytes / 1e6:g} MB")
        width, height = _size(path)
        if width * height > self.pixels:
            raise InputError(
                f"the picture has {width} × {height} pixels, {width * height / 1e6:.1f} million; the page takes up to "
                f"{self.pixels / 1e6:g} million: make it smaller"
            )


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
