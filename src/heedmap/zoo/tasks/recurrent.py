"""Task: the word that belongs to a key in a list of pairs, by a causal model of recurrences, with attention or without.

Data, loss and scores are those of :mod:`heedmap.zoo.tasks.lists`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from heedmap.errors import UnknownNameError
from heedmap.zoo.tasks.lists import LONGEST, WORDS, batch, loss, processors, scores
from heedmap.zoo.tasks.tokenizers import SPECIAL

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["batch", "loss", "model", "processors", "scores"]


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`; the setting ``family`` is ``"bamba"`` or ``"mamba2"``."""
    sizes = dict(settings)
    family = sizes.pop("family")
    if family not in FAMILIES:
        raise UnknownNameError(f"no family is called {family!r}; known families: {', '.join(FAMILIES)}")
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return FAMILIES[family]({"vocab_size": len(SPECIAL) + len(WORDS), **ids, **sizes})


def _bamba(settings: Mapping[str, object]) -> PreTrainedModel:
    from transformers import BambaConfig, BambaForCausalLM

    return BambaForCausalLM(BambaConfig(max_position_embeddings=LONGEST, **settings))


def _mamba2(settings: Mapping[str, object]) -> PreTrainedModel:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return Mamba2ForCausalLM(Mamba2Config(**settings))


FAMILIES = {"bamba": _bamba, "mamba2": _mamba2}
