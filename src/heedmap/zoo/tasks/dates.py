"""Task: from a date as people write it to ISO 8601, by an encoder-decoder that reads and writes characters."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from heedmap.zoo.dates import DateSample, date_sample
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks.tokenizers import SPECIAL, character_tokenizer, encoded

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import BartForConditionalGeneration, PreTrainedModel, PreTrainedTokenizerFast

CHARACTERS = string.digits + string.ascii_letters + " .,-/':"
AT_ONCE = 250
LONGEST = 64


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Of source and target alike."""
    return character_tokenizer(CHARACTERS)


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=len(SPECIAL) + len(CHARACTERS),
        max_position_embeddings=LONGEST,
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
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
    samples = [date_sample(seed, split, index) for index in range(start, start + count)]
    labels = tokenizer()([sample.iso for sample in samples], return_tensors="pt")["input_ids"]
    return {**_inputs(samples), "labels": labels}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return model(**batch).loss


def scores(model: BartForConditionalGeneration, seed: int, split: str, count: int) -> dict[str, float]:
    """``exact``: share of dates that are right in every character, written by greedy search."""
    right = 0
    for samples in _chunks(seed, split, count):
        written = model.generate(**_inputs(samples), do_sample=False, num_beams=1, max_new_tokens=12)
        texts = tokenizer().batch_decode(written, skip_special_tokens=True)
        right += sum(text == sample.iso for text, sample in zip(texts, samples, strict=True))
    return {"exact": right / count}


def _inputs(samples: Sequence[DateSample]) -> dict[str, Tensor]:
    return encoded(tokenizer(), [sample.text for sample in samples])


def _chunks(seed: int, split: str, count: int) -> Iterator[list[DateSample]]:
    for start in range(0, count, AT_ONCE):
        yield [date_sample(seed, split, index) for index in range(start, min(start + AT_ONCE, count))]
