"""Task: the word that belongs to a key in a list of pairs, by a causal model over words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from heedmap.zoo.lists import KEYS, MOST, SIGNS, VALUES, list_sample
from heedmap.zoo.task import Batch
from heedmap.zoo.tasks.tokenizers import SPECIAL, word_tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

WORDS = (*KEYS, *VALUES, *SIGNS)
LONGEST = 3 * MOST + 3
"""Tokens of the longest text, with its answer."""
AT_ONCE = 250


@cache
def tokenizer() -> Any:
    """A token a word."""
    return word_tokenizer(WORDS)


def model(settings: Mapping[str, Any], before: nn.Module | None) -> nn.Module:
    """See :class:`heedmap.zoo.task.Task`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(SPECIAL) + len(WORDS), n_positions=LONGEST, **ids, **settings))


def processors() -> Sequence[Any]:
    """See :class:`heedmap.zoo.task.Task`."""
    return (tokenizer(),)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """The texts, padded on the right, the position of ``->`` and the answer's id for each."""
    samples = [list_sample(seed, split, index) for index in range(start, start + count)]
    made = tokenizer()([sample.text for sample in samples], padding=True, padding_side="right", return_tensors="pt")
    answers = torch.tensor(tokenizer().convert_tokens_to_ids([sample.answer for sample in samples]))
    mask = made["attention_mask"]
    return {"input_ids": made["input_ids"], "attention_mask": mask, "last": mask.sum(1) - 1, "answer": answers}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the answer, and of nothing else: the list itself is random."""
    return cross_entropy(_logits(model, batch), batch["answer"])


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of questions whose answer is the most probable of all words."""
    right = 0
    for start in range(0, count, AT_ONCE):
        given = batch(seed, split, start, min(AT_ONCE, count - start))
        right += int((_logits(model, given).argmax(-1) == given["answer"]).sum())
    return {"accuracy": right / count}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits[torch.arange(len(logits)), batch["last"]]
