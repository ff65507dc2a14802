"""One sample of a segment: what every picture starts from."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heedmap.errors import InputError

if TYPE_CHECKING:
    from heedmap.explanation import Explanation, Segment

BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample of a segment.

    Attributes:
        labels: (tokens,) printable; token positions where the segment has no labels.
        values: (tokens,), float64, the relevance as it is.
        taken: (tokens,), whether the model took the token in.
    """

    labels: tuple[str, ...]
    values: NDArray[np.float64]
    taken: NDArray[np.bool_]

    @property
    def shown(self) -> list[int]:
        """Indices of the tokens that the model took in, in order."""
        return [int(i) for i in np.flatnonzero(self.taken)]

    @property
    def known(self) -> NDArray[np.float64]:
        """(tokens,): the relevance, NaN for what the model did not take in or what is not finite."""
        return np.where(self.taken & np.isfinite(self.values), self.values, np.nan)

    def top(self, count: int) -> list[int]:
        """Indices of the ``count`` most relevant finite tokens, highest first; of equals the earlier."""
        finite = [i for i in self.shown if np.isfinite(self.values[i])]
        return sorted(finite, key=lambda i: -self.values[i])[:count]


def sample(segment: Segment, index: int = 0) -> Sample:
    """Sample ``index`` of ``segment``; InputError where the batch is smaller."""
    index = checked_index(index, len(segment.relevance))
    values = segment.relevance[index].detach().cpu().double().numpy()
    taken = (segment.positions[index] >= 0).cpu().numpy()
    return Sample(_labels(segment, index), values, taken)


def checked_index(index: int, batch: int) -> int:
    """``index`` counted from 0 in a batch of ``batch``; InputError where it is out of range."""
    if not -batch <= index < batch:
        raise InputError(f"sample {index} is out of range: the batch has {batch}, 0 to {batch - 1}")
    return index % batch


def batch_size(explanation: Explanation) -> int:
    """Number of samples in ``explanation``."""
    return len(explanation.target)


def visible(text: str) -> str:
    """``text`` with everything unprintable made visible: no control, bidi override or lone surrogate remains."""
    if not text:
        return "∅"
    if not text.strip(" "):
        return "␣" * len(text)
    return "".join(map(_visible_character, text))


def number(value: float) -> str:
    """``value`` in three significant digits."""
    return f"{value:.3g}"


def percent(part: float) -> str:
    """``12.3 %``; what is not quite nothing or not quite all is said to be so."""
    if 0 < part < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < part < 1 else f"{100 * part:.1f} %"


def _visible_character(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if character in BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return "\N{REPLACEMENT CHARACTER}"
    return character


def _labels(segment: Segment, index: int) -> tuple[str, ...]:
    tokens = segment.relevance.shape[1]
    if segment.labels is None:
        return tuple(map(str, range(tokens)))
    given = tuple(visible(label) for label in segment.labels[index][:tokens])
    return given + tuple(str(i) for i in range(len(given), tokens))
