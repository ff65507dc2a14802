"""Labels of tokens, one a token, for people to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

BROKEN = "\ufffd"
CONTINUED = "…"
LONGEST_CHARACTER = 8
"""Tokens over which one character may be spread: 4 bytes, and as many again for what stands around it."""
BLANKS = str.maketrans({" ": "␣", "\n": "⏎", "\r": "⏎", "\t": "⇥"})
WHITE = "␣⏎⇥"
APART, CLOSE, SAME, SPECIAL = "w+cs"
"""How a token stands to the one before it: see ``Segment.joints``."""
MARKS = re.compile(r"^##(?=[^#\s])|^[▁Ġ]+|</w>$")


def token_labels(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """One label a token: its text without the marks of WordPiece, SentencePiece or byte-level BPE.

    A character that is spread over several tokens stands with the first of them, and ``…`` with the others. White space
    is written ␣, ⏎ or ⇥ where a token has nothing else. A tokenizer with its own ``token_labels(ids)`` is asked that.

    Args:
        tokenizer: with ``decode`` or ``convert_ids_to_tokens`` or both.
        ids: the tokens of one text.
    """
    own = getattr(tokenizer, "token_labels", None)
    if callable(own):
        return tuple(own(ids))
    known: dict[int, str] = {}
    labels = [known.setdefault(i, _label(tokenizer, i)) if i not in known else known[i] for i in map(int, ids)]
    for start in range(len(labels)):
        if BROKEN in labels[start]:
            _mend(tokenizer, ids, labels, start)
    return tuple(labels)


def token_joints(tokenizer: Any, ids: Sequence[int], labels: Sequence[str]) -> str | None:
    """How each token stands to the one before it in the text, one letter a token; see ``Segment.joints``.

    White space between two tokens is where the tokenizer, asked for the text of both, puts it; so this holds for every
    family. A tokenizer with labels of its own is asked for ``token_joints(ids)``; None where it has none.

    Args:
        tokenizer: see :func:`token_labels`.
        ids: the tokens of one text.
        labels: what :func:`token_labels` made of them.
    """
    own = getattr(tokenizer, "token_joints", None)
    if callable(own):
        return str(own(ids))
    if callable(getattr(tokenizer, "token_labels", None)):
        return None
    special = frozenset(getattr(tokenizer, "all_special_ids", None) or ()) - _written(tokenizer)
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
            known.setdefault(pair, _joint(tokenizer, pair, labels[place - 1]))
            letters += known[pair] if letters[-1] != SAME else _mark(tokenizer, index)
    return letters


def decoded(tokenizer: Any, index: int) -> str:
    """The text of one token with the spaces that belong to it; where it has none, the vocabulary's spelling."""
    decode = getattr(tokenizer, "decode", None)
    text = "" if decode is None else decode([index])
    return text or str(tokenizer.convert_ids_to_tokens([index])[0])


def second_labels(tokens: int, seconds: float) -> tuple[str, ...]:
    """The time at which each of ``tokens`` equal parts of ``seconds`` begins, such as ``"0.02 s"``."""
    digits = 2 if seconds / tokens >= 0.01 else 3
    return tuple(f"{seconds * i / tokens:.{digits}f} s" for i in range(tokens))


def box_labels(tokens: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of boxes, and ``"box 3"`` for those without."""
    given = [] if names is None else [str(name) for name in names]
    return tuple((given + [f"box {i}" for i in range(len(given), tokens)])[:tokens])


def _label(tokenizer: Any, index: int) -> str:
    text = MARKS.sub("", decoded(tokenizer, index))
    return text.strip() or text.translate(BLANKS) or "␣"


def _written(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens that stand for a part of the text."""
    names = ("unk_token_id", "mask_token_id")
    return frozenset(i for i in (getattr(tokenizer, name, None) for name in names) if i is not None)


def _joint(tokenizer: Any, pair: tuple[int, int], before: str) -> str:
    if not before.strip(WHITE):
        return CLOSE  # the token before is the white space
    decode = getattr(tokenizer, "decode", None)
    text = "" if decode is None else MARKS.sub("", decode(list(pair))).lstrip()
    if not text.startswith(before):
        return _mark(tokenizer, pair[1])
    return APART if text[len(before) : len(before) + 1].isspace() else CLOSE


def _mark(tokenizer: Any, index: int) -> str:
    """By the spelling of the vocabulary, where the text of two tokens does not tell."""
    spelling = str(tokenizer.convert_ids_to_tokens([index])[0])
    return APART if spelling.startswith(("▁", "Ġ")) else CLOSE


def _mend(tokenizer: Any, ids: Sequence[int], labels: list[str], start: int) -> None:
    for end in range(start + 2, min(start + LONGEST_CHARACTER, len(labels)) + 1):
        text = tokenizer.decode([int(i) for i in ids[start:end]])
        if BROKEN not in text:
            labels[start] = text.strip()
            labels[start + 1 : end] = [CONTINUED] * (end - start - 1)
            return
