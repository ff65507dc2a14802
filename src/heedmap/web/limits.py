"""What may be given to the page, and what of it is refused before any work is done."""

from __future__ import annotations

from dataclasses import dataclass

from heedmap.errors import InputError


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
        passes: the largest number that an option of a method may be, such as its steps.
        seconds: that a request may take, from when it is its turn in the queue.
        at_once: requests that are worked on at once.
        waiting: requests that may wait in the queue.
    """

    bytes: int = 10_000_000
    pixels: int = 20_000_000
    side: int = 20_000
    unpacked: int = 50_000_000
    sound: float = 60.0
    letters: int = 10_000
    passes: int = 1_000
    seconds: float = 60.0
    at_once: int = 8
    waiting: int = 64

    def __str__(self) -> str:
        return (
            f"Files up to {self.bytes / 1e6:g} MB, pictures up to {self.pixels / 1e6:g} million pixels, sounds up to "
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
