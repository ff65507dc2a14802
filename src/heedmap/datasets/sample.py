"""What a data set gives: samples, each with what a model takes and what is true of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool

    from heedmap.types import OneBoxes, OneImage, OneSound, OneText

Span = tuple[int, int]
"""Characters of a text, from and to (the first one beyond)."""


@dataclass(frozen=True)
class RightAnswers:
    """What may be answered.

    Attributes:
        scores: answer → how right it is, 0 to 1; any other answer scores 0. VQA's soft scores, or one label with 1.
        index: number of the label among the data set's classes, where these have an order.
    """

    scores: Mapping[str, float]
    index: int | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """One object of a picture.

    Attributes:
        label: its category.
        box: x, y, width, height in pixels, as COCO has it.
        mask: its pixels.
        crowd: whether it is a group, in which what is found counts neither way.
        area: in pixels, as annotated.
    """

    label: str
    box: tuple[float, float, float, float]
    mask: Bool[np.ndarray, "height width"]
    crowd: bool
    area: float


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a picture.

    Attributes:
        objects: all that are annotated.
    """

    objects: tuple[Found, ...]


@dataclass(frozen=True, eq=False)
class Foreground:
    """The pixels of a picture that its label is about.

    Attributes:
        mask: true where they are.
        label: of the picture, where it is known.
        ignored: pixels that count neither way, or None.
    """

    mask: Bool[np.ndarray, "height width"]
    label: str | None = None
    ignored: Bool[np.ndarray, "height width"] | None = None


@dataclass(frozen=True)
class Rationale:
    """The words that people gave as reasons for a label.

    Attributes:
        label: what is right.
        spans: the reasons, as characters of the text.
        words: all words of the text, as characters of it.
    """

    label: str
    spans: tuple[Span, ...]
    words: tuple[Span, ...]


@dataclass(frozen=True)
class Match:
    """Of a picture and its text: other texts, which do not fit the picture.

    Attributes:
        wrong: one or more.
    """

    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What is right at one place of what a model says, or of a text whose tokens it labels.

    Attributes:
        place: in the text of the logits, from 0; what a model says is read from the token before.
        index: of the token, or label, among the logits there.
    """

    place: int
    index: int


Truth = RightAnswers | Objects | Foreground | Rationale | Match | Said


class SampleInputs(TypedDict, total=False):
    """What a model is asked of a sample, by the names of ``heedmap.Model.explain``."""

    text: OneText
    image: OneImage
    boxes: OneBoxes
    audio: OneSound


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample of a data set.

    Attributes:
        key: names it, always the same, once in a data set.
        inputs: what a model is asked of it; our own readers' pictures are PIL, RGB.
        truth: what is true of it.
    """

    key: str
    inputs: SampleInputs
    truth: Truth


class Reader(Protocol):
    """A data set on disk. Opening it reads an index; a sample is read when it is asked for."""

    @property
    def keys(self) -> Sequence[str]:
        """Of all samples, in the order of the files."""

    @property
    def problems(self) -> Mapping[str, str]:
        """What was left out on opening: key → why."""

    @property
    def description(self) -> Mapping[str, object]:
        """Plain JSON data that tells which data these are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """The sample; SampleError where it cannot be used (its image is damaged or missing, it has no answer)."""
