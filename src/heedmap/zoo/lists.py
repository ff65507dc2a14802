"""Lists of pairs and a question for one of them: ``dog red ; cat blue ; sun green ? cat`` wants ``blue``.

The answer stands in the text once, right after the key that is asked for, and no other token tells anything of it: a
model that answers has looked there. Everything follows from (seed, split, index); a text is of one split only.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from zlib import crc32

KEYS = (
    *("dog", "cat", "sun", "moon", "tree", "fish", "bird", "car", "house", "ship"),
    *("star", "rock", "leaf", "lamp", "door", "book", "chair", "apple", "bread", "cloud"),
    *("river", "horse", "train", "clock", "shoe", "glove", "spoon", "knife", "plate", "brush"),
)
VALUES = (
    *("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "orange", "purple"),
    *("grey", "gold", "silver", "violet", "teal", "navy", "lime", "olive", "maroon", "cream"),
    *("amber", "coral", "ivory", "khaki"),
)
SIGNS = (";", "?")
FEWEST, MOST = 3, 8
QUESTIONS = 8
"""Questions of a training text: one after the other, each with its answer."""


@dataclass(frozen=True)
class ListSample:
    """A list with its question.

    Attributes:
        text: words and signs with a space between, each of them a token.
        answer: the word that comes next.
        key: index of the token that is the key asked for, in the list.
        value: index of the token that is the answer; ``key + 1``.
        query: index of the token that is the key, in the question; the last one.
        pairs: all keys with their values.
    """

    text: str
    answer: str
    key: int
    value: int
    query: int
    pairs: tuple[tuple[str, str], ...]


def list_sample(seed: int, split: str, index: int) -> ListSample:
    """Sample ``index`` of ``"train"``, ``"val"`` or ``"test"``."""
    random = Random(f"lists/{seed}/{split}/{index}")
    while True:
        sample = _sample(random)
        if split_of(sample.text) == split:
            return sample


def questions(sample: ListSample) -> list[tuple[str, str]]:
    """The pair that is asked for, and more of the list, so that a step has more to learn from.

    A key may be asked for again: were it not, the answers that are left would tell of the right one.
    """
    return [sample.pairs[sample.key // 3], *Random(sample.text).choices(sample.pairs, k=QUESTIONS - 1)]


def training_text(sample: ListSample) -> str:
    """The text with its answer, and more questions with theirs."""
    _, *more = questions(sample)
    return f"{sample.text} {sample.answer}" + "".join(f" ? {key} {value}" for key, value in more)


def split_of(text: str) -> str:
    """The split that a text belongs to: one in ten is of ``"test"``, one in ten of ``"val"``."""
    return {0: "test", 1: "val"}.get(crc32(text.encode()) % 10, "train")


def _sample(random: Random) -> ListSample:
    count = random.randint(FEWEST, MOST)
    pairs = tuple(zip(random.sample(KEYS, count), random.sample(VALUES, count), strict=True))
    asked = random.randrange(count)
    text = " ; ".join(f"{key} {value}" for key, value in pairs)
    key, value = pairs[asked]
    return ListSample(f"{text} ? {key}", value, 3 * asked, 3 * asked + 1, 3 * count, pairs)
