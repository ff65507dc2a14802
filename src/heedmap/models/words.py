"""Tokens in words, one label a token for people to read; and words as tokens: which one a target means, and at which position."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from heedmap.data.explanation import UNKNOWN_WORD
from heedmap.errors import TargetError
from heedmap.outputs import get
from heedmap.targets import Contrast, NextToken, Target, TokenLabel, TopPrediction, plain

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from heedmap.data.segments import Labels, Segment
    from heedmap.models.audio import Hearing
    from heedmap.targets import AnyTarget
    from heedmap.types import Tokenizer


BROKEN = "\ufffd"
CONTINUED = "…"
LONGEST_CHARACTER = 8
"""Tokens over which one character may be spread: 4 bytes, and as many again for what stands around it."""
BLANKS = str.maketrans({" ": "␣", "\n": "⏎", "\r": "⏎", "\t": "⇥"})
WHITE = "␣⏎⇥"
APART, CLOSE, SAME, SPECIAL = "w+cs"
"""How a token stands to the one before it: see ``Segment.boundaries``."""
MARKS = re.compile(r"^##(?=[^#\s])|^[▁Ġ]+|</w>$")


def special_ids(tokenizer: Tokenizer | None) -> frozenset[int]:
    """Ids of the tokens that are no words: those with a role, and all others that the tokenizer keeps apart as special."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    apart = {i for i, token in added.items() if getattr(token, "special", False)}
    return frozenset(getattr(tokenizer, "all_special_ids", None) or ()) | apart


def unwritten_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of the tokens that stand for no part of a text: special ones, but not those for unknown or masked words.

    GPT-2's and Whisper's tokenizers have one token for unknown words, which they never meet, and for the end: it is no word.
    """
    written, ends = (
        {getattr(tokenizer, f"{name}_token_id", None) for name in names}
        for names in (("unk", "mask"), ("bos", "eos", "pad", "cls", "sep"))
    )
    return special_ids(tokenizer) - (written - ends)


def plain_ids(tokenizer: Tokenizer, text: str, *, said: bool = False) -> list[int]:
    """The tokens of a text without special ones; ``said``: of one that a decoder says, which may have tokens of its own."""
    made = tokenizer(text_target=text, add_special_tokens=False) if said else tokenizer(text, add_special_tokens=False)
    return [int(i) for i in made["input_ids"]]


def place_of(ids: list[int], row: list[int]) -> int | None:
    """Where ``ids`` are first in ``row``, one after the other; None: nowhere."""
    places = range(len(row) - len(ids) + 1)
    return next((place for place in places if row[place : place + len(ids)] == ids), None)


def token_labels(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """One label a token: its text without the marks of WordPiece, SentencePiece or byte-level BPE.

    A character that is spread over several tokens stands with the first of them, and ``…`` with the others. White space
    is written ␣, ⏎ or ⇥ where a token has nothing else. A tokenizer with its own ``token_labels(ids)`` is asked that; others
    have ``decode`` or ``convert_ids_to_tokens`` or both.
    """
    own_labels = getattr(tokenizer, "token_labels", None)
    if callable(own_labels):
        return tuple(own_labels(ids))
    known = {index: _label(tokenizer, index) for index in set(map(int, ids))}
    labels = [known[int(index)] for index in ids]
    for start in range(len(labels)):
        if BROKEN in labels[start]:
            _mend(tokenizer, ids, labels, start)
    return tuple(labels)


def token_boundaries(tokenizer: Tokenizer, ids: Sequence[int], labels: Sequence[str]) -> str | None:
    """How each token stands to the one before it in the text, one letter a token; see ``Segment.boundaries``.

    White space between two tokens is where the tokenizer, asked for the text of both, puts it; so this holds for every
    family. A tokenizer with labels of its own is asked for ``token_boundaries(ids)``; None where it has none. ``labels`` are
    those of :func:`token_labels`.
    """
    own_boundaries = getattr(tokenizer, "token_boundaries", None)
    if callable(own_boundaries):
        return str(own_boundaries(ids))
    if callable(getattr(tokenizer, "token_labels", None)):
        return None
    special = unwritten_ids(tokenizer)
    known: dict[tuple[int, int], str] = {}
    letters = ""
    for place, index in enumerate(map(int, ids)):
        if index in special:
            letters += SPECIAL
        elif labels[place] == CONTINUED and BROKEN in decoded(tokenizer, index):
            letters += SAME
        elif not place or letters[-1] == SPECIAL:
            letters += APART
        else:
            pair = int(ids[place - 1]), index
            if pair not in known:
                known[pair] = _joint(tokenizer, pair, labels[place - 1])
            letters += known[pair] if letters[-1] != SAME else _mark(tokenizer, index)
    return letters


def boundaries_of(
    tokenizer: Tokenizer, ids: Sequence[Sequence[int]], labels: Sequence[Sequence[str]]
) -> tuple[str, ...] | None:
    """:func:`token_boundaries` of several texts; None where one of them has none."""
    rows = [token_boundaries(tokenizer, *pair) for pair in zip(ids, labels, strict=True)]
    known = tuple(row for row in rows if row is not None)
    return known if len(known) == len(rows) else None


def decoded(tokenizer: Tokenizer, index: int) -> str:
    """The text of one token with the spaces that belong to it; where it has none, the vocabulary's spelling."""
    decode = getattr(tokenizer, "decode", None)
    text = "" if decode is None else decode([index])
    return text or str(tokenizer.convert_ids_to_tokens([index])[0])


