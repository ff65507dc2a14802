"""Labels of tokens, one a token, for people to read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

from heedmap.data.explanation import ROLES, UNKNOWN_WORD
from heedmap.models.audio import CUTTING, duration, patches, seconds

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig

    from heedmap.data.explanation import Segment
    from heedmap.models.processors import Processors
    from heedmap.types import FeatureExtractor, Tokenizer

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
    is written ␣, ⏎ or ⇥ where a token has nothing else. A tokenizer with its own ``token_labels(ids)`` is asked that.

    Args:
        tokenizer: with ``decode`` or ``convert_ids_to_tokens`` or both.
        ids: the tokens of one text.
    """
    own_labels = getattr(tokenizer, "token_labels", None)
    if callable(own_labels):
        return tuple(own_labels(ids))
    known: dict[int, str] = {}
    labels = [
        known.setdefault(index, _label(tokenizer, index)) if index not in known else known[index]
        for index in map(int, ids)
    ]
    for start in range(len(labels)):
        if BROKEN in labels[start]:
            _mend(tokenizer, ids, labels, start)
    return tuple(labels)


def token_boundaries(tokenizer: Tokenizer, ids: Sequence[int], labels: Sequence[str]) -> str | None:
    """How each token stands to the one before it in the text, one letter a token; see ``Segment.boundaries``.

    White space between two tokens is where the tokenizer, asked for the text of both, puts it; so this holds for every
    family. A tokenizer with labels of its own is asked for ``token_boundaries(ids)``; None where it has none.

    Args:
        tokenizer: see :func:`token_labels`.
        ids: the tokens of one text.
        labels: what :func:`token_labels` made of them.
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
            known.setdefault(pair, _joint(tokenizer, pair, labels[place - 1]))
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


def second_labels(tokens: int, seconds: float) -> tuple[str, ...]:
    """The time at which each of ``tokens`` equal parts of ``seconds`` begins, such as ``"0.02 s"``."""
    digits = 2 if seconds / tokens >= 0.01 else 3
    return tuple(f"{seconds * i / tokens:.{digits}f} s" for i in range(tokens))


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
    """A note where a text has tokens that stand for words which the vocabulary lacks; else none.

    Args:
        tokenizer: of the model; None: nothing is known.
        ids: (batch, tokens); None: there is no text.
    """
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


Labels = tuple[tuple[str, ...], ...]


def segment_labels(
    segments: Mapping[str, Segment],
    inputs: Mapping[str, object],
    processors: Processors,
    config: PretrainedConfig | None,
    boxes: Sequence[Sequence[str] | None],
) -> dict[str, Labels]:
    """For each segment that can be told in words, for each sample, one label a token.

    Args:
        segments: of the explanation.
        inputs: what the model was called with, under transformers' names.
        processors: of the model.
        config: of the model.
        boxes: for each sample the names of its boxes, where they have names.
    """
    labels: dict[str, Labels] = {}
    for name, segment in segments.items():
        if segment.kind == "text":
            labels |= _words(segment, inputs, processors.tokenizer)
        elif segment.kind == "boxes":
            batch, count = segment.relevance.shape
            labels[name] = tuple(
                box_labels(count, boxes[sample] if sample < len(boxes) else None) for sample in range(batch)
            )
        elif segment.kind == "audio":
            labels |= _times(segment, inputs, processors.audio, config)
    return labels


def heard(
    segments: Mapping[str, Segment],
    inputs: Mapping[str, object],
    extractor: FeatureExtractor | None,
    config: PretrainedConfig | None,
    clips: Sequence[object],
) -> dict[str, tuple[str, ...]]:
    """For each segment of frames of sound, for each sample one letter a frame: what is after its clip's end is padding.

    Args:
        segments, inputs, config: as for :func:`segment_labels`.
        extractor: the feature extractor, or None.
        clips: for each sample what was heard, or one for all.
    """
    roles = {}
    for name, segment in segments.items():
        step = frame_step(segment, inputs, extractor, config)
        if step is not None:
            batch, (bands, times) = len(segment.relevance), segment.grid or (1, segment.tokens)
            frames = [min(times, ceil(duration(clip) / step - 1e-9)) for clip in clips]
            rows = [(ROLES["person"] * n + ROLES["padding"] * (times - n)) * bands for n in frames]
            roles[name] = tuple(rows * batch if len(rows) == 1 else rows)
    return roles


def segment_boundaries(
    segments: Mapping[str, Segment],
    inputs: Mapping[str, object],
    tokenizer: Tokenizer | None,
    labels: Mapping[str, Labels],
) -> dict[str, tuple[str, ...]]:
    """For each segment of text, for each sample, how its tokens stand to each other; see ``Segment.boundaries``.

    Args:
        segments, inputs: as for :func:`segment_labels`.
        tokenizer: of the model, or None.
        labels: what :func:`segment_labels` found.
    """
    boundaries: dict[str, tuple[str, ...]] = {}
    for name in labels:
        ids = _ids(segments[name], inputs) if segments[name].kind == "text" else None
        known = None if ids is None or tokenizer is None else boundaries_of(tokenizer, ids.tolist(), labels[name])
        boundaries |= {} if known is None else {name: known}
    return boundaries


def _ids(segment: Segment, inputs: Mapping[str, object]) -> Tensor | None:
    """Token ids of a segment; a decoder that is called with none of its own begins with the encoder's."""
    from heedmap.outputs import get

    decoder_ids = get(inputs, "decoder_input_ids") if segment.name.startswith("decoder") else None
    return get(inputs, "input_ids") if decoder_ids is None else decoder_ids


def _words(segment: Segment, inputs: Mapping[str, object], tokenizer: Tokenizer | None) -> dict[str, Labels]:
    ids = _ids(segment, inputs)
    if ids is None or tokenizer is None or ids.shape != segment.relevance.shape:
        return {}
    return {segment.name: tuple(token_labels(tokenizer, row) for row in ids.tolist())}


def _times(
    segment: Segment, inputs: Mapping[str, object], extractor: FeatureExtractor | None, config: PretrainedConfig | None
) -> dict[str, Labels]:
    step = frame_step(segment, inputs, extractor, config)
    if step is None:
        return {}
    bands, times = segment.grid or (1, segment.tokens)
    return {segment.name: (second_labels(times, step * times) * bands,) * len(segment.relevance)}


def frame_step(
    segment: Segment, inputs: Mapping[str, object], extractor: FeatureExtractor | None, config: PretrainedConfig | None
) -> float | None:
    """Seconds from one token of sound to the next in time; None where nothing tells, and of what is no sound.

    Args:
        segment: of an explanation; of patches of a spectrogram with its grid.
        inputs, extractor, config: as for :func:`heard`.
    """
    if segment.kind != "audio" or extractor is None:
        return None
    cuts = getattr(config, "model_type", "") in CUTTING
    if segment.grid is not None:
        cut = patches(config, extractor)
        return cut.step if cut is not None and segment.grid == (cut.bands, cut.times) else None
    length = seconds(inputs, extractor)
    if not length or (cuts and segment.tokens != times_of(inputs)):
        return None
    return length / segment.tokens


def times_of(inputs: Mapping[str, object]) -> int | None:
    """How many times there are where the features of a spectrogram are the tokens; None: there is no spectrogram."""
    from heedmap.attention.features import places
    from heedmap.outputs import get

    for name, axis in (("input_values", 1), ("input_features", 2)):
        features = get(inputs, name)
        if features is not None and features.dim() > 2:
            return places((features.shape[axis],))[0]
    return None
