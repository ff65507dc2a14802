"""Task: the word that belongs to a key in a list of pairs, by a causal model of recurrences, with attention or without.

Data, loss and scores are those of :mod:`heedmap.zoo.tasks.lists`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from heedmap.zoo.tasks import family_of, vocabulary
from heedmap.zoo.tasks.lists import LONGEST, WORDS, batch, loss, processors, scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["batch", "loss", "model", "processors", "scores"]


def model(settings: Mapping[str, object], before: PreTrainedModel | None) -> PreTrainedModel:
    """See :class:`heedmap.zoo.recipe.Task`; the setting ``family`` is ``"bamba"`` or ``"mamba2"``."""
    made, sizes = family_of(settings, FAMILIES)
    return made({**vocabulary(WORDS), **sizes})


def _bamba(settings: Mapping[str, object]) -> PreTrainedModel:
    from transformers import BambaConfig, BambaForCausalLM

    return BambaForCausalLM(BambaConfig(max_position_embeddings=LONGEST, **settings))


def _mamba2(settings: Mapping[str, object]) -> PreTrainedModel:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return Mamba2ForCausalLM(Mamba2Config(**settings))


FAMILIES = {"bamba": _bamba, "mamba2": _mamba2}
