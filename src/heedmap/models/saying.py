"""What a model says: its own generation, or words that it is given, as tokens after a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import TYPE_CHECKING, SupportsIndex

import torch

from heedmap.attention.inputs import configuration, signature
from heedmap.errors import InputError, OptionError
from heedmap.models.words import WHITE, plain_ids, special_ids, token_labels
from heedmap.outputs import get

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor, nn
    from transformers import PreTrainedModel
    from transformers.generation.utils import GenerateOutput

    from heedmap.types import AnswerInput, Tokenizer


PLACES = ("max_target_positions", "max_position_embeddings", "n_positions")
"""What configurations call the number of a decoder's places."""


def places_of(config: object, name: str) -> int | None:
    """How many tokens the model that goes on these ids has places for; None: its configuration does not say."""
    text = getattr(config, "text_config", config)
    configs = (text,) if name == "input_ids" else (getattr(config, "decoder", config), text)
    limits = (getattr(part, limit, None) for part in configs for limit in PLACES)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def mask_name(name: str) -> str:
    """The mask of these ids."""
    return name.replace("input_ids", "attention_mask")


MAX_NEW_TOKENS = 64


def spoken(model: PreTrainedModel, inputs: Mapping[str, object], special: frozenset[int]) -> dict[str, Tensor]:
    """What the decoder of an encoder-decoder is called with: its start tokens and what it says, most probable token by token.

    ``decoder_input_ids``, (batch, tokens), up to the last token that is no ``special`` one, so without those that end the text;
    ``decoder_attention_mask`` too where the samples have unequal lengths.
    """
    said = generate(model, inputs, MAX_NEW_TOKENS, return_dict_in_generate=True, output_scores=True)
    starts = max(said.sequences.shape[1] - len(said.scores), 1)
    lengths = [max(len(_to_last_word(row, special)), starts) for row in said.sequences.tolist()]
    ids = said.sequences[:, : max(lengths)]
    if min(lengths) == max(lengths):
        return {"decoder_input_ids": ids}
    places = torch.arange(ids.shape[1], device=ids.device)
    mask = (places < torch.tensor(lengths, device=ids.device)[:, None]).long()
    return {"decoder_input_ids": ids, "decoder_attention_mask": mask}


def generate(
    model: PreTrainedModel, inputs: Mapping[str, object], most: int | None, /, **settings: object
) -> GenerateOutput:
    """What transformers' ``generate`` gives, the most probable token each time where ``settings`` ask for nothing else.

    Whisper's keeps the start tokens only if told that one pass is enough. Of a cache of fixed size, which the owner may have set,
    ``generate`` would leave attributes on the model. It may write to its inputs: BLIP's puts its own first token among the ids.
    ``most``: so many tokens at most; None: the settings tell it.
    """
    wanted: dict[str, object] = {"do_sample": False, "num_beams": 1}
    if "force_unique_generate_call" in inspect.signature(model.generate).parameters:
        wanted["force_unique_generate_call"] = True
    if getattr(getattr(model, "generation_config", None), "cache_implementation", None) is not None:
        wanted["cache_implementation"] = "dynamic"
    wanted |= settings if most is None else {**settings, "max_new_tokens": most}
    own = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    return model.generate(**own, **wanted)


