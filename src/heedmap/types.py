"""What people give, and what libraries bring, as the types of signatures: for readers, editors and type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    from os import PathLike

    import numpy as np
    from PIL.Image import Image
    from torch import Tensor
    from transformers.generation.utils import GenerateOutput

Array: TypeAlias = "np.ndarray | Tensor"
"""Numbers: of numpy or of torch."""

OneText: TypeAlias = "str | tuple[str, str]"
"""A text, or a (first, second) pair of texts, of one sample."""

OneImage: TypeAlias = "Image | Array | str | PathLike[str]"
"""A picture: a PIL image; an array (rows, columns, 3) of uint8 or of floats from 0 to 1; the path of a file."""

OneSound: TypeAlias = "tuple[Array | Sequence[float], int] | tuple[int, Array | Sequence[float]] | Mapping[str, object]"
"""A clip: samples and samples a second, in either order, or a mapping with ``array`` (or ``raw``) and ``sampling_rate``."""


class Boxes(TypedDict, total=False):
    """Boxes of one sample: ``features`` (N, d), ``boxes`` (N, 4), x1 y1 x2 y2 as shares of the picture's sides, N ``labels``."""

    features: Array | Sequence[Sequence[float]]
    boxes: Array | Sequence[Sequence[float]]
    labels: Sequence[str]


OneBoxes: TypeAlias = "Boxes | Mapping[str, object]"
"""Boxes of one sample, see :class:`Boxes`, also out of a file or a data set."""

Entry = TypeVar("Entry")
"""What a list holds that may be of any one type: a ``list[Image]`` is no ``list[OneImage]``, and a text or a tuple is no list."""

TextInput: TypeAlias = "OneText | Sequence[OneText] | None"
"""A text or a pair, or a list of these: a batch; None: not given."""

ImageInput: TypeAlias = "OneImage | tuple[OneImage, ...] | Sequence[OneImage | tuple[OneImage, ...]] | None"
"""A picture, or a list of them: a batch; a tuple of pictures is one sample of several; None: not given."""

BoxesInput: TypeAlias = "OneBoxes | Sequence[OneBoxes] | None"
"""The boxes of a sample, or a list of them: a batch; None: not given."""

AudioInput: TypeAlias = "OneSound | Sequence[OneSound] | None"
"""A clip, or a list of them: a batch; None: not given."""

TokenIds: TypeAlias = "Array | Sequence[int] | Sequence[Sequence[int]]"
"""Ids of tokens, (batch, tokens) or those of one sample."""

Inputs: TypeAlias = "Mapping[str, object] | Array | tuple[Array, ...] | list[Array]"
"""What a model is called with: keyword arguments, batch first; positional ones; or one tensor."""

AnswerInput: TypeAlias = "str | Sequence[str] | TokenIds | GenerateOutput"
"""An answer: a text, or one a sample; ids of tokens, (batch, steps); or what ``generate`` returned."""

ContrastInput: TypeAlias = (
    "str | Sequence[str] | TokenIds | Mapping[str, str] | Mapping[int, str] | Mapping[str | int, str]"
)
"""What an answer is set against: a word, ``"runner-up"``, another answer, or words (or numbers of tokens) → other words."""


class Given(TypedDict, total=False):
    """What a model is asked with, by the names of ``heedmap.Model.explain``; one sample or a batch."""

    text: TextInput
    image: ImageInput
    boxes: BoxesInput
    audio: AudioInput


class OneGiven(TypedDict, total=False):
    """As :class:`Given`, of one sample."""

    text: OneText | None
    image: OneImage | tuple[OneImage, ...] | None
    boxes: OneBoxes | None
    audio: OneSound | None


class Tokenizer(Protocol):
    """What makes tokens of texts, with the interface of transformers' tokenizers.

    Whatever else these can do (``decode``, ``all_special_ids``, ``chat_template`` …) is used where it is there.
    """

    def __call__(self, *texts: Any, **settings: Any) -> Mapping[str, Tensor | Sequence[int]]:
        """``input_ids`` and what else the model is called with, of texts, or of first and second texts.

        Tensors, where ``return_tensors="pt"`` asks for them; else, of one text, its numbers.
        """

    def convert_ids_to_tokens(self, ids: list[int], /) -> Sequence[str]:
        """The tokens as they are written in the vocabulary."""


class ImageProcessor(Protocol):
    """What makes ``pixel_values`` of pictures, with the interface of transformers' image processors."""

    def __call__(self, *images: Any, **settings: Any) -> Mapping[str, Tensor]:
        """``pixel_values`` (batch, channels, rows, columns), and what else the model is called with."""


class FeatureExtractor(Protocol):
    """What makes ``input_features`` or ``input_values`` of sound, with the interface of transformers' feature extractors."""

    sampling_rate: int
    """Samples a second."""

    def __call__(self, *clips: Any, **settings: Any) -> Mapping[str, Tensor]:
        """What the model is called with."""


class JointProcessor(Protocol):
    """What places pictures and sounds among the words, with the interface of transformers' processors."""

    def __call__(self, *texts: Any, **settings: Any) -> Mapping[str, Tensor]:
        """What the model is called with, of ``text`` with ``images`` or ``audio``."""
