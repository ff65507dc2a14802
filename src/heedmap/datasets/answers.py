"""Answers that people gave, as VQA's official evaluation compares and scores them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

NUMBERS = {
    word: str(number)
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
} | {"none": "0"}

ARTICLES = frozenset({"a", "an", "the"})

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Not the apostrophe, which tells possessives from plurals, nor the colon, which is in times of day."""

_WITH_APOSTROPHES = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd
where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
y'all'd've you'd you'd've you'll you're you've
"""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


def _slips(word: str) -> list[str]:
    """The word with each of its apostrophes left out in turn."""
    return [word[:n] + word[n + 1 :] for n, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {slip: word for word in _WITH_APOSTROPHES.split() for slip in _slips(word)}
"""How a contraction with an apostrophe left out is meant; ``let's`` and ``she's`` are not among them."""


def normalised(answer: str) -> str:
    """An answer as the official evaluation compares it (https://visualqa.org/evaluation.html).

    In small letters; without articles and punctuation, but for periods before a digit, apostrophes and colons; numbers
    to ten as digits; contractions with their apostrophes. May be empty.
    """
    raw = " ".join(re.split(r"[\n\t]", answer)).strip()
    text, in_number = raw, _COMMA_IN_NUMBER.search(raw) is not None
    for sign in PUNCTUATION:
        beside_space = f"{sign} " in raw or f" {sign}" in raw
        text = text.replace(sign, "" if in_number or beside_space else " ")
    words = (NUMBERS.get(word, word) for word in _PERIOD.sub("", text).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def leave_one_out(count: int, of: int) -> float:
    """The official score of an answer that ``count`` of the people gave.

    Each in turn is left out and the answer compared with the others': min(those who say so / 3, 1); the mean of these.
    Of ten people that is 0.3 for each, 1 at most: the labels that LXMERT was trained with.
    """
    return ((of - count) * min(count / 3, 1.0) + count * min((count - 1) / 3, 1.0)) / of


def thirds(count: int, of: int) -> float:
    """min(count / 3, 1), as the paper of VQA has it."""
    return min(count / 3, 1.0)


def any_of(count: int, of: int) -> float:
    """1: every answer that was given is right."""
    return 1.0


SCORINGS: dict[str, Callable[[int, int], float]] = {"official": leave_one_out, "thirds": thirds, "any": any_of}


def soft_scores(answers: Sequence[str], scoring: str = "official") -> dict[str, float]:
    """Answer, normalised → its score, 0 to 1; the best first, those that score 0 left out.

    Where all say the same the official evaluation takes it as it is written; it scores 1 then in both forms.

    Args:
        answers: one a person.
        scoring: key of :data:`SCORINGS`.
    """
    score = SCORINGS[scoring]
    counts = Counter(normalised(answer) for answer in answers)
    scores = {said: score(count, len(answers)) for said, count in counts.most_common()}
    if len({answer.strip() for answer in answers}) == 1:
        scores[answers[0].strip()] = score(len(answers), len(answers))
    return {said: value for said, value in scores.items() if said and value > 0}
