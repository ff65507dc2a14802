"""Whisper: how much of a word's map lies where the word is said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import heedmap
from heedmap import Explanation, Subject
from heedmap.errors import UnfollowedAttentionError
from heedmap.evaluate.evidence import pointing, share
from heedmap.methods.cards import CARDS
from heedmap.models.media import read_audio
from heedmap.packaged import fetch
from heedmap.targets import NextToken
from known.rows import Row, kept, read, refused
from known.speech import SENTENCES, Sentence, say

FRAME = 0.02
"""Seconds of a token of Whisper's encoder."""
FRAMES = 1500
SLACK = 0.1
"""Seconds around a word that count as its time too."""
GAPS = (0.05, 0.8)
"""Seconds: the least and the greatest silence between two words."""
ASKED = 6
"""Sentences, the first ones, that are measured: each takes some minutes of a core."""
CHANCE, SPEECH, TURN = "chance, of 30 s", "chance, of the speech", "the word's turn"
"""Maps that have heard nothing: even; even where there is speech; even over the word's place in a row of equal ones."""
ABLATED = "generic, normalize=False"
"""Without rules 8 and 9, which matter where there is cross-attention."""
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "generic": ("generic", {}),
    ABLATED: ("generic", {"normalize": False}),
    **{name: (name, {}) for name in heedmap.METHODS if name != "generic" and not CARDS[name].is_slow},
    "value_zeroing": ("value_zeroing", {}),
}
"""Those of a pass or two, and one that takes dozens where it is not refused: it says so itself."""
SLOW = tuple(name for name in heedmap.METHODS if name not in METHODS)
ABOVE = ("generic", "full_lrp", "attn_lrp", "input_x_gradient")
"""Methods that are also asked for the relevance of the encoder's output, which the decoder listens to."""
OF_OUTPUT = "{}, of the encoder's output"

ANSWERED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    name: METHODS[name] for name in ("generic", ABLATED, "raw_attention", "attention_x_gradient")
}
"""Methods by which whole answers are explained, with every word in them."""

LESS_SILENCE = "input × gradient, less silence"
"""(x − silence) ⊙ ∂y/∂x of the spectrogram x: ``input_x_gradient`` where silence counts as nothing."""


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


@dataclass(frozen=True, eq=False)
class Heard:
    """A sentence that is written down rightly.

    Attributes:
        number: of it.
        begin, end: of the speech, in seconds.
        inputs: what Whisper is called with.
        words: asked about.
    """

    number: int
    begin: float
    end: float
    inputs: Mapping[str, Any]
    words: tuple[Word, ...]


class Listening(torch.nn.Module):
    """Whisper's decoder alone: its input is what the encoder has made of the sound."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: torch.Tensor, decoder_input_ids: torch.Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return self.model(encoder_outputs=BaseModelOutput(states), decoder_input_ids=decoder_input_ids)


def measured(path: Path, methods: Sequence[str] = ()) -> list[Row]:
    """The figures of these methods (none: of all) on a word of every sentence written down rightly; the file is gone on with."""
    whisper = heedmap.load(fetch("whisper-base"))
    first = enumerate(SENTENCES[:ASKED])
    sentences = [found for number, text in first if (found := heard(whisper, number, text))]
    for one in sentences:
        for word in one.words:
            for method in methods or (CHANCE, SPEECH, TURN, *METHODS, *map(OF_OUTPUT.format, ABOVE), LESS_SILENCE):
                if any(row["method"] == method and "refused" in row for row in read(path)):
                    continue  # the model refuses it, whatever it hears
                kept(path, f"{one.number}/{word.text}/{method}", lambda: [_row(whisper, one, word, method)])  # noqa: B023
    return [row for row in read(path) if not methods or row["method"] in methods]


def answered(path: Path) -> list[Row]:
    """The figures of every word of every sentence written down rightly, the sentence explained as one answer."""
    whisper = heedmap.load(fetch("whisper-base"))
    for number, text in enumerate(SENTENCES[:ASKED]):
        for method in ANSWERED:
            kept(path, f"answer {number}/{method}", lambda: _answer(whisper, number, text, method))  # noqa: B023
    return read(path)


def _answer(whisper: Subject, number: int, text: str, method: str) -> list[Row]:
    """Rows of each word that is said, of all its tokens; with the first method, also of the maps that have heard nothing."""
    with TemporaryDirectory() as folder:
        sentence = say(text, Path(folder) / "said.wav", gaps(number))
        sound = read_audio(sentence.path)
    name, options = ANSWERED[method]
    found = whisper.explain_answer(audio=sound, method=name, **options)
    words, said = [word for word in found.words() if plain(word[0])], list(sentence.times)  # no commas
    if [plain(word) for word, _, _ in words] != [plain(word) for word in said]:
        return []
    nothing_heard = (CHANCE, SPEECH, TURN) if method == next(iter(ANSWERED)) else ()
    begin = min(begin for begin, _ in sentence.times.values())
    heard_ = Heard(number, begin, sentence.end, {}, ())
    rows = []
    for (_, first, end), called in zip(words, said, strict=True):
        word = _word(called, sentence, first)
        maps = {one: _even(*_extent(one, heard_, word)) for one in nothing_heard}
        maps[method] = found.span(first, end)["audio"][0].double().numpy()
        rows += [
            {"unit": number, "word": called, "method": one, **figures(relevance, word)}
            for one, relevance in maps.items()
        ]
    return rows


def heard(whisper: Subject, number: int, text: str, every: bool = False) -> Heard | None:
    """What Whisper hears of a sentence, with its middle word, or every one, where they are single tokens.

    None: a word is misheard.
    """
    with TemporaryDirectory() as folder:
        sentence = say(text, Path(folder) / "said.wav", gaps(number))
        inputs = whisper.inputs(audio=read_audio(sentence.path))
    tokens = [whisper.tokenizer.decode([int(i)]) for i in inputs["decoder_input_ids"][0]]
    written = "".join(token for token in tokens if not special(token)).split()
    said = list(sentence.times)
    if [plain(word) for word in written] != [plain(word) for word in said]:
        return None
    places = {plain(token): place for place, token in enumerate(tokens) if not special(token)}
    asked = range(len(said)) if every else (len(said) // 2,)
    chosen = [said[place] for place in asked if plain(said[place]) in places]
    words = tuple(_word(word, sentence, places[plain(word)]) for word in chosen)
    return Heard(number, min(begin for begin, _ in sentence.times.values()), sentence.end, inputs, words)


def _word(word: str, sentence: Sentence, token: int) -> Word:
    said = list(sentence.times)
    return Word(word, (said.index(word), len(said)), *sentence.times[word], token)


def gaps(number: int) -> list[float]:
    """Seconds of silence after each word of a sentence, irregular, so that no word's time can be told from its turn."""
    return np.random.default_rng(number).uniform(*GAPS, 6).tolist()


