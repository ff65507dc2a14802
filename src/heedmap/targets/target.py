"""What a target is: it chooses the scalar per sample that is explained.

A target is called inside the recorder with the model's output, so that what it reads is known without being told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heedmap.data.segments import Top, of_sample
from heedmap.errors import TargetError
from heedmap.outputs import Context

OneOrEach = int | str | tuple[int | str | None, ...] | list[int | str | None] | None
"""An index or a name; for each sample its own in a sequence; None: the one that the model holds most probable."""


@dataclass(frozen=True)
class Chosen:
    """What a target made of one output.

    Attributes:
        values: (batch,), the scalars to explain, still attached to the graph.
        words: what each is.
        prediction: (batch,) top class of each sample, where there are classes.
        again: another output of the same model → its values for the same classes, queries and tokens; None: the target
            chooses nothing, so that choosing again is the same.
        top: the most probable answers, where there are classes.
        names: of the prediction, where the model's label names are not what it is called by (tokens).
        box: (batch, 4), x1 y1 x2 y2 as shares of what the model saw: of the object that is explained, where there is one.
    """

    values: Float[Tensor, " batch"]
    words: tuple[str, ...]
    prediction: Int[Tensor, " batch"] | None = None
    again: Callable[[object], Float[Tensor, " batch"]] | None = None
    top: Top | None = None
    names: tuple[str, ...] | None = None
    box: Float[Tensor, "batch 4"] | None = None

    def sample(self, index: int) -> Chosen:
        """The same of one sample, as of a batch of one; without ``again``."""
        alone = of_sample(self, index, "values", "words", "prediction", "names", "box")
        return replace(alone, again=None, top=None if self.top is None else self.top.sample(index))


class Target(ABC):
    """Chooses one scalar per sample from a model's output.

    Examples:
        >>> import heedmap
        >>> class Margin(heedmap.targets.Target):
        ...     def choose(self, output, context):
        ...         best, second = output.logits.topk(2).values.unbind(-1)
        ...         return heedmap.targets.Chosen(best - second, ("best over second",) * len(best))
        >>> photo = heedmap.zoo_sample("vit-shapes").picture
        >>> heedmap.load("zoo/vit-shapes").explain(image=photo, target=Margin())
        Explanation(generic, batch 1, target 'best over second', image 12×12)
    """

    @abstractmethod
    def choose(self, output: object, context: Context) -> Chosen:
        """The scalars to explain, (batch,), and what they are."""


def again_of(target: Target, chosen: Chosen, context: Context) -> Callable[[object], Float[Tensor, " batch"]]:
    """The values of another output, as ``chosen`` reads them; where that says nothing, what ``target`` chooses there."""
    return chosen.again or partial(values_of, target, context)


def values_of(target: Target, context: Context, output: object) -> Float[Tensor, " batch"]:
    """What ``target`` chooses of ``output``, the values alone."""
    return target.choose(output, context).values


def per_sample(value: OneOrEach, batch: int, what: str) -> list[int | str | None]:
    """``value`` for each sample; a list or tuple must have one entry a sample."""
    if isinstance(value, (list, tuple)):
        if len(value) != batch:
            raise TargetError(f"{len(value)} {what} targets for a batch of {batch}; give one for each sample, or one")
        return list(value)
    return [value] * batch


def at(values: Tensor, place: Tensor) -> Tensor:
    """Of each sample the entry at its ``place``: of (batch, places, …), with places (batch,), a tensor (batch, …)."""
    return values[torch.arange(len(values), device=values.device), place.to(values.device)]


def in_range(index: int, size: int, what: str) -> int:
    """``index`` counted from 0; TargetError where it is out of range."""
    if not -size <= index < size:
        raise TargetError(f"{what} {index} is out of range: there are {size}, 0 to {size - 1}")
    return index % size
