"""Whisper: how much of a word's map lies where the word is said."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import heedmap
from heedmap import Subject
from heedmap.evaluate.evidence import pointing, share
from heedmap.media import read_audio
from heedmap.methods.cards import CARDS
from heedmap.packaged import fetch
from heedmap.targets import NextToken
from known.rows import Row, kept, read
from known.speech import SENTENCES, Sentence, say

FRAME = 0.02
"""Seconds of a token of Whisper's encoder."""
FRAMES = 1500
SLACK = 0.1
"""Seconds around a word that count as its time too."""
CHANCE, SPEECH, TURN = "chance, of 30 s", "chance, of the speech", "the word's turn"
"""Maps that have heard nothing: even; even where there is speech; even over the word's place in a row of equal ones."""
ABLATED = "generic, normalize=False"
"""Without rules 8 and 9, which matter where there is cross-attention."""
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "generic": ("generic", {}),
    ABLATED: ("generic", {"normalize": False}),
    **{name: (name, {}) for name in heedmap.METHODS if name != "generic" and not CARDS[name].is_slow},
}
SLOW = tuple(name for name in heedmap.METHODS if CARDS[name].is_slow)


@dataclass(frozen=True)
class Word:
    """A word of a sentence that is asked about.

    Attributes:
        text: as it is said.
        turn: its number in the sentence, and how many words there are.
        begin, end: in seconds.
        token: position of its token among those of the decoder.
    """

    text: str
    turn: tuple[int, int]
    begin: float
    end: float
    token: int


def measured(path: Path) -> list[Row]:
    """The figures of every method on every sentence that is written down rightly; the file is gone on with."""
    whisper = heedmap.load(fetch("whisper-base"))
    for number, text in enumerate(SENTENCES):
        with TemporaryDirectory() as folder:
            sentence = say(text, Path(folder) / "said.wav")
            inputs = whisper.inputs(audio=read_audio(sentence.path))
        words = asked(whisper, inputs, sentence)
        for method in (CHANCE, SPEECH, TURN, *METHODS) if words else ():
            kept(path, f"{number}/{method}", lambda: _rows(whisper, inputs, words, sentence, method, number))  # noqa: B023
    return read(path)


def asked(whisper: Subject, inputs: Mapping[str, Any], sentence: Sentence) -> list[Word]:
    """The first, the middle and the last word, where they are single tokens; none where a word is misheard."""
    spoken = [whisper.tokenizer.decode([int(i)]) for i in inputs["decoder_input_ids"][0]]
    heard = {plain(token): place for place, token in enumerate(spoken) if plain(token)}
    said = list(sentence.times)
    if [plain(word) for word in "".join(t for t in spoken if "<|" not in t).split()] != [plain(w) for w in said]:
        return []
    chosen = [said[n] for n in (0, len(said) // 2, len(said) - 1)]
    return [
        Word(word, (said.index(word), len(said)), *sentence.times[word], heard[plain(word)])
        for word in chosen
        if plain(word) in heard
    ]


def plain(text: str) -> str:
    """A word without signs, in small letters; nothing for a special token."""
    return "" if "<|" in text else re.sub(r"\W", "", text).lower()


def maps_of(
    whisper: Subject, inputs: Mapping[str, Any], words: Sequence[Word], method: str, number: int = 0
) -> list[NDArray[np.float64]]:
    """The map of each word over the 30 seconds that Whisper listens to, (1500,)."""
    name, options = METHODS[method]
    seeded = {"seed": number} if name == "random" else {}
    targets = [NextToken(position=word.token - 1) for word in words]
    found = heedmap.explain(whisper, inputs, target=targets, method=name, **options, **seeded)
    return [explanation["audio"][0].double().numpy() for explanation in found]


def _rows(
    whisper: Subject, inputs: Mapping[str, Any], words: Sequence[Word], sentence: Sentence, method: str, number: int
) -> Iterator[Row]:
    known = {name: [_even(*_extent(name, word, sentence)) for word in words] for name in (CHANCE, SPEECH, TURN)}
    maps = known[method] if method in known else maps_of(whisper, inputs, words, method, number)
    for word, relevance in zip(words, maps, strict=True):
        yield {"unit": number, "word": word.text, "method": method, **figures(relevance, word)}


def figures(relevance: NDArray[np.float64], word: Word) -> dict[str, float]:
    """Share and pointing; how far the centre of the map, and its peak, are from the middle of the word, in seconds."""
    time, middle = times(), (word.begin + word.end) / 2
    truth = ((time > word.begin - SLACK) & (time < word.end + SLACK)).astype(float)
    positive = relevance.clip(0)
    centre = float((positive * time).sum() / positive.sum()) if positive.any() else time.mean()
    top = relevance == relevance.max()
    return {
        "share": share(relevance, truth),
        "pointing": pointing(relevance, truth),
        "centre": abs(centre - middle),
        "peak": float(np.abs(time[top] - middle).mean()),
    }


def times() -> NDArray[np.float64]:
    """The middle of each token's time, in seconds."""
    return (np.arange(FRAMES) + 0.5) * FRAME


def _extent(name: str, word: Word, sentence: Sentence) -> tuple[float, float]:
    begin, end = min(begin for begin, _ in sentence.times.values()), sentence.end
    if name == CHANCE:
        return 0.0, FRAMES * FRAME
    if name == SPEECH:
        return begin, end
    place, of = word.turn
    return begin + (end - begin) * place / of, begin + (end - begin) * (place + 1) / of


def _even(begin: float, end: float) -> NDArray[np.float64]:
    return ((times() > begin) & (times() < end)).astype(float)
