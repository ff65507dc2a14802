"""Task: the word that belongs to a key in a list of pairs, by a causal model of recurrences with attention between them.

Data, loss and scores are those of :mod:`heedmap.zoo.tasks.lists`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from heedmap.zoo.tasks.lists import LONGEST, WORDS, batch, loss, processors, scores
from heedmap.zoo.tasks.tokenizers import SPECIAL

if TYPE_CHECKING:
    from torch import nn

__all__ = ["batch", "loss", "model", "processors", "scores"]


def model(settings: Mapping[str, Any], before: nn.Module | None) -> nn.Module:
    """See :class:`heedmap.zoo.recipe.Task`."""
    from transformers import BambaConfig, BambaForCausalLM

    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    size = len(SPECIAL) + len(WORDS)
    return BambaForCausalLM(BambaConfig(vocab_size=size, max_position_embeddings=LONGEST, **ids, **settings))
