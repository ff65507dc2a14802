"""A long answer in parts: what comes after a part is not given in its pass, since no token hears those after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from heedmap.common.progress import Progress
from heedmap.engine.stepwise import SaidTokens, Stepwise
from heedmap.errors import AttentionError
from heedmap.models.forced import Forced

if TYPE_CHECKING:
    from torch import Tensor

PASSES = 8
"""As much as so many steps cost the forward pass of a part, and what is done once in it."""


def in_parts(
    whole: Forced,
    said: SaidTokens,
    progress: Progress,
    explained: Callable[[Mapping[str, object], SaidTokens, Progress], Stepwise],
) -> Stepwise:
    """The steps of an answer, part by part.

    Args:
        whole: the inputs with the whole answer.
        said: the whole answer.
        progress: is told of all steps.
        explained: (inputs, answer, progress) of one part → its steps; see :func:`heedmap.engine.stepwise.explain_steps`.
    """
    steps, shortest = said.tokens.shape[1], int((said.tokens >= 0).sum(1).min())
    ends = parts(whole.start, steps) if whole.name == "input_ids" else [steps]
    ends = [*(end for end in ends[:-1] if end < shortest), steps]  # each sample says something in each part
    explained_parts: list[Stepwise] = []
    for start, end in reversed(
        list(zip([0, *ends], ends, strict=False))
    ):  # what is proved of the longest holds for all
        length = whole.length(end)

        def tell(done: int, _: int, before: int = steps - end) -> None:
            progress(before + done, steps)

        explained_parts.insert(0, explained(whole.up_to(length), said.part(start, end, length), tell))
    return explained_parts[0] if len(explained_parts) == 1 else _joined(explained_parts)


def parts(prompt: int, steps: int) -> list[int]:
    """After which steps the parts end, so that the least is computed: a step costs as much as its pass has tokens."""

    def cost(ends: Sequence[int]) -> int:
        return sum((end - start + PASSES) * (prompt + end) for start, end in zip([0, *ends], ends, strict=False))

    def equal(count: int) -> list[int]:
        return [steps * (n + 1) // count for n in range(count)]

    return min(map(equal, range(1, max(2, steps // PASSES + 1))), key=cost)


def _joined(explained_parts: Sequence[Stepwise]) -> Stepwise:
    """The steps of all parts, over the tokens of the last one.

    Raises:
        AttentionError: ``auto`` chose other methods for other parts.
    """
    methods = sorted({part.first.method for part in explained_parts})
    if len(methods) > 1:
        raise AttentionError(
            f"parts of the answer can have {' or '.join(methods)} only, so the choice is not one; name a method"
        )
    tokens = {name: relevance.shape[2] for name, relevance in explained_parts[-1].relevance.items()}

    def over_all(name: str) -> Tensor:
        of_parts = (part.relevance[name] for part in explained_parts)
        return torch.cat([F.pad(rows, (0, tokens[name] - rows.shape[2])) for rows in of_parts], 1)

    return replace(
        explained_parts[-1],
        relevance={name: over_all(name) for name in tokens},
        scores=torch.cat([part.scores for part in explained_parts], 1),
        probabilities=torch.cat([part.probabilities for part in explained_parts], 1),
        best=torch.cat([part.best for part in explained_parts], 1),
        best_probabilities=torch.cat([part.best_probabilities for part in explained_parts], 1),
    )