def special(token: str) -> bool:
    """Whether a token is none of the text."""
    return token.startswith("<|")


def plain(text: str) -> str:
    """A word without signs, in small letters."""
    return re.sub(r"\W", "", text).lower()


def map_of(whisper: Subject, sentence: Heard, word: Word, method: str) -> NDArray[np.float64]:
    """The map of a word over the 30 seconds that Whisper listens to, (1500,).

    Args:
        whisper: the model.
        sentence: in which the word is.
        word: the word.
        method: a key of :data:`METHODS`, or :data:`OF_OUTPUT` of one of :data:`ABOVE`, or :data:`LESS_SILENCE`, or a map that
            has heard nothing.
    """
    if method in (CHANCE, SPEECH, TURN):
        return _even(*_extent(method, sentence, word))
    if method == LESS_SILENCE:
        return _less_silence(whisper, sentence, word)
    target = NextToken(position=word.token - 1)
    if method in METHODS:
        name, options = METHODS[method]
        seeded = {"seed": sentence.number} if name == "random" else {}
        found = heedmap.explain(whisper, sentence.inputs, target=target, method=name, **options, **seeded)
    else:
        name = next(name for name in ABOVE if method == OF_OUTPUT.format(name))
        found = _of_output(whisper, sentence, target, name)
    return next(r[0].double().numpy() for r in map(found.__getitem__, found.segments) if r.shape[1] == FRAMES)


def _of_output(whisper: Subject, sentence: Heard, target: NextToken, name: str) -> Explanation:
    with torch.no_grad():
        states = whisper.model.get_encoder()(sentence.inputs["input_features"]).last_hidden_state
    inputs = {"states": states, "decoder_input_ids": sentence.inputs["decoder_input_ids"]}
    return heedmap.explain(Listening(whisper.model), inputs, target=target, method=name)


def _less_silence(whisper: Subject, sentence: Heard, word: Word) -> NDArray[np.float64]:
    spectrogram = sentence.inputs["input_features"].clone().requires_grad_()
    said = sentence.inputs["decoder_input_ids"]
    logits = whisper.model(input_features=spectrogram, decoder_input_ids=said).logits
    (gradient,) = torch.autograd.grad(logits[0, word.token - 1, said[0, word.token]], spectrogram)
    silence = spectrogram[..., -1:]  # the clip is filled up with it
    columns = ((spectrogram - silence) * gradient)[0].sum(0)
    return columns.reshape(FRAMES, -1).sum(1).detach().double().numpy()


def _row(whisper: Subject, sentence: Heard, word: Word, method: str) -> Row:
    try:
        relevance = map_of(whisper, sentence, word, method)
    except UnfollowedAttentionError as error:
        return refused(method, error)
    return {"unit": sentence.number, "word": word.text, "method": method, **figures(relevance, word)}


def figures(relevance: NDArray[np.float64], word: Word) -> dict[str, float]:
    """Share and pointing; how far the centre of the map, and its peak, are from the middle of the word, in seconds."""
    time, middle = times(), (word.begin + word.end) / 2
    truth = ((time > word.begin - SLACK) & (time < word.end + SLACK)).astype(float)
    positive = relevance.clip(0)
    centre = float((positive * time).sum() / positive.sum()) if positive.any() else float(time.mean())
    return {
        "share": share(relevance, truth),
        "pointing": pointing(relevance, truth),
        "centre": abs(centre - middle),
        "peak": float(np.abs(time[relevance == relevance.max()] - middle).mean()),
    }


def times() -> NDArray[np.float64]:
    """The middle of each token's time, in seconds."""
    return (np.arange(FRAMES) + 0.5) * FRAME


def _extent(name: str, sentence: Heard, word: Word) -> tuple[float, float]:
    if name == CHANCE:
        return 0.0, FRAMES * FRAME
    if name == SPEECH:
        return sentence.begin, sentence.end
    place, of = word.turn
    step = (sentence.end - sentence.begin) / of
    return sentence.begin + step * place, sentence.begin + step * (place + 1)


def _even(begin: float, end: float) -> NDArray[np.float64]:
    return ((times() > begin) & (times() < end)).astype(float)
