"""easy-VQA: questions about pictures of one coloured shape, made by Victor Zhou (https://github.com/vzhou842/easy-VQA).

What lies beside ``questions.json`` is read as it is in the package ``easy-vqa``: ``train`` and ``test`` with a folder
``images``. A picture is given to a model as an 8 × 8 grid of boxes, whose features are its raw pixels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heedmap.datasets.files import picture
from heedmap.datasets.sample import RightAnswers, Sample
from heedmap.errors import FileFormatError, InputError, SampleError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, UInt8

    from heedmap.types import Boxes

SPLITS = ("train", "test")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
ANSWERS = ("no", "yes", *SHAPES, *COLOURS)
WORDS = (
    *("a", "color", "contain", "does", "image", "in", "is", "no", "not"),
    *("of", "present", "shape", "the", "there", "what"),
    *SHAPES,
    *COLOURS,
)
"""All words of all questions."""
KINDS = ("what colour", "what shape", "colour or not", "shape or not")
SIDE = 64
"""Of the pictures, in pixels."""
GRID = 8
"""Boxes along a side of a picture."""
PATCH = SIDE // GRID
FEATURES = 3 * PATCH**2
"""Numbers of a box: darkness, 0 to 1, of each of its pixels in red, green and blue, row by row."""

Question = tuple[str, str, int]
"""Text, answer, number of the picture."""


def boxes(picture: UInt8[np.ndarray, "64 64 3"]) -> Boxes:
    """The picture as boxes, row by row: ``features`` (64, 192), ``boxes`` (64, 4) from 0 to 1, ``labels``."""
    return {"features": features(picture), "boxes": PLACES, "labels": NAMES}


def features(picture: UInt8[np.ndarray, "64 64 3"]) -> Float32[np.ndarray, "64 192"]:
    """What each box shows: its pixels; white is 0."""
    tiles = picture.reshape(GRID, PATCH, GRID, PATCH, 3).swapaxes(1, 2)
    return 1 - tiles.reshape(GRID**2, FEATURES).astype(np.float32) / 255


_ROWS, _COLUMNS = np.divmod(np.arange(GRID**2), GRID)
PLACES = np.stack([_COLUMNS, _ROWS, _COLUMNS + 1, _ROWS + 1], 1).astype(np.float32) / GRID
"""x1 y1 x2 y2 of each box, from 0 to 1."""
NAMES = tuple(f"row {number // GRID + 1} column {number % GRID + 1}" for number in range(GRID**2))


def drawn(picture: UInt8[np.ndarray, "64 64 3"]) -> Bool[np.ndarray, "64 64"]:
    """The pixels of the shape: those whose colour is nearer to the shape's than to the background's.

    The background is one light colour and the shape another one, with a smooth edge between them.
    """
    flat = picture.reshape(-1, 3).astype(int)
    colours, counts = np.unique(flat, axis=0, return_counts=True)
    light = colours.min(1) >= LIGHT
    background = colours[light][counts[light].argmax()]
    shape = colours[~light][counts[~light].argmax()]
    nearer = ((flat - shape) ** 2).sum(1) < ((flat - background) ** 2).sum(1)
    return nearer.reshape(SIDE, SIDE)


LIGHT = 200
"""The least value of red, green and blue of every background; every shape's colour has a lesser one."""


def kind_of(text: str, answer: str) -> str:
    """Which of :data:`KINDS` a question is."""
    if answer in COLOURS:
        return "what colour"
    if answer in SHAPES:
        return "what shape"
    return "colour or not" if set(re.findall(r"\w+", text)) & set(COLOURS) else "shape or not"


class EasyVqa:
    """Questions of easy-VQA, a :class:`~heedmap.datasets.sample.Reader`; a sample is a question, its key split and number.

    Attributes:
        questions: of all samples.
    """

    def __init__(self, folder: Path, split: str = "test") -> None:
        """Read the questions.

        Args:
            folder: ``heedmap.packaged.fetch("easy-vqa")``, or ``easy_vqa/data`` of the original.
            split: one of :data:`SPLITS`.

        Raises:
            InputError: there is no such split, or no file of its questions.
            FileFormatError: the file cannot be read.
        """
        if split not in SPLITS:
            raise InputError(f"easy-VQA has no split {split!r}; it has: {', '.join(SPLITS)}")
        self._folder = Path(folder) / split
        self.questions: Sequence[Question] = _questions(self._folder / "questions.json")
        self.keys: Sequence[str] = [f"{split}-{number}" for number in range(len(self.questions))]
        self.problems: Mapping[str, str] = {}
        told = {"kind": "easy-vqa", "split": split, "samples": len(self.keys), "boxes": GRID**2}
        self.description: Mapping[str, object] = told

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """``text`` and ``boxes``; the truth is RightAnswers. SampleError where the picture cannot be read."""
        text, answer, _ = self.questions[index]
        truth = RightAnswers({answer: 1.0}, ANSWERS.index(answer))
        return Sample(self.keys[index], {"text": text, "boxes": boxes(self.picture(index))}, truth)

    def picture(self, index: int) -> UInt8[np.ndarray, "64 64 3"]:
        """What sample ``index`` is about."""
        return _read(self._folder / "images" / f"{self.questions[index][2]}.png")

    def evidence(self, index: int) -> Float64[np.ndarray, " boxes"]:
        """For each box the share of it that the shape covers: nothing else in the picture tells any answer."""
        return drawn(self.picture(index)).reshape(GRID, PATCH, GRID, PATCH).mean((1, 3)).ravel()


def _questions(path: Path) -> list[Question]:
    if not path.is_file():
        raise InputError(
            f"there is no {path}; give the folder that python -m heedmap.packaged easy-vqa prints: "
            "it has train/questions.json and test/questions.json"
        )
    try:
        rows = [(str(text), str(answer), int(number)) for text, answer, number in json.loads(path.read_bytes())]
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"{path} is not a list of [question, answer, number of the picture]: {error}") from error
    unknown = {answer for _, answer, _ in rows} - set(ANSWERS)
    if unknown:
        raise FileFormatError(f"{path} has the answers {', '.join(sorted(unknown))}; easy-VQA's: {', '.join(ANSWERS)}")
    return rows


@lru_cache(maxsize=8192)
def _read(path: Path) -> UInt8[np.ndarray, "64 64 3"]:
    pixels = np.asarray(picture(path, f"the picture {path}"))
    if pixels.shape != (SIDE, SIDE, 3):
        raise SampleError(f"the picture {path} has {pixels.shape[1]} × {pixels.shape[0]} pixels, expected 64 × 64")
    return pixels
