"""What an answer is set against, token by token: another word at its place, another answer, or the runner-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from heedmap.errors import InputError, OptionError

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from heedmap.types import ContrastInput

RUNNER_UP = "runner-up"
RUNNER = -2
"""In place of a token: the most probable one but for the answer's own, known after the pass."""


@dataclass(frozen=True, eq=False)
class Against:
    """Of each token of an answer the one that it is set against.

    Attributes:
        tokens: (batch, steps), int64: ids; -1: none; :data:`RUNNER`: the runner-up.
        notes: what is to be told of them.
    """

    tokens: Int[Tensor, "batch steps"]
    notes: tuple[str, ...] = ()


def against(
    contrast: ContrastInput | None,
    tokens: Int[Tensor, "batch steps"],
    spelled: Callable[[str, int], list[int]],
    place_of: Callable[[str, int], Sequence[int]],
    names: Callable[[Sequence[int]], Sequence[str]],
) -> Against | None:
    """What the tokens of an answer are set against.

    Args:
        contrast: None; ``"runner-up"``; a text, or a list of one a sample: of as many tokens as the answer it is another
            answer, else its first token is set against each of the answer's; token ids (batch, steps); or a mapping of
            words (or numbers of tokens) of the answer to the word, or ``"runner-up"``, that each is set against.
        tokens: of the answer; -1 after its end.
        spelled: a text and a sample → the ids of the text in that sample's answer.
        place_of: a word and a sample → the tokens of the answer that it is.
        names: ids → what each is called.

    Raises:
        OptionError: in another form, or of another length.
        InputError: a word that the tokenizer cannot make, or that is not in the answer.
    """
    import torch

    if contrast is None:
        return None
    others, notes = torch.full_like(tokens, -1), []
    if isinstance(contrast, Mapping):
        for where, other in contrast.items():
            for sample in range(len(tokens)):
                places = place_of(where, sample) if isinstance(where, str) else [_place(where, tokens.shape[1])]
                if not places:
                    raise InputError(f"contrast names {where!r}, which has no tokens; give a word of the answer")
                notes += _set(others, sample, places, other, spelled, names)
    elif isinstance(contrast, str) or _texts(contrast):
        texts = [contrast] * len(tokens) if isinstance(contrast, str) else list(contrast)
        if len(texts) != len(tokens):
            raise OptionError(f"contrast has {len(texts)} texts for {len(tokens)} samples; give one, or one a sample")
        for sample, text in enumerate(texts):
            notes += _set(others, sample, (tokens[sample] >= 0).nonzero()[:, 0].tolist(), text, spelled, names)
    else:
        others = _ids(contrast, tokens)
    return Against(others.masked_fill(tokens < 0, -1), tuple(dict.fromkeys(notes)))


def _set(
    others: Tensor,
    sample: int,
    places: Sequence[int],
    other: str,
    spelled: Callable[[str, int], list[int]],
    names: Callable[[Sequence[int]], Sequence[str]],
) -> list[str]:
    """Writes what the tokens at ``places`` of a sample are set against; what is to be told of it."""
    if other == RUNNER_UP:
        others[sample, list(places)] = RUNNER
        return []
    if not isinstance(other, str):
        raise OptionError(f"contrast sets {other!r} against a word; expected a word, or {RUNNER_UP!r}")
    ids = spelled(other, sample)
    if not ids:
        raise InputError("the contrast is empty: it has no tokens; give a word")
    if len(ids) == len(places):
        others[sample, list(places)] = others.new_tensor(ids)
        return []
    others[sample, list(places)] = ids[0]
    if len(ids) == 1:
        return []
    against = f"{len(places)} {'is' if len(places) == 1 else 'are'} set against it"
    return [f"the contrast {other!r} has {len(ids)} tokens where {against}: its first one, {names(ids)[0]!r}, is taken"]


def _place(where: object, steps: int) -> int:
    if isinstance(where, bool) or not isinstance(where, int) or not -steps <= where < steps:
        raise OptionError(f"contrast names token {where!r} of the answer; expected a word of it, or 0 to {steps - 1}")
    return where % steps


def _texts(contrast: object) -> TypeGuard[Sequence[str]]:
    return isinstance(contrast, (list, tuple)) and bool(contrast) and all(isinstance(text, str) for text in contrast)


def _ids(contrast: object, tokens: Tensor) -> Tensor:
    import torch

    try:
        ids = torch.as_tensor(contrast)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptionError(
            f"contrast is a {type(contrast).__name__}; expected a word, another answer, token ids of the answer's shape, a "
            f"mapping of words to words, or {RUNNER_UP!r}"
        ) from error
    if ids.is_floating_point() or ids.shape != tokens.shape:
        raise OptionError(
            f"contrast has shape {tuple(ids.shape)}, and the answer {tuple(tokens.shape)}; give as many token ids as it has"
        )
    return ids.to(tokens)
