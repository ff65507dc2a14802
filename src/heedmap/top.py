"""How probable a model holds its answers: part of an Explanation, plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

MOST = 5


@dataclass(frozen=True, eq=False)
class Top:
    """The most probable answers of each sample.

    Attributes:
        labels: for each sample the names of its most probable answers, most probable first.
        probabilities: (batch, answers), float32: of these.
        target: (batch,), float32: of the answer that is explained.
        function: what made probabilities of the scores: ``"softmax"`` (one answer is right) or ``"sigmoid"`` (each by
            itself).
    """

    labels: tuple[tuple[str, ...], ...]
    probabilities: Float[Tensor, "batch answers"]
    target: Float[Tensor, " batch"]
    function: str


def ranked(
    logits: Float[Tensor, "batch classes"],
    picked: Int[Tensor, " batch"],
    name: Callable[[int], str],
    *,
    exclusive: bool = True,
    most: int = MOST,
) -> Top:
    """The ``most`` most probable classes of each sample, and how probable the picked one is.

    Args:
        logits: scores of all classes.
        picked: the class that is explained.
        name: class index → its name.
        exclusive: whether one class is right (softmax) or each by itself (sigmoid).
        most: how many to keep, fewer where there are fewer classes.
    """
    scores = logits.detach().float()
    probabilities = (scores.softmax(-1) if exclusive else scores.sigmoid()).cpu()
    best = probabilities.topk(min(most, probabilities.shape[-1]), -1)
    target = probabilities.gather(1, picked.cpu()[:, None])[:, 0]
    labels = tuple(tuple(map(name, row)) for row in best.indices.tolist())
    return Top(labels, best.values.contiguous(), target, "softmax" if exclusive else "sigmoid")