def box_labels(tokens: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of boxes, those of the same name numbered, and ``"box 3"`` for those without."""
    given = [] if names is None else [str(name) for name in names]
    count, before = Counter(given), Counter[str]()
    for place, name in enumerate(given):
        before[name] += 1
        given[place] = name if count[name] == 1 else f"{name} {before[name]}"
    return tuple((given + [f"box {number}" for number in range(len(given), tokens)])[:tokens])


def _label(tokenizer: Tokenizer, index: int) -> str:
    text = MARKS.sub("", decoded(tokenizer, index))
    return text.strip() or text.translate(BLANKS) or "␣"


def _joint(tokenizer: Tokenizer, pair: tuple[int, int], before: str) -> str:
    if not before.strip(WHITE):
        return CLOSE  # the token before is the white space
    decode = getattr(tokenizer, "decode", None)
    text = "" if decode is None else MARKS.sub("", decode(list(pair))).lstrip()
    if not text.startswith(before):
        return _mark(tokenizer, pair[1])
    return APART if text[len(before) : len(before) + 1].isspace() else CLOSE


def _mark(tokenizer: Tokenizer, index: int) -> str:
    """By the spelling of the vocabulary, where the text of two tokens does not tell."""
    spelling = str(tokenizer.convert_ids_to_tokens([index])[0])
    return APART if spelling.startswith(("▁", "Ġ")) else CLOSE


def _mend(tokenizer: Tokenizer, ids: Sequence[int], labels: list[str], start: int) -> None:
    decode = getattr(tokenizer, "decode", None)
    for end in range(start + 2, min(start + LONGEST_CHARACTER, len(labels)) + 1):
        text = BROKEN if decode is None else decode([int(i) for i in ids[start:end]])
        if BROKEN not in text:
            labels[start] = text.strip()
            labels[start + 1 : end] = [CONTINUED] * (end - start - 1)
            return


def unknown_words(tokenizer: Tokenizer | None, ids: Tensor | None) -> tuple[str, ...]:
    """A note where a text, (batch, tokens), has tokens that stand for words which the vocabulary lacks; else none."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    roles = ("eos_token_id", "bos_token_id", "pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
    if ids is None or unknown is None or unknown in {getattr(tokenizer, role, None) for role in roles}:
        return ()
    count = int((ids == unknown).sum())
    if not count:
        return ()
    name = getattr(tokenizer, "unk_token", "unknown")
    told = "1 token of the text is" if count == 1 else f"{count} tokens of the text are"
    return (f"{told} {name}: {UNKNOWN_WORD}, and cannot tell it from other unknown words",)


def labelled(
    segments: Mapping[str, Segment],
    inputs: Mapping[str, object],
    hearing: Hearing,
    tokenizer: Tokenizer | None,
    boxes: Sequence[Sequence[str] | None],
) -> dict[str, Segment]:
    """The segments, those that can be told in words with one label a token; see ``Segment.labels`` and ``boundaries``.

    ``inputs``: what the model was called with; ``hearing``: the same, for sound; ``boxes``: for each sample the names of its
    boxes, where they have names.
    """

    def named(segment: Segment) -> Segment:
        labels: Labels | None = None
        if segment.kind == "text":
            return _with_words(segment, inputs, tokenizer)
        if segment.kind == "boxes":
            batch, count = segment.relevance.shape
            labels = tuple(box_labels(count, boxes[n] if n < len(boxes) else None) for n in range(batch))
        if segment.kind == "audio":
            labels = hearing.labels(segment)
        return segment if labels is None else replace(segment, labels=labels, boundaries=None)

    return {name: named(segment) for name, segment in segments.items()}


def _with_words(segment: Segment, inputs: Mapping[str, object], tokenizer: Tokenizer | None) -> Segment:
    """A segment of text with its words; a decoder that is called with no tokens of its own begins with the encoder's."""
    ids = get(inputs, "decoder_input_ids") if segment.name.startswith("decoder") else None
    ids = get(inputs, "input_ids") if ids is None else ids
    if ids is None or tokenizer is None or ids.shape != segment.relevance.shape:
        return segment
    labels = tuple(token_labels(tokenizer, row) for row in ids.tolist())
    return replace(segment, labels=labels, boundaries=boundaries_of(tokenizer, ids.tolist(), labels))


# -- targets given as words -------------------------------------------------------------------------------------------

LAST = -1


@dataclass(frozen=True)
class Speech:
    """What is needed to find the token that a target means.

    Attributes:
        tokenizer: of the model; None: targets can only be ids.
        speaks: of the model's kind: ``""``, ``"next"`` or ``"decoder"``.
        masked: whether the model fills in masked words.
        inputs: what the model is called with.
        labels: names of the model's labels, which are no words where it labels tokens.
    """

    tokenizer: Tokenizer | None
    speaks: str
    masked: bool
    inputs: Mapping[str, object]
    labels: Collection[str] = ()

    def target(self, target: AnyTarget) -> AnyTarget:
        """``target`` with words replaced by token ids, its position filled in, and a way to name tokens.

        Raises:
            TargetError: a word is no single token.
        """
        if isinstance(target, Contrast):
            return self._contrast(target)
        label = target.label if isinstance(target, TopPrediction) else plain(target)
        meant = tuple(label) if isinstance(label, list) else label
        place = self._mask_position() if self.masked else None
        says = bool(self.speaks) or place is not None
        if says and (meant is None or (isinstance(meant, (int, str, tuple)) and not isinstance(meant, bool))):
            meant = NextToken(token=meant)
        if isinstance(meant, NextToken) and not self.speaks and meant.token in self.labels:
            return TokenLabel(meant.token, None if meant.position == LAST else meant.position)
        if isinstance(meant, TokenLabel):
            return self._token_label(meant)
        return self._next_token(meant, place) if isinstance(meant, NextToken) else meant

    def _contrast(self, target: Contrast) -> Contrast:
        """Both sides resolved; a word alone as the second is a token at the place of the first."""
        first = self.target(target.first)
        second = plain(target.second)
        if isinstance(second, Target):
            second = self.target(second)
        elif isinstance(first, NextToken) and isinstance(second, (int, str, tuple)):
            token = self._next_token(NextToken(second), None).token
            second = tuple(token) if isinstance(token, list) else token
        return replace(target, first=first, second=second)

    def _token_label(self, target: TokenLabel) -> TokenLabel:
        many = isinstance(target.token, (list, tuple))
        tokens = list(target.token) if isinstance(target.token, (list, tuple)) else [target.token]
        if not any(isinstance(token, str) for token in tokens):
            return target
        ids = get(self.inputs, "input_ids")
        if self.tokenizer is None or ids is None:
            raise TargetError(
                "a token is given as a word, but there is no text or no tokenizer; give the token's number"
            )
        rows = ids.tolist()
        tokens = tokens if many else tokens * len(rows)
        places = [
            _first_place(self.tokenizer, token, row) if isinstance(token, str) else token
            for token, row in zip(tokens, rows, strict=False)
        ]
        return replace(target, token=(*places, *tokens[len(rows) :]))

    def _next_token(self, target: NextToken, place: int | None) -> NextToken:
        many = isinstance(target.token, (list, tuple))
        tokens = list(target.token) if isinstance(target.token, (list, tuple)) else [target.token]
        ids = [self._id(token, number) for number, token in enumerate(tokens)]
        position = target.position
        if position == LAST:
            position = self._said_at(ids) if self.speaks == "decoder" else LAST if place is None else place
        decode = target.decode or (None if self.tokenizer is None else partial(decoded, self.tokenizer))
        return replace(target, token=tuple(ids) if many else ids[0], position=position, decode=decode)

    def _id(self, token: int | str | None, sample: int) -> int | None:
        if not isinstance(token, str):
            return token
        if self.tokenizer is None:
            raise TargetError(f"the target is {token!r}, but the model has no tokenizer; give a token id")
        ids = token_ids(self.tokenizer, token)
        said = get(self.inputs, "decoder_input_ids")
        if said is not None:
            return next((i for i in ids if position_of(said, i) is not None), ids[0])
        return ids[-1] if self.speaks == "next" and self._ends_in_word(self.tokenizer, sample) else ids[0]

    def _ends_in_word(self, tokenizer: Tokenizer, sample: int) -> bool:
        mask = get(self.inputs, "attention_mask")
        ids = self._ids("input_ids")[sample]
        real = ids if mask is None else ids[mask[sample] != 0]
        return bool(token_labels(tokenizer, real[-1:].tolist())[0].strip(WHITE))

    def _said_at(self, ids: Sequence[int | None]) -> int:
        said = self._ids("decoder_input_ids")
        positions = {None if i is None else position_of(said, i) for i in ids}
        known = positions.pop() if len(positions) == 1 else None
        return first_word(said, special_ids(self.tokenizer)) if known is None else known

    def _ids(self, name: str) -> Tensor:
        ids = get(self.inputs, name)
        if ids is None:
            raise TargetError(
                f"the model is called without {name}, among which the token is that the target means; give {name}, or "
                "explain the model alone: heedmap.explain(subject.model, inputs)"
            )
        return ids

    def _mask_position(self) -> int | None:
        mask = getattr(self.tokenizer, "mask_token_id", None)
        rows = self._ids("input_ids").tolist()
        places = {row.index(mask) if mask in row else None for row in rows}
        if len(places) > 1:
            raise TargetError(
                "the texts are masked at unequal positions; explain them one by one, or give NextToken(position=…)"
            )
        return places.pop()


def _first_place(tokenizer: Tokenizer, word: str, row: list[int]) -> int:
    """The first token of the first place where ``word`` is in the text."""
    for text in (word, f" {word}"):
        ids = plain_ids(tokenizer, text)
        place = place_of(ids, row) if ids else None
        if place is not None:
            return place
    special = special_ids(tokenizer)
    text = " ".join(token_labels(tokenizer, [i for i in row if i not in special]))
    raise TargetError(
        f"{word!r} is not in the text, which has the tokens {text}; give a word of it, or a token's number"
    )


def token_ids(tokenizer: Tokenizer, word: str) -> list[int]:
    """The ids of single tokens that ``word`` may mean: as given, then with a space before it, where it is one so.

    Raises:
        TargetError: it is no single token; the message lists those that it is made of.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    spellings = [plain_ids(tokenizer, text) for text in (word, f" {word}")]
    single = [ids[0] for ids in spellings if len(ids) == 1 and ids[0] != unknown]
    if single:
        return list(dict.fromkeys(single))
    pieces = ", ".join(repr(label) for label in token_labels(tokenizer, spellings[0])) or "nothing"
    if unknown in spellings[0]:
        raise TargetError(f"{word!r} is not in the vocabulary: the tokenizer makes {pieces} of it; choose another word")
    raise TargetError(
        f"{word!r} is {len(spellings[0])} tokens: {pieces}; a target is one token: give one of them, its text or its id"
    )


def token_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of some tokens, for people; of one of them without the marks that its vocabulary gives it."""
    if len(ids) > 1 and hasattr(tokenizer, "decode"):
        return str(tokenizer.decode(list(ids))).strip()
    return " ".join(token_labels(tokenizer, ids))


def first_word(ids: Int[Tensor, "batch tokens"], special: frozenset[int]) -> int:
    """The position that predicts the first token which is a word in some sample; the last position if none is."""
    for column in range(1, ids.shape[1]):
        if any(int(i) not in special for i in ids[:, column]):
            return column - 1
    return ids.shape[1] - 1


def position_of(ids: Int[Tensor, "batch tokens"], token: int) -> int | None:
    """The position that predicts the first ``token`` of the first sample that has it; None: nobody says it."""
    columns = (ids[:, 1:] == token).any(0).nonzero()
    return int(columns[0]) if len(columns) else None
