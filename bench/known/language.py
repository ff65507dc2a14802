"""MiniLM and SmolLM2: how much of a map lies on the words that decide, in texts put together so that these are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import heedmap
from heedmap import Subject
from heedmap.errors import UnfollowedAttentionError
from heedmap.evaluate.evidence import pointing, share, word_evidence
from heedmap.methods.cards import CARDS
from heedmap.packaged import fetch
from heedmap.targets import NextToken, Similarity, Target
from known.rows import Row, kept, read, refused

CHANCE = "chance"
METHODS = (*(name for name in heedmap.METHODS if not CARDS[name].is_slow), "occlusion")
"""Those of a pass or two; and ``occlusion``, which takes one for each token, and these are few."""

ALIKE = (
    ("A man is playing a guitar", "Someone plays a musical instrument"),
    ("The children are swimming in the lake", "Kids swim in the water"),
    ("The bank raised its interest rates", "Borrowing money became more expensive"),
    ("A dog chased the cat up a tree", "The kitten was hunted by a puppy"),
    ("The train to London was cancelled", "There is no railway connection to the English capital today"),
    ("She baked a chocolate cake", "A woman made a dessert in the oven"),
    ("The surgeon operated on his knee", "A doctor treated the patient's leg"),
    ("The new phone has a better camera", "This mobile device takes nicer photographs"),
    ("Farmers are harvesting the wheat", "Grain is being gathered in the fields"),
    ("The striker scored two goals", "A football player shot the ball into the net twice"),
    ("Thick snow covered the mountains", "The peaks were white after the winter storm"),
    ("The court sentenced the thief to prison", "A judge sent the burglar to jail"),
)
"""Sentences and others that say the like in other words."""
TURNS = 2
"""Texts of each of :data:`ALIKE`: three sentences, the first, then the last of which it is."""

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Germany": "Berlin", "Spain": "Madrid", "Japan": "Tokyo", "Russia": "Moscow",
    "England": "London", "China": "Beijing", "Egypt": "Cairo", "Austria": "Vienna", "Greece": "Athens", "Ireland": "Dublin",
    "Portugal": "Lisbon", "Poland": "Warsaw", "Sweden": "Stockholm", "Norway": "Oslo", "Cuba": "Havana", "Hungary": "Budapest",
}  # fmt: skip
"""Asked about, each beside the next one, which has nothing to do with the answer."""


@dataclass(frozen=True)
class Told:
    """A text and the words in it that decide.

    Attributes:
        text: what the model reads.
        words: first character and end of each word that decides.
        other: what the text is compared with; or the answer.
        changed: the same with other words there: the answer must change.
        changed_other: the answer then.
        unit: what is resampled.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    other: str
    changed: str
    changed_other: str
    unit: str


def likened() -> list[Told]:
    """Three sentences, of which one is like another one."""
    told = []
    for number, (said, alike) in enumerate(ALIKE):
        for turn in range(TURNS):
            first, second, third = (ALIKE[(number + step + 3 * turn) % len(ALIKE)][0] for step in (4, 5, 6))
            place = -turn  # the first, then the last
            texts = []
            for sentence in (said, third):
                sentences = [first, second]
                sentences.insert(len(sentences) if place else 0, sentence)
                texts.append(". ".join(sentences) + ".")
            begin = texts[0].index(said)
            told.append(Told(texts[0], ((begin, begin + len(said)),), alike, texts[1], "", said))
    return told


def asked() -> list[Told]:
    """The beginning of a sentence about a country, after one about another; changed, the two countries change places."""
    told, countries = [], list(CAPITALS)
    for country, other in zip(countries, [*countries[1:], countries[0]], strict=True):
        text, changed = (
            f"My friend comes from {one}. The capital of {two} is" for one, two in ((other, country), (country, other))
        )
        at = text.rindex(country)
        words = ((at, at + len(country)),)
        told.append(Told(text, words, f" {CAPITALS[country]}", changed, f" {CAPITALS[other]}", country))
    return told


def alike(path: Path, methods: Sequence[str] = ()) -> list[Row]:
    """MiniLM's figures by these methods (none: by all) of what makes a text like a sentence."""
    minilm = heedmap.load(fetch("minilm"))
    told = [each for each in likened() if _likeness(minilm, each.text, each) > _likeness(minilm, each.changed, each)]

    def target(each: Told) -> Similarity:
        return Similarity(minilm.embedding(each.other))

    return _measured(path, minilm, told, target, methods)


def next_word(path: Path, methods: Sequence[str] = ()) -> list[Row]:
    """SmolLM2's figures by these methods (none: by all) of the next word, where it is right also with the words changed."""
    smollm2 = heedmap.load(fetch("smollm2"))
    told = [
        each
        for each in asked()
        if _next(smollm2, each.text) == each.other and _next(smollm2, each.changed) == each.changed_other
    ]

    def target(each: Told) -> NextToken:
        return NextToken(each.other)

    return _measured(path, smollm2, told, target, methods)


def _measured(
    path: Path, subject: Subject, told: Sequence[Told], target: Callable[[Told], Target], methods: Sequence[str]
) -> list[Row]:
    for number, each in enumerate(told):
        for method in methods or (CHANCE, *METHODS):
            if any(row["method"] == method and "refused" in row for row in read(path)):
                continue
            kept(path, f"{number}/{method}", lambda: [_row(subject, each, target(each), method, number)])  # noqa: B023
    return [row for row in read(path) if not methods or row["method"] in methods]


def _row(subject: Subject, told: Told, target: Target, method: str, number: int) -> Row:
    truth = word_evidence(subject.tokenizer, told.text, told.words)
    try:
        relevance = relevance_of(subject, told, target, method, number)
    except UnfollowedAttentionError as error:
        return refused(method, error)
    return {"unit": told.unit, "text": number, "method": method, **figures(relevance, truth)}


def relevance_of(subject: Subject, told: Told, target: Target, method: str, number: int) -> NDArray[np.float64]:
    """The map of a text, of all its tokens."""
    if method == CHANCE:
        return np.ones(len(subject.tokenizer(told.text)["input_ids"]))
    options = {"seed": number} if method == "random" else {}
    return subject.explain(text=told.text, target=target, method=method, **options)["text"][0].double().numpy()


def figures(relevance: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Share of the positive relevance; the same (``rest``), pointing game and ROC-AUC without the first token."""
    rest, inside = relevance[1:], truth[1:]
    return {
        "share": share(relevance, truth),
        "rest": share(rest, inside),
        "pointing": pointing(rest, inside),
        "auc": float(roc_auc_score(inside, rest)),
    }


def _likeness(minilm: Subject, text: str, told: Told) -> float:
    return float(torch.cosine_similarity(minilm.embedding(text), minilm.embedding(told.other)))


def _next(smollm2: Subject, text: str) -> str:
    with torch.no_grad():
        logits = smollm2.model(**smollm2.inputs(text=text)).logits
    return str(smollm2.tokenizer.decode([int(logits[0, -1].argmax())]))