def worded(said: Int[Tensor, "1 tokens"], text: str, tokenizer: Tokenizer, config: object) -> Int[Tensor, "1 others"]:
    """Decoder input that says ``text`` after the special tokens with which the model itself begins; ``said``: by itself.

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


LENGTHS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens")
TOLERANCE = 0.02
"""By so much the probability of a token may differ between one pass and token by token (caches, half precision)."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """How a model begins its answer.

    Attributes:
        name: of the ids that the answer goes on.
        prompts: (batch, tokens), int64, these ids.
        logits: (batch, vocabulary), of the first token, where the model was asked.
        notes: what is to be told of what it says.
    """

    name: str
    prompts: Int[Tensor, "batch tokens"]
    logits: Float[Tensor, "batch vocabulary"] | None = None
    notes: tuple[str, ...] = ()


def own_answer(
    model: PreTrainedModel, inputs: Mapping[str, object], settings: Mapping[str, object], special: frozenset[int]
) -> tuple[Prompt, list[list[int]]]:
    """How the model begins, and what it says.

    ``settings`` are those of ``generate``; what is not given is for the most probable token each time, up to
    :data:`MAX_NEW_TOKENS`. ``special``: ids of special tokens.

    Raises:
        InputError: the model cannot generate, refuses the settings, or says nothing.
        OptionError: several answers a sample are asked for.
    """
    if settings.get("num_return_sequences", 1) != 1:
        raise OptionError("num_return_sequences: one answer a sample is explained; give another with answer=")
    most, beams = _most(model, inputs, settings), settings.get("num_beams", 1) != 1
    said = _generate_answer(model, inputs, settings, most)
    length = said.sequences.shape[1] - len(said.logits)
    if beams:
        length = begun(model, inputs, settings).prompts.shape[1]
    full = most is not None and "max_new_tokens" not in settings and most < MAX_NEW_TOKENS
    notes = _cut_note(said.sequences[:, length:].tolist(), most, special, full)
    start = _begun(model, inputs, said.sequences[:, :length], None if beams else said.logits[0])
    rows = [_to_last_word(row, special) for row in said.sequences[:, length:].tolist()]
    start, answers = _leading(replace(start, notes=notes), rows, special)
    if not all(answers):
        raise InputError(
            f"the model says nothing to sample {[bool(a) for a in answers].index(False)}: its answer is empty, or of special "
            "tokens alone; give the answer with answer=, or other inputs"
        )
    return start, answers


def _most(model: PreTrainedModel, inputs: Mapping[str, object], settings: Mapping[str, object]) -> int | None:
    """How many tokens the model may say; None: the settings tell it otherwise."""
    if "max_length" in settings:
        return None
    most = settings["max_new_tokens"] if "max_new_tokens" in settings else _room(model, inputs)
    return index(most) if isinstance(most, SupportsIndex) else None


def _room(model: PreTrainedModel, inputs: Mapping[str, object]) -> int:
    """How many tokens the model may say where nobody told: no more than it has places for."""
    ids, config = get(inputs, "input_ids"), configuration(model)
    if ids is None or "decoder_input_ids" in signature(model).parameters:
        return min(MAX_NEW_TOKENS, places_of(config, "decoder_input_ids") or MAX_NEW_TOKENS)
    places = places_of(config, "input_ids")
    room = MAX_NEW_TOKENS if places is None else places - ids.shape[1]
    if room < 1:
        raise InputError(
            f"the prompt has {ids.shape[1]} tokens and the model takes {places}: no answer fits; shorten it"
        )
    return min(room, MAX_NEW_TOKENS)


def _cut_note(rows: Sequence[Sequence[int]], most: int | None, special: frozenset[int], full: bool) -> tuple[str, ...]:
    """A note where an answer did not end by itself; ``full``: the model has no place for more."""
    if most is None or not any(len(row) >= most and row[most - 1] not in special for row in rows):
        return ()
    if full:
        return (f"the answer was cut after {most} tokens, before it ended: the model has no places for more",)
    return (f"the answer was cut after {most} tokens, before it ended; generate={{'max_new_tokens': …}} gives it more",)


def begun(model: nn.Module, inputs: Mapping[str, object], settings: Mapping[str, object]) -> Prompt:
    """How the model begins, by its own first token; of one that cannot generate, by its ids."""
    if not callable(getattr(model, "generate", None)):
        name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
        ids = get(inputs, name)
        if ids is None:
            raise InputError(f"{type(model).__name__} cannot generate, and has no input_ids that an answer could go on")
        return Prompt(name, ids)
    first = {option: value for option, value in settings.items() if "beam" not in option and option not in LENGTHS}
    said = _generate_answer(model, inputs, {**first, "do_sample": False}, 1)
    return _begun(model, inputs, said.sequences[:, :-1], said.logits[0])


def _begun(model: nn.Module, inputs: Mapping[str, object], prompts: Tensor, logits: Tensor | None) -> Prompt:
    given, config = get(inputs, "input_ids"), configuration(model)
    continues = given is not None and given.shape == prompts.shape and bool((given == prompts).all())
    takes = "decoder_input_ids" in signature(model).parameters
    decodes = takes and (bool(getattr(config, "is_encoder_decoder", False)) or not continues)
    return Prompt("decoder_input_ids" if decodes else "input_ids", prompts, logits)


def _generate_answer(
    model: PreTrainedModel, inputs: Mapping[str, object], settings: Mapping[str, object], most: int | None
) -> GenerateOutput:
    """transformers' ``generate``, the most probable token each time where nothing else is asked for."""
    if not callable(getattr(model, "generate", None)):
        raise InputError(
            f"{type(model).__name__} cannot generate; give the answer that is to be explained with answer="
        )
    wanted = {**settings, "return_dict_in_generate": True, "output_logits": True}
    try:
        return generate(model, inputs, most, **wanted)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError) as error:
        told = ", ".join(f"{name}={value!r}" for name, value in settings.items()) or "its own settings"
        raise InputError(f"{type(model).__name__} cannot generate an answer with {told}: {error}") from error


