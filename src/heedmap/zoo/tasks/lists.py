"""Task: the word that belongs to a key in a list of pairs, by a causal model over words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from torch.nn.functional import cross_entropy

from heedmap.zoo.lists import KEYS, MOST, QUESTIONS, SIGNS, VALUES, list_sample, training_text
from heedmap.zoo.recipe import Batch, Processor
from heedmap.zoo.tasks import TEXTS_AT_ONCE, chunks, encoded, vocabulary, word_tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORDS = (*KEYS, *VALUES, *SIGNS)
LONGEST = 3 * MOST + 3 * QUESTIONS
"""At least the tokens of the longest text."""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A token a word."""
    return word_tokenizer(WORDS)


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(max_position_embeddings=LONGEST, **vocabulary(WORDS), **settings))


def processors() -> Sequence[Processor]:
    """See :class:`heedmap.zoo.recipe.Task`."""
    return (tokenizer(),)


def batch(seed: int, split: str, start: int, count: int) -> Batch:
    """Texts with their answers, padded on the right; those of ``"train"`` have more questions than one."""
    samples = [list_sample(seed, split, index) for index in range(start, start + count)]
    texts = [training_text(sample) if split == "train" else f"{sample.text} {sample.answer}" for sample in samples]
    return encoded(tokenizer(), texts, padding_side="right")


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the answers, and of nothing else: the list itself is random."""
    return cross_entropy(*_answers(model, batch))


def scores(model: nn.Module, seed: int, split: str, count: int) -> dict[str, float]:
    """``accuracy``: share of questions whose answer is the most probable of all words."""
    right = 0
    for start, length in chunks(count, TEXTS_AT_ONCE):
        logits, answers = _answers(model, batch(seed, split, start, length))
        right += int((logits.argmax(-1) == answers).sum())
    return {"accuracy": right / count}


def _answers(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits, (questions, words), at the keys that are asked for, and the words that follow them."""
    ids = batch["input_ids"]
    asked = ids[:, :-2] == tokenizer().convert_tokens_to_ids("?")  # its key comes next, and then its value
    return model(**batch).logits[:, 1:-1][asked], ids[:, 2:][asked]
