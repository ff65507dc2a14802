"""Samples of the models that read text alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from heedmap.evaluate.answer import inputs_of, tokenizer_of
from heedmap.outputs import class_logits
from heedmap.zoo.dates import ISO, DateSample, date_sample
from heedmap.zoo.lists import ListSample, list_sample
from heedmap.zoo.samples.sample import SEED, SPLIT, Evidence, KnownAnswer, Material, ZooSample

if TYPE_CHECKING:
    from heedmap.models.model import Model


def _date(index: int) -> ZooSample[DateSample]:
    sample = date_sample(SEED, SPLIT, index)
    return ZooSample({"text": sample.text}, sample.iso, sample, begun=sample.iso)


def _date_inputs(subject: Model, samples: Sequence[ZooSample[DateSample]]) -> Mapping[str, object]:
    """The decoder is given the right date, as it says it by itself where it is right."""
    begun = tokenizer_of(subject)([sample.begun for sample in samples], add_special_tokens=False, return_tensors="pt")
    ids = begun["input_ids"]
    start = ids.new_full((len(ids), 1), int(getattr(subject.config, "decoder_start_token_id", 0)))
    return inputs_of(subject, samples, decoder_input_ids=torch.cat([start, ids], 1))


def _date_asked(subject: Model, samples: Sequence[ZooSample[DateSample]], output: object) -> list[list[KnownAnswer]]:
    """The last digits of year, month and day, of dates that are right in every character."""
    written = tokenizer_of(subject).batch_decode(class_logits(output, 3).argmax(-1), skip_special_tokens=True)
    pairs = zip(samples, written, strict=True)
    return [_digits(subject, sample) if text == sample.answer else [] for sample, text in pairs]


def _digits(subject: Model, sample: ZooSample[DateSample]) -> list[KnownAnswer]:
    asked = []
    for part, (_, end) in ISO.items():
        position = end - 1
        token = tokenizer_of(subject).convert_tokens_to_ids(sample.answer[position])
        title = f"the {part}: {sample.answer[:position]}[{sample.answer[position]}]{sample.answer[end:]}"
        asked.append(KnownAnswer(title, (position, token), Evidence(words=(sample.truth.spans[part],))))
    return asked


def said_of_date(subject: Model, sample: ZooSample[DateSample], index: int) -> tuple[int, int]:
    """The place and the token of the last digit of the year, the month or the day, each in turn."""
    digits = _digits(subject, sample)
    place, token = digits[index % len(digits)].place
    return place, token


def _list(index: int) -> ZooSample[ListSample]:
    sample = list_sample(SEED, SPLIT, index)
    return ZooSample({"text": sample.text}, sample.answer, sample)


def _list_asked(subject: Model, samples: Sequence[ZooSample[ListSample]], output: object) -> list[list[KnownAnswer]]:
    """What is said at the last word, where it is right: the next word, or the label that it is given."""
    asked = []
    for row, sample in enumerate(samples):
        last, token = said_of_list(subject, sample, row)
        right = int(class_logits(output, 3)[row, last].argmax()) == token
        words = [match.span() for match in re.finditer(r"\S+", sample.inputs["text"])]
        evidence = Evidence(words=(words[sample.truth.key], words[sample.truth.value]))
        asked.append([KnownAnswer(f"the answer: {sample.answer}", (last, token), evidence)] if right else [])
    return asked


def said_of_list(subject: Model, sample: ZooSample[ListSample], index: int) -> tuple[int, int]:
    """The place of the last word, and the token that follows it, or its label."""
    labels = {name: index for index, name in subject.class_names.items()}
    if sample.answer in labels:
        return sample.truth.query, labels[sample.answer]
    return sample.truth.query, tokenizer_of(subject).convert_tokens_to_ids(sample.answer)


DATES = Material(
    about=(
        "An encoder–decoder writes a date in ISO 8601, digit by digit. Each digit of the year, the month and the day "
        "has its own place in what was written; the last digit of each is explained."
    ),
    make=_date,
    ask=_date_asked,
    shown=17,
    inputs=_date_inputs,
)

LISTS = Material(
    about=(
        "A causal language model reads pairs and a key, and its next word is the value of that key. The true evidence "
        "is that value and the key before it; the other pairs tell nothing."
    ),
    make=_list,
    ask=_list_asked,
    shown=8,
)

LABELLED_LISTS = replace(
    LISTS,
    about=(
        "A model that sees the whole text reads pairs and a key, and labels the last word with the value of that key. The true "
        "evidence is that value and the key before it; the other pairs tell nothing."
    ),
)