def _to_last_word(ids: Sequence[int], special: frozenset[int]) -> list[int]:
    """Up to the last token that is no special one."""
    words = [place for place, token in enumerate(ids) if token >= 0 and token not in special]
    return list(ids[: words[-1] + 1]) if words else []


def _leading(start: Prompt, answers: list[list[int]], special: frozenset[int]) -> tuple[Prompt, list[list[int]]]:
    """Special tokens with which all of a decoder's answers begin (a language, a task) belong to its beginning."""
    if start.name == "input_ids" or not all(answers):
        return start, answers
    count = 0
    while all(a[count] in special for a in answers) and len({a[count] for a in answers}) == 1:
        count += 1  # an answer ends in a word
    more = start.prompts.new_tensor([a[:count] for a in answers]).reshape(len(answers), count)
    prompts = torch.cat([start.prompts, more], 1)
    return replace(start, prompts=prompts, logits=None if count else start.logits), [a[count:] for a in answers]


def given_answer(
    answer: AnswerInput, start: Prompt, tokenizer: Tokenizer | None, vocabulary: int | None, special: frozenset[int]
) -> tuple[Prompt, list[list[int]]]:
    """An answer that the model is given, as tokens.

    Args:
        answer: a text, or a list of one a sample; token ids, (batch, steps), as a tensor or lists, those after the end being
            negative or special; or what ``generate`` returned. Ids that begin with the prompt are what ``generate`` returns too.
        start: how the model begins.
        tokenizer: of the model, or None.
        vocabulary: number of tokens that the model knows, or None.
        special: ids of special tokens.

    Raises:
        InputError: it is empty, has tokens that the model does not know, is of another number of samples, or in another form.
    """
    answer, batch = getattr(answer, "sequences", answer), len(start.prompts)
    rows: list[list[int]]
    if isinstance(answer, str) or (isinstance(answer, (list, tuple)) and answer and isinstance(answer[0], str)):
        texts = [answer] * batch if isinstance(answer, str) else list(answer)
        rows = [spelled(text, start, min(sample, batch - 1), tokenizer) for sample, text in enumerate(texts)]
    else:
        prompts = start.prompts.tolist()
        rows = [_without(prompts[n], row) if n < batch else row for n, row in enumerate(_rows(answer))]
        rows = [_to_last_word(row, special) for row in rows]
        start, rows = _leading(start, rows, special)
    if len(rows) != batch:
        raise InputError(f"there are {len(rows)} answers for {batch} samples; give one a sample")
    for sample, row in enumerate(rows):
        if not row:
            raise InputError(
                f"the answer of sample {sample} is empty: it has no tokens but special ones; give at least one word"
            )
        wrong = next((token for token in row if not 0 <= token < (vocabulary or token + 1)), None)
        if wrong is not None:
            raise InputError(
                f"the answer of sample {sample} has the id {wrong}, and the vocabulary ends at {(vocabulary or 0) - 1}"
            )
    return start, rows


