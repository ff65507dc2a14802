"""The words that an encoder-decoder says, and which of them is explained."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING

from heedmap.errors import InputError
from heedmap.models.forced import places_of
from heedmap.models.labels import plain_ids, special_ids

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformers import PreTrainedModel
    from transformers.generation.utils import GenerateOutput

    from heedmap.types import Tokenizer

MAX_NEW_TOKENS = 64


def spoken(model: PreTrainedModel, inputs: Mapping[str, object], special: frozenset[int]) -> dict[str, Tensor]:
    """What the decoder is called with: its start tokens and what it says, most probable token by token.

    Args:
        model: an encoder-decoder with transformers' ``generate``.
        inputs: what its encoder is called with.
        special: ids of special tokens, so that the end tokens can be told from words.

    Returns:
        ``decoder_input_ids``, (batch, tokens), without the tokens that end the text; ``decoder_attention_mask`` too
        where the samples have unequal lengths.
    """
    said = generated(model, inputs, MAX_NEW_TOKENS, return_dict_in_generate=True, output_scores=True)
    starts = said.sequences.shape[1] - len(said.scores)
    return _trimmed(said.sequences, max(starts, 1), special)


def generated(
    model: PreTrainedModel, inputs: Mapping[str, object], most: int | None, /, **settings: object
) -> GenerateOutput:
    """What transformers' ``generate`` gives, the most probable token each time where ``settings`` ask for nothing else.

    Whisper's keeps the start tokens only if told that one pass is enough. Of a cache of fixed size, which the owner may have set,
    ``generate`` would leave attributes on the model. It may write to its inputs: BLIP's puts its own first token among the ids.

    Args:
        model: with ``generate``.
        inputs: what it is called with.
        most: so many tokens at most; None: the settings tell it.
        settings: of ``generate``.
    """
    import torch

    wanted: dict[str, object] = {"do_sample": False, "num_beams": 1}
    if "force_unique_generate_call" in signature(model.generate).parameters:
        wanted["force_unique_generate_call"] = True
    if getattr(getattr(model, "generation_config", None), "cache_implementation", None) is not None:
        wanted["cache_implementation"] = "dynamic"
    wanted |= settings if most is None else {**settings, "max_new_tokens": most}
    own = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    return model.generate(**own, **wanted)


def worded(said: Int[Tensor, "1 tokens"], text: str, tokenizer: Tokenizer, config: object) -> Int[Tensor, "1 others"]:
    """Decoder input that says ``text`` after the special tokens with which the model itself begins.

    Args:
        said: what it said by itself, see :func:`spoken`.
        text: what it should have said.
        tokenizer, config: the model's.

    Raises:
        InputError: no tokens, or more than the decoder has places for.
    """
    special = special_ids(tokenizer)
    ids = said[0].tolist()
    starts = next((place for place, token in enumerate(ids) if place and token not in special), len(ids))
    words = plain_ids(tokenizer, text, said=True)
    places = places_of(config, "decoder_input_ids")
    if not words:
        raise InputError("what the model should have said is empty: it has no tokens; give at least one word")
    if places is not None and starts + len(words) > places:
        raise InputError(
            f"what the model should have said has {len(words)} tokens and its decoder takes {places - starts}; shorten it"
        )
    return said.new_tensor([[*ids[:starts], *words]])


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


def _trimmed(ids: Int[Tensor, "batch tokens"], starts: int, special: frozenset[int]) -> dict[str, Tensor]:
    import torch

    lengths = [_length(row, starts, special) for row in ids.tolist()]
    ids = ids[:, : max(lengths)]
    if min(lengths) == max(lengths):
        return {"decoder_input_ids": ids}
    places = torch.arange(ids.shape[1], device=ids.device)
    mask = (places < torch.tensor(lengths, device=ids.device)[:, None]).long()
    return {"decoder_input_ids": ids, "decoder_attention_mask": mask}


def _length(row: list[int], starts: int, special: frozenset[int]) -> int:
    """Up to the last word; of a sample without words the start tokens."""
    words = [place for place, token in enumerate(row) if place >= starts and token not in special]
    return max(words[-1] + 1 if words else 0, starts)
