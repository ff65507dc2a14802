"""Targets given as words: which token is meant, and at which position."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from heedmap.errors import TargetError
from heedmap.models.decoder import first_word, position_of
from heedmap.models.labels import WHITE, decoded, place_of, plain_ids, special_ids, token_labels
from heedmap.outputs import get

if TYPE_CHECKING:
    from torch import Tensor

    from heedmap.targets import AnyTarget, Contrast, NextToken, TokenLabel
    from heedmap.types import Tokenizer

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
        from heedmap.targets import Contrast, NextToken, TokenLabel, TopPrediction, plain

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
        from heedmap.targets import NextToken, Target, plain

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
        if any(isinstance(token, str) for token in tokens):
            tokenizer, rows = self._rows()
            tokens = tokens if many else tokens * len(rows)
            places = [
                _place(tokenizer, token, rows[sample]) if isinstance(token, str) else token
                for sample, token in enumerate(tokens[: len(rows)])
            ]
            return replace(target, token=(*places, *tokens[len(rows) :]))
        return target

    def _rows(self) -> tuple[Tokenizer, list[list[int]]]:
        """The tokenizer, and the tokens of each sample's text."""
        ids = get(self.inputs, "input_ids")
        if self.tokenizer is None or ids is None:
            raise TargetError(
                "a token is given as a word, but there is no text or no tokenizer; give the token's number"
            )
        return self.tokenizer, ids.tolist()

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


def _place(tokenizer: Tokenizer, word: str, row: list[int]) -> int:
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