def _rows(answer: object) -> list[list[int]]:
    values: object = answer.tolist() if hasattr(answer, "tolist") else answer
    if isinstance(values, (list, tuple)) and values and all(isinstance(i, int) for i in values):
        values = [values]
    good = isinstance(values, (list, tuple)) and all(
        isinstance(row, (list, tuple)) and all(isinstance(i, int) for i in row) for row in values
    )
    if not isinstance(values, (list, tuple)) or not values or not good:
        raise InputError(
            f"answer is a {type(answer).__name__}; expected a text, a list of one a sample, or token ids (batch, steps)"
        )
    return [list(row) for row in values]


def _without(prompt: list[int], row: list[int]) -> list[int]:
    return row[len(prompt) :] if len(row) > len(prompt) and row[: len(prompt)] == prompt else row


def spelled(text: str, start: Prompt, sample: int, tokenizer: Tokenizer | None, what: str = "answer") -> list[int]:
    """The tokens of a text after the prompt: with a space before it where a word would have one.

    ``what`` is told where there is no tokenizer, or it cannot make the text.
    """
    if tokenizer is None:
        raise InputError(f"the {what} is a text, but there is no tokenizer; give token ids, or a heedmap.Model")
    if start.name == "decoder_input_ids":
        ids = plain_ids(tokenizer, text, said=True)
    else:
        ids, spaced = plain_ids(tokenizer, text), plain_ids(tokenizer, f" {text}")
        if _ends_in_word(start.prompts[sample].tolist(), tokenizer) and len(spaced) <= len(ids):
            ids = spaced
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None and unknown in ids:
        pieces = " ".join(token_labels(tokenizer, ids))
        raise InputError(f"the tokenizer cannot make the {what} {text!r}: it makes {pieces} of it; choose other words")
    return ids


def _ends_in_word(ids: Sequence[int], tokenizer: Tokenizer) -> bool:
    special = special_ids(tokenizer)
    real = [i for i in ids if i not in special]
    return bool(real) and real[-1] == ids[-1] and bool(token_labels(tokenizer, real[-1:])[0].strip(WHITE))


def grown(model: nn.Module, inputs: Mapping[str, object], start: Prompt) -> dict[str, Tensor]:
    """The inputs that have a value for each token of the prompt, and one more: that of a token which is said.

    transformers' models say themselves what that is (PaliGemma's token types).

    Raises:
        InputError: positions or a mask in a form that cannot go on.
    """
    mask, inputs = mask_name(start.name), _of_prompt(inputs, start)
    per_token = {
        n: v
        for n, v in inputs.items()
        if isinstance(v, torch.Tensor) and n != start.name and _a_token_each(n, v, start)
    }
    given = get(inputs, mask)
    if given is not None and mask not in per_token:
        raise InputError(
            f"{mask} has shape {tuple(given.shape)}; expected {tuple(start.prompts.shape)}, one number a token"
        )
    make = getattr(model, "_update_model_kwargs_for_generation", None)
    if callable(make) and per_token:
        more = make({}, dict(per_token), is_encoder_decoder=start.name != "input_ids")
        if all(more[n].shape[1] == v.shape[1] + 1 for n, v in per_token.items()):
            return {n: more[n] for n in per_token}
    return {n: torch.cat([v, torch.ones_like(v[:, -1:]) if n == mask else v[:, -1:]], 1) for n, v in per_token.items()}


def _of_prompt(inputs: Mapping[str, object], start: Prompt) -> Mapping[str, object]:
    """The inputs; where the model goes on fewer tokens than it is given (BLIP leaves out the last), nothing of the others."""
    ids, count = get(inputs, start.name), start.prompts.shape[1]
    if ids is None or ids.shape[1] <= count or not torch.equal(ids[:, 1:count], start.prompts[:, 1:]):
        return inputs
    return {n: v[:, :count] if isinstance(v, torch.Tensor) and v.shape == ids.shape else v for n, v in inputs.items()}


def _a_token_each(name: str, value: Tensor, start: Prompt) -> bool:
    if "position" in name:
        raise InputError(f"{name} cannot be given with an answer: each text begins at place 0; leave it out")
    decodes = start.name == "decoder_input_ids"
    return value.shape == start.prompts.shape and name.startswith("decoder_") == decodes
