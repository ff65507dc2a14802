"""Task: the value of each key of a list of pairs, as its label, by a model that sees the whole text.

It is the task of :mod:`heedmap.zoo.tasks.lists` for a model that is not causal: a key has its value as its label, in the question
as in the list, where it stands beside it; all other tokens have ``O``, none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from heedmap.zoo.lists import VALUES, list_sample, questions
from heedmap.zoo.recipe import Batch
from heedmap.zoo.tasks import TEXTS_AT_ONCE, chunks, class_names, encoded, vocabulary
from heedmap.zoo.tasks.lists import LONGEST, WORDS, processors, tokenizer

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor, nn
    from transformers import PreTrainedModel

__all__ = ["batch", "loss", "model", "processors", "scores"]

LABELS = ("O", *VALUES)
PADDING = -100


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import ConvBertConfig, ConvBertForTokenClassification

    sizes = {"max_position_embeddings": LONGEST, **vocabulary(WORDS)}
    return ConvBertForTokenClassification(ConvBertConfig(**sizes, **class_names(LABELS), **settings))


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Texts, padded on the right, and the label of each token; those of ``"train"`` have more questions than one."""
    samples = [list_sample(seed, split, index) for index in range(start, start + count)]
    asked = [questions(sample)[: None if split == "train" else 1] for sample in samples]
    texts = [
        sample.text + "".join(f" ? {key}" for key, _ in more) for sample, (_, *more) in zip(samples, asked, strict=True)
    ]
    made = encoded(tokenizer(), texts, padding_side="right")
    labels = torch.where(made["attention_mask"] > 0, 0, PADDING)
    for row, (sample, more) in enumerate(zip(samples, asked, strict=True)):
        listed, told = 3 * len(sample.pairs), [LABELS.index(value) for _, value in (*sample.pairs, *more)]
        labels[row, :listed:3] = torch.tensor(told[: len(sample.pairs)])
        labels[row, listed : listed + 2 * len(more) : 2] = torch.tensor(told[len(sample.pairs) :])
    return {**made, "labels": labels}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the keys, and of all tokens."""
    logits, labels = _logits(model, batch).flatten(0, 1), batch["labels"].flatten()
    told = labels > 0
    return cross_entropy(logits[told], labels[told]) + cross_entropy(logits, labels, ignore_index=PADDING)


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of questions whose key is labelled rightly; ``exact``: of texts whose every token is."""
    answers, whole = [], []
    for start, length in chunks(count, TEXTS_AT_ONCE):
        made = batch(seed, split, start, length)
        labels: Int64[Tensor, "batch tokens"] = made["labels"]
        right = _logits(model, made).argmax(-1) == labels
        answers.append(right.gather(1, made["attention_mask"].sum(1, keepdim=True) - 1))
        whole.append((right | (labels == PADDING)).all(1))
    return {"accuracy": float(torch.cat(answers).float().mean()), "exact": float(torch.cat(whole).float().mean())}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
