"""Task: from a date as people write it to ISO 8601, by an encoder-decoder that reads and writes characters."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from heedmap.zoo.dates import DateSample, date_sample
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import TEXTS_AT_ONCE, character_tokenizer, chunks, encoded, vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BartForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerFast

CHARACTERS = string.digits + string.ascii_letters + " .,-/':"
LONGEST = 64


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Of source and target alike."""
    return character_tokenizer(CHARACTERS)


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        max_position_embeddings=LONGEST,
        decoder_start_token_id=1,
        **vocabulary(CHARACTERS),
        forced_eos_token_id=None,
        **settings,
    )
    bart = BartForConditionalGeneration(config)
    bart.generation_config.max_length = None  # generate is told how many new tokens
    return bart


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (tokenizer(),)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """See :class:`heedmap.zoo.recipe.Task`."""
    samples = _samples(seed, split, start, count)
    labels = tokenizer()([sample.iso for sample in samples], return_tensors="pt")["input_ids"]
    return {**_inputs(samples), "labels": labels}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return model(**batch).loss


def scores(model: BartForConditionalGeneration, seed: int, split: str, count: int) -> dict[str, float]:
    """``exact``: share of dates that are right in every character, written by greedy search."""
    right = 0
    for start, length in chunks(count, TEXTS_AT_ONCE):
        samples = _samples(seed, split, start, length)
        written = model.generate(**_inputs(samples), do_sample=False, num_beams=1, max_new_tokens=12)
        texts = tokenizer().batch_decode(written, skip_special_tokens=True)
        right += sum(text == sample.iso for text, sample in zip(texts, samples, strict=True))
    return {"exact": right / count}


def _inputs(samples: Sequence[DateSample]) -> dict[str, Tensor]:
    return encoded(tokenizer(), [sample.text for sample in samples])


def _samples(seed: int, split: str, start: int, count: int) -> list[DateSample]:
    return [date_sample(seed, split, index) for index in range(start, start + count)]
