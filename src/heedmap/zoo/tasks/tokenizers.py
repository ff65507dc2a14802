"""What the tasks on words share: tokenizers that transformers loads from a folder by itself, and heads that do not learn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SPECIAL = (PAD, START, END, UNKNOWN)
"""The first tokens of every vocabulary: their ids are 0 to 3."""


def character_tokenizer(characters: str) -> PreTrainedTokenizerFast:
    """A token for each character, and ``</s>`` at the end: token i is character i of the text."""
    tokenizer = _tokenizer(tuple(characters))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(f"$A {END}", None, [(END, SPECIAL.index(END))])
    tokenizer.decoder = decoders.Fuse()
    return _wrapped(tokenizer)


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A token for each word; words are what stands between spaces."""
    tokenizer = _tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrapped(tokenizer)


def question_tokenizer(words: Sequence[str], longest: int) -> BertTokenizer:
    """``[CLS] question [SEP]``, a token a word or sign, as BERT's tokenizer makes it of a vocabulary of whole words.

    Args:
        words: the vocabulary, of which the first ones are BERT's special tokens; the position is the id.
        longest: tokens of the longest question.
    """
    from transformers import BertTokenizer

    ids = {word: index for index, word in enumerate(words)}
    return BertTokenizer(vocab=ids, model_max_length=longest, clean_up_tokenization_spaces=False)


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options: object) -> dict[str, Tensor]:
    """Ids and mask of some texts, padded to the longest; ``options`` as for the tokenizer."""
    tensors = tokenizer(list(texts), padding=True, return_tensors="pt", **options)
    return {name: tensors[name] for name in ("input_ids", "attention_mask")}


def _tokenizer(words: Sequence[str]) -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    return Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": PAD, "bos_token": START, "eos_token": END, "unk_token": UNKNOWN}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **names)


@cache
def fixed_head(width: int, amount: int) -> Float[Tensor, "width amount"]:
    """A random matrix, always the same: a state of ``width`` numbers, times it, gives ``amount`` numbers."""
    return torch.randn(width, amount, generator=torch.Generator().manual_seed(0)) / width**0.5
